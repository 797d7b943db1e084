"""Values for trials that say what they want as they run, as Optuna's objectives do: proposed call by call.

Random values are those that a space with the same names and ranges would be drawn: they depend on the seed, the name,
the range and the number of the trial, and not on the order of the calls. Other samplers propose as they do in Optuna:
what all trials so far have in common together, the rest each by itself. They know the trials of the stages before, too,
as those of any stage do (`stages.earlier_trials`), with the ranges from which this stage draws the same calls.
"""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from hpsearch.analysis import attributes
from hpsearch.config import Range, StageConfig
from hpsearch.config.metric import ACCURACY, Metric
from hpsearch.config.ranges import freeze
from hpsearch.errors import ConfigError
from hpsearch.space import format_range, from_optuna, from_optuna_value, to_optuna, to_optuna_value
from hpsearch.stages.earlier_trials import EarlierTrial
from hpsearch.stages.proposals import Mirror
from hpsearch.stages.samplers import suggest
from hpsearch.stages.told_failures import as_complete, common_distributions
from hpsearch.storage import TrialRow

if TYPE_CHECKING:
    import optuna

NOT_IN_ADVANCE = ("qmc", "grid")  # samplers whose points need all ranges before the first trial


class SuggestingMirror(Mirror):
    """A stage whose trials have the ranges of their calls.

    Args: as of `Mirror`, without a space.
    """

    def __init__(
        self,
        name: str,
        settings: StageConfig,
        trials: Sequence[TrialRow],
        *,
        metric: Metric = ACCURACY,
        earlier: Sequence[EarlierTrial] = (),
    ) -> None:
        self._begun: dict[int, optuna.Trial] = {}
        self._proposed: dict[int, dict[str, Any]] = {}
        self._named = (settings.sampler, settings.seed)
        super().__init__(name, {}, settings, trials, metric=metric, earlier=earlier)
        # CMA-ES searches what all trials that it knows have in common, and starts from one of them; of those of this
        # stage none may be there yet.
        if self._sampler is not None:
            self._sampler = (*self._sampler[:2], self._best_params(()))
        self._earlier_ranges: dict[str, set[Range]] = {}
        for trial in earlier:
            for param, range_ in trial.ranges.items():
                self._earlier_ranges.setdefault(param, set()).add(range_)

    @override
    def learn(self, trials: Sequence[TrialRow], mine: Collection[int] = ()) -> None:
        """As `Mirror.learn`; also what has been proposed for trials and not been asked for yet."""
        super().learn(trials, mine)
        for row in trials:
            if row.number not in mine and (proposed := proposed_for(row.attrs)):
                self._proposed[row.number] = proposed
                if row.state == "RUNNING" and not row.params:
                    self.adopt(row.number, {})

    @override
    def _told(self, trials: list[optuna.trial.FrozenTrial]) -> list[optuna.trial.FrozenTrial]:
        """Trials that run have what was proposed for them: a Gaussian process keeps away from what others try."""
        told = super()._told(self._without_early_explosions(trials))
        return [trial if trial.state.is_finished() else self._as_proposed(trial) for trial in told]

    def _without_early_explosions(self, trials: list[optuna.trial.FrozenTrial]) -> list[optuna.trial.FrozenTrial]:
        """Those that exploded before their code asked for all have what was proposed for them, or are left out.

        Told with less, none of what others ask for would be proposed together from then on.
        """
        import optuna

        complete = [trial for trial in trials if trial.state == optuna.trial.TrialState.COMPLETE]
        valued = [trial for trial in complete if trial.number not in self._exploded]
        if not self._exploded or not valued:
            return [trial for trial in trials if trial.number not in self._exploded]
        common = common_distributions(valued)
        all_asked = [
            as_complete(self._as_proposed(trial), common) if trial.number in self._exploded else trial
            for trial in trials
        ]
        return [trial for trial in all_asked if trial is not None]

    @override
    def _as_tried(self, trial: optuna.trial.FrozenTrial) -> optuna.trial.FrozenTrial:
        return self._as_proposed(trial)

    def _as_proposed(self, trial: optuna.trial.FrozenTrial) -> optuna.trial.FrozenTrial:
        """The trial with all that was proposed for it, whether its code has asked for that or not."""
        values = {name: to_optuna_value(value) for name, value in self._proposed.get(trial.number, {}).items()}
        trial = copy.copy(trial)
        trial.params = {**values, **trial.params}
        return trial

    @override
    def _take_up(self, trial: TrialRow) -> None:
        for name, value in trial.params.items():
            with contextlib.suppress(ValueError):  # of code that has changed meanwhile
                self.put(trial.number, name, trial.ranges[name], value)
        self.adopt(trial.number, {})

    def put(self, number: int, name: str, range_: Range, value: Any) -> None:
        """Give a trial a value that is known."""
        distribution = to_optuna(range_)
        self.storage.set_trial_param(number, name, distribution.to_internal_repr(to_optuna_value(value)), distribution)

    def begin(self, number: int) -> None:
        """Begin a trial; it knows of those still running."""
        self._choose_sampler(number)
        self.adopt(number, {})
        self._begin_again(number)

    def propose_together(self, number: int) -> tuple[dict[str, Any], dict[str, Range]]:
        """What the sampler proposes for all that the trials so far have in common, and the ranges of these.

        None of it where it has seen too few trials, or proposes call by call.
        """
        begun = self._begun[number]
        with self._as_proposing():
            values, space = begun.relative_params, begun.relative_search_space or {}
        ranges = {name: from_optuna(space[name]) for name in values}
        return {name: from_optuna_value(ranges[name], value) for name, value in values.items()}, ranges

    def keep_proposed(self, number: int, params: Mapping[str, Any]) -> None:
        """A trial is to be given this when its code asks for it."""
        self._proposed[number] = dict(params)

    @override
    def withdraw(self, number: int) -> None:
        super().withdraw(number)
        self._begin_again(number)

    def suggest(self, number: int, name: str, range_: Range) -> Any:
        """What the sampler proposes for a call of a trial that was begun."""
        if any(not _go_together(known, range_) for known in self._earlier_ranges.get(name, ())):
            self._forget_earlier(number)  # of other choices, or another scale, Optuna takes none
        with self._as_proposing():
            return suggest(self._begun[number], name, range_)

    def _forget_earlier(self, number: int) -> None:
        """With a sampler that never knew them: theirs remember the ranges that all trials had in common."""
        self._told_earlier.forget()
        self._earlier_ranges = {}
        self.study._thread_local.cached_all_trials = None  # what the study keeps of all trials from ask to tell
        self._sampler = (*self._named, None)
        self._choose_sampler(number)
        self._begin_again(number)

    def _begin_again(self, number: int) -> None:
        """With what is known now; values that the trial has been given stay."""
        import optuna

        with self._as_proposing():
            self._begun[number] = optuna.Trial(self.study, number)

    @contextlib.contextmanager
    def _as_proposing(self) -> Any:
        import optuna

        with warnings.catch_warnings(), self._as_told():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield

    @override
    def finish(self, number: int, value: float | None, *, exploded: bool = False) -> None:
        self._begun.pop(number, None)
        super().finish(number, value, exploded=exploded)

    @override
    def fail(self, number: int) -> None:
        self._begun.pop(number, None)
        super().fail(number)


