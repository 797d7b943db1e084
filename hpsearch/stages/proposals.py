"""Proposals of Optuna's samplers, made when a trial is taken; what is drawn at a stage's creation is in `stages.drawn`.

Adaptive samplers and pruners see a mirror of the stage: an Optuna study in memory to which finished trials are told.
So each proposal costs a few milliseconds whatever the database, and CMA-ES, which keeps its state pickled beside its
trials, never reads a pickle that somebody else could have written to the database.

Samplers learn from a window of the past (`search.window`: the best 25 trials, the newest 500, those that run), so that
a proposal costs the same after 10,000 trials as after 500. Pruners see all trials.

Conditional hyperparameters (`config.conditions`): TPE proposes those that apply, each from the trials that have it. A
Gaussian process and CMA-ES need all trials in one space of one dimension: to them, and in the mirror alone, a trial has
the value of the study file, or that of the range which is nearest to it, where it has none of its own.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from hpsearch.analysis.called_again import repeats_trial
from hpsearch.analysis.study_trials import best_trial, observe
from hpsearch.config import Range, StageConfig
from hpsearch.config.conditions import ALWAYS, Conditions
from hpsearch.config.metric import ACCURACY, Metric
from hpsearch.space import to_optuna, to_optuna_value
from hpsearch.stages.earlier_trials import EarlierTrial
from hpsearch.stages.frozen_trials import EXPLODED, stand_in, with_told_values
from hpsearch.stages.learned_shift import LearnedShift
from hpsearch.stages.pruners import make_pruner, why_stopped
from hpsearch.stages.sampler_knowledge import NUM_UNTOLD
from hpsearch.stages.samplers import make_sampler, suggest
from hpsearch.stages.told_calls import ToldCalls
from hpsearch.stages.told_earlier import ToldEarlier
from hpsearch.stages.told_failures import told_failures
from hpsearch.stages.told_pruned import with_told_pruned
from hpsearch.storage import State, TrialRow, is_paused, stop_of

if TYPE_CHECKING:
    import optuna

BEGUN: tuple[State, ...] = ("RUNNING", "COMPLETE", "PRUNED", "FAIL")  # states of trials that the mirror learns of


class Mirror:
    """The stage as Optuna's samplers and pruners see it: in memory, with the same name and trial numbers.

    Args:
        name: of the study.
        space: what is searched.
        settings: of the stage.
        trials: all of them; those that have begun are learnt of.
        windowed: whether samplers see a window of the past, or all of it.
        metric: what the values are.
        conditions: under which hyperparameters are searched.
        earlier: trials of the stages before, which samplers learn from as well.
    """

    def __init__(
        self,
        name: str,
        space: Mapping[str, Range],
        settings: StageConfig,
        trials: Sequence[TrialRow],
        *,
        windowed: bool = True,
        metric: Metric = ACCURACY,
        conditions: Conditions = ALWAYS,
        earlier: Sequence[EarlierTrial] = (),
    ) -> None:
        import optuna

        from hpsearch.stages import windowed_storage as window

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.space, self.metric = dict(space), metric
        self.distributions = {param: to_optuna(range_) for param, range_ in space.items()}
        self.conditions, self.order = conditions, conditions.in_order(space)
        self.storage = window.WindowedStorage(window.NUM_NEWEST if windowed else None, metric.direction)
        self.study = optuna.create_study(
            study_name=name,
            storage=self.storage,
            direction=metric.direction,
            sampler=make_sampler("random", 0),  # until the first proposal
            pruner=make_pruner(settings),
        )
        # These samplers learn from trials that have all hyperparameters, no others.
        self.stand_ins: dict[str, Any] = {}
        if settings.sampler in ("gp", "cmaes"):
            self.stand_ins = {name: stand_in(space[name], conditions.values[name]) for name in conditions.clauses}
        # Samplers that read COMPLETE trials alone would never learn of explosions.
        self.tells_explosions_as_complete = settings.sampler in ("gp", "cmaes")
        self._shift = LearnedShift(metric)
        self._told_earlier = ToldEarlier(
            earlier, self._shift, metric, self.distributions, self.stand_ins, self.tells_explosions_as_complete
        )
        self._sampler: tuple[str, int, dict[str, Any] | None] | None
        self._sampler = (settings.sampler, settings.seed, self._best_params(trials))
        self._tells_failures = settings.sampler == "gp"
        self.best_value: float | None = None
        """That of the best trial that is COMPLETE."""
        self.ended: set[int] = set()
        self._calls = ToldCalls()
        self._exploded: set[float] = set()
        self._untold: list[int] = []
        """Trials that failed, or ended before they reported anything: they have no value to learn from."""
        self.paused: dict[int, int] = {}
        """Trials that wait at rungs, with the epochs that they have done."""
        self.first_open = 0
        """The lowest number of a trial that has not ended: `learn` needs no trials before it."""
        self.storage.create_waiting(len(trials))
        if windowed and settings.pruner == "none":  # nobody will ask for the trials outside the window
            seen = window.in_window(trials, metric.direction)
            self.ended = {trial.number for trial in trials if trial.number not in seen and trial.state != "FAIL"}
        self.learn(trials)

    def _best_params(self, trials: Sequence[TrialRow]) -> dict[str, Any] | None:
        best = best_trial(trials, self.metric.direction)
        if best is not None:
            return {**self.stand_ins, **best.params}
        first = self._told_earlier.best
        return {**self.stand_ins, **first.params} if first is not None else None

    def learn(self, trials: Sequence[TrialRow], mine: Collection[int] = ()) -> None:
        """Take in what the past, or other workers, did: replayed through the same calls as trials of one's own.

        Args:
            trials: those that are BEGUN, from number `first_open` on; more do no harm.
            mine: numbers of the trials in this worker's hands, of which it tells itself.
        """
        for trial in sorted(trials, key=lambda row: row.number):
            if trial.state == "WAITING" or trial.number in self.ended or trial.number in mine or not trial.params:
                continue
            waits_at = stop_of(trial.attrs) if is_paused(trial.state, trial.attrs) else None
            if waits_at is not None and self.paused.get(trial.number) == waits_at:
                continue
            self._take_up(trial)
            if (of := repeats_trial(trial)) is not None:
                self.call_again(trial.number, of)
            if trial.state == "RUNNING" and waits_at is None:
                continue
            for epoch, reported in sorted(trial.intermediate.items()):
                self.report(trial.number, epoch, reported)
            if waits_at is not None:
                self.pause(trial.number, waits_at)
                continue
            if trial.state == "FAIL":
                self.fail(trial.number)
                continue
            observation = observe(trial, self.metric.direction)
            value = observation.value if trial.state == "COMPLETE" else None
            self.finish(trial.number, value, exploded=observation.outcome == "exploded")
        while self.first_open in self.ended:
            self.first_open += 1

    def _take_up(self, trial: TrialRow) -> None:
        """Begin a trial that another worker has begun."""
        self.adopt(trial.number, trial.params)

    def adopt(self, number: int, params: Mapping[str, Any]) -> None:
        """Begin a trial whose hyperparameters are known."""
        import optuna

        if self.paused.pop(number, None) is not None:
            self.storage.reopen(number)
        for name, value in {**self.stand_ins, **params}.items():
            self._set_param(number, name, value)
        self.storage.set_trial_state_values(number, optuna.trial.TrialState.RUNNING)

    def _set_param(self, number: int, name: str, value: Any) -> None:
        if (distribution := self.distributions.get(name)) is not None:
            internal = distribution.to_internal_repr(to_optuna_value(value))
            self.storage.set_trial_param(number, name, internal, distribution)

    def propose(self, number: int) -> dict[str, Any]:
        """Begin a trial with the hyperparameters that the sampler proposes; it knows of those still running."""
        import optuna

        self._choose_sampler(number)
        self.storage.set_trial_state_values(number, optuna.trial.TrialState.RUNNING)
        with warnings.catch_warnings(), self._as_told():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self.study.sampler.before_trial(self.study, self.storage.get_trial(number))
            trial = optuna.Trial(self.study, number)
            params: dict[str, Any] = {}
            for name in self.order:
                if self.conditions.applies(name, params):
                    params[name] = suggest(trial, name, self.space[name])
                elif name in self.stand_ins:
                    self._set_param(number, name, self.stand_ins[name])
            return {name: params[name] for name in self.space if name in params}

    def withdraw(self, number: int) -> None:
        """Take back what was proposed for a trial, which is to be proposed anew."""
        self.storage.clear(number)
        self.study._thread_local.cached_all_trials = None  # what the study keeps of all trials from ask to tell

    def _as_told(self) -> AbstractContextManager[None]:
        """Within it, the sampler sees what it is told: the window, and the trials of the stages before."""
        earlier = self._told_earlier.trials()
        self._exploded |= self._told_earlier.exploded
        return self.storage.narrowed(earlier, self._told if self.tells_explosions_as_complete else None)

    def _told(self, trials: list[optuna.trial.FrozenTrial]) -> list[optuna.trial.FrozenTrial]:
        """The same with values that a sampler can learn from which needs one of each."""
        trials = with_told_pruned(trials, self._as_tried, self._value_of, self._shift, self.metric)
        told = with_told_values(trials, self._value_of, self.metric.direction)
        if not self._tells_failures:
            return told
        # A Gaussian process keeps away from what runs, but a call of another trial is no place of its own.
        told = [trial for trial in told if trial.number not in self._calls and trial.number not in self._untold]
        failed = self._told_earlier.failed
        failed += [self._as_tried(self.storage.get_trial(number)) for number in self._untold[-NUM_UNTOLD:]]
        told += told_failures(failed, told)
        return sorted(told, key=lambda trial: trial.number)  # Optuna looks at the last ones, until one that it has seen

    def _value_of(self, trial: optuna.trial.FrozenTrial) -> float | None:
        """The mean of its calls; None where it, or one of these, exploded."""
        return None if trial.number in self._exploded else self._calls.mean(trial.number, trial.value)

    def _as_tried(self, trial: optuna.trial.FrozenTrial) -> optuna.trial.FrozenTrial:
        """One that has not come to its end, with what it tried."""
        return trial

    def _choose_sampler(self, number: int) -> None:
        """At the first proposal: no two processes may make the same ones, so each begins with a trial of its own.

        Nor may two stages of one seed: before it has learned enough, a sampler draws as its seed says.
        """
        if self._sampler is not None:
            name, seed, best = self._sampler
            begun = number + len(self._told_earlier)
            self.study.sampler = make_sampler(name, (seed + 1_000_003 * begun) % 2**31, best)
            self._sampler = None

    def call_again(self, number: int, of: int) -> None:
        """A trial calls another one again: it is never stopped, and no place of its own, which would make TPE stay.

        What it gives counts in the mean that a Gaussian process and CMA-ES are told of the other one.
        """
        self._calls.begin(number, of)

    def report(self, number: int, epoch: int, value: float) -> bool:
        """Tell the value after an epoch; returns whether the pruner would stop the trial."""
        if number in self._calls:
            return False
        self.storage.set_trial_intermediate_value(number, epoch, value)
        return self.study.pruner.prune(self.study, self.storage.get_trial(number))

    def why_stopped(self, number: int, name: str) -> str:
        """Why the pruner stops a trial: its `name`, and more where it knows more."""
        return why_stopped(self.study.pruner, number, name)

    def finish(self, number: int, value: float | None, *, exploded: bool = False) -> None:
        """End a trial: COMPLETE with a value, else PRUNED."""
        import optuna

        if number in self._calls:
            self._calls.end(number, value)
            self._end_as_failed(number)
            return
        self.ended.add(number)
        if value is None and not exploded and not self.storage.get_trial(number).intermediate_values:
            self._untold.append(number)
        if value is not None:
            self.best_value = self.metric.better(self.best_value, value)
            self._shift.learn(self.storage.get_trial(number).intermediate_values, value)
        if exploded and self.tells_explosions_as_complete:
            value = EXPLODED
            self._exploded.add(number)
        if value is not None:
            self.study.tell(number, value)
        else:
            self.study.tell(number, state=optuna.trial.TrialState.PRUNED)

    def pause(self, number: int, epoch: int) -> None:
        """A trial waits after this epoch: samplers learn of it as of one that was pruned, until it is adopted again."""
        import optuna

        self.paused[number] = epoch
        self.study.tell(number, state=optuna.trial.TrialState.PRUNED)

    def fail(self, number: int) -> None:
        """End a trial whose code raised: samplers do not learn from it, but that it was tried."""
        if number in self._calls:
            self._calls.fail(number)
        else:
            self._untold.append(number)
        self._end_as_failed(number)

    def _end_as_failed(self, number: int) -> None:
        import optuna

        self.ended.add(number)
        self.study.tell(number, state=optuna.trial.TrialState.FAIL)