def proposed_for(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """What was proposed for a trial with these attributes before its code asked for it."""
    kept = attrs.get(attributes.PROPOSED)
    return {name: freeze(value) for name, value in kept.items()} if isinstance(kept, Mapping) else {}


def _check(first: Range, called: Range) -> None:
    from optuna.distributions import check_distribution_compatibility

    check_distribution_compatibility(to_optuna(first), to_optuna(called))


def _go_together(first: Range, called: Range) -> bool:
    try:
        _check(first, called)
    except ValueError:
        return False
    return True


def refuse_other_calls(name: str, first: Range, called: Range) -> None:
    """Whether a parameter may be called for with another range than before, by Optuna's rules.

    Raises:
        ConfigError: its kind or scale has changed, or the choices.
    """
    try:
        _check(first, called)
    except ValueError as error:
        raise ConfigError(
            f"trial.suggest_... of {name!r} asks for {format_range(called)}, where {format_range(first)} was asked for "
            f"before: {str(error).rstrip('.')}.\nAllowed: other ends of numbers; or another name."
        ) from None


def refuse_samplers_in_advance(key: str, sampler: str, objective: str) -> None:
    """Whether a sampler can propose call by call.

    Raises:
        ConfigError: its points need all ranges before the first trial.
    """
    if sampler in NOT_IN_ADVANCE:
        raise ConfigError(
            f"{key} = {sampler!r} needs all ranges before the first trial, which {objective} names as it runs.\n"
            "Allowed: random, tpe, gp, cmaes."
        )


def fixed_values(params: Mapping[str, Any], space: Mapping[str, Range]) -> dict[str, Any]:
    """Of objective.params, those that calls get: what has a range is searched."""
    return {name: value for name, value in params.items() if name not in space}
