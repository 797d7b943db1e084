"""What a worker answers an objective that asks for values as it runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from hpsearch.analysis import attributes
from hpsearch.analysis.records import called_as_plain, called_ranges
from hpsearch.config import Choice, Range
from hpsearch.config.ranges import freeze
from hpsearch.config.study import thaw_all
from hpsearch.errors import ConfigError
from hpsearch.programs.messages import Suggest, Suggested
from hpsearch.space import draw_one, format_range, format_value, holds, range_from_json, searched_range
from hpsearch.space.nearness import try_the_same
from hpsearch.space.scale import choice_index
from hpsearch.stages.plan import StagePlan
from hpsearch.stages.proposals import BEGUN, Mirror
from hpsearch.stages.suggestions import SuggestingMirror, fixed_values, proposed_for, refuse_other_calls
from hpsearch.storage import ChosenParams, Queue, TrialRow, read_trials
from hpsearch.storage.system_attributes import AttrChange, change_attrs
from hpsearch.worker.held import HeldTrial
from hpsearch.worker.trial_source import MOST_PROPOSALS


class Suggestions:
    """Values for one worker's trials. Each is in the database before the code has it, so another attempt gets the same.

    Args:
        queue: of the stage.
        plan: of the stage.
        mirror: what the sampler sees, a `SuggestingMirror`; None if nothing is learnt.
        insist: asks the database until it answers.
    """

    def __init__(
        self,
        queue: Queue,
        plan: StagePlan,
        mirror: Mirror | None,
        insist: Callable[[Callable[[], Any]], Any],
    ) -> None:
        objective = plan.trial_config.objective
        assert objective is not None, "a stage of our own has ranges"
        assert mirror is None or isinstance(mirror, SuggestingMirror), "no other one proposes call by call"
        self._queue, self._plan, self._mirror, self._insist = queue, plan, mirror, insist
        self._fixed = fixed_values(objective.params, plan.space)
        self._narrowed = frozenset(objective.narrowed)
        self._called: dict[str, Range] = {}
        """By parameter, what the study keeps of the first call, of whatever worker."""

    def begin(self, trial: HeldTrial) -> None:
        """Before the code runs: the sampler learns of all trials but this one."""
        if (mirror := self._mirror) is None:
            return
        rows = self._learn(mirror, trial)
        mirror.begin(trial.lease.number)
        is_free = not trial.lease.params and attributes.ENQUEUED not in trial.lease.attrs
        if is_free and self._plan.settings.sampler == "gp":
            self._propose_apart(mirror, trial, rows)

    def _learn(self, mirror: SuggestingMirror, trial: HeldTrial) -> Sequence[TrialRow]:
        first = mirror.first_open
        rows: Sequence[TrialRow] = self._insist(
            lambda: read_trials(self._queue.db, self._queue.study, BEGUN, first_number=first)
        )
        mirror.learn(rows, mine=[trial.lease.number])
        return rows

    def _propose_apart(self, mirror: SuggestingMirror, trial: HeldTrial, rows: Sequence[TrialRow]) -> None:
        """What a Gaussian process proposes, before the code asks for it; nothing that others begin to try meanwhile.

        See `TrialSource`. Other workers see it with the trial: from the first call of the code to its last, much time
        may pass.
        """
        number = trial.lease.number
        for tries_left in reversed(range(MOST_PROPOSALS)):
            params, ranges = mirror.propose_together(number)
            if not params:
                return
            known = {row.number for row in rows if _begun_with(row)} if tries_left else None
            choose = partial(_unless_tried, params, ranges, known)
            chosen = self._insist(partial(self._queue.choose_params, trial.lease, choose, mirror.first_open))
            if chosen is not None:
                mirror.keep_proposed(number, params)
                trial.lease = chosen
                return
            mirror.withdraw(number)
            rows = self._learn(mirror, trial)

    def answer(self, trial: HeldTrial, said: Suggest) -> Suggested:
        """The value for a call of the code of a trial, or why there is none."""
        try:
            called = range_from_json(said.distribution)
            value = self._value(trial, said.name, called)
            if isinstance(called, Choice):
                return Suggested(choice_index(called, value))
            return Suggested(value)
        except ConfigError as error:
            return Suggested(wrong=str(error))
        except ValueError as error:  # of Optuna's, where [space] replaces some calls and another one has a single value
            why = str(error).rstrip(".")
            return Suggested(wrong=f"no value for a call of {said.name!r}: {why}.\nAllowed: calls of one kind.")

    def unasked(self, trial: HeldTrial) -> set[str]:
        """What the trial was given to try, and its code has not asked for."""
        return (trial.lease.attrs.get(attributes.ENQUEUED) or {}).keys() - trial.lease.params.keys()

    def _value(self, trial: HeldTrial, name: str, called: Range) -> Any:
        first = self._first_call(name, called)
        refuse_other_calls(name, first, called)
        if name in self._fixed:
            return known_value(f"objective.params.{name}", called, self._fixed[name])
        range_ = searched_range(name, called, self._plan.space.get(name), narrows=name in self._narrowed)
        is_free = name not in self._plan.space or name in self._narrowed
        allowed = called if is_free else range_
        kept, enqueued = trial.lease.params, trial.lease.attrs.get(attributes.ENQUEUED) or {}
        if name in kept:  # an earlier attempt had it
            value = kept[name]
            if isinstance(called, Choice):
                known_value(f"the kept {name}", called, value)
        elif name in enqueued:
            value = known_value(f"enqueued {name}", allowed, enqueued[name])
        elif name in (proposed := proposed_for(trial.lease.attrs)) and holds(range_, proposed[name]):
            value = proposed[name]
        elif self._mirror is not None and self._plan.settings.sampler != "random":
            value = self._mirror.suggest(trial.lease.number, name, range_)
        else:
            value = draw_one(name, range_, trial.lease.number, self._plan.settings.seed)
        range_ = range_ if holds(range_, value) else allowed
        if self._mirror is not None:
            self._mirror.put(trial.lease.number, name, range_, value)
        if name not in kept:
            self._keep(trial, name, range_, value)
        return value

    def _first_call(self, name: str, called: Range) -> Range:
        if name not in self._called:
            whole: dict[str, Any] = {}

            def decide(kept: Any) -> AttrChange | None:
                there = kept if isinstance(kept, dict) else {}
                whole.update(called_as_plain({name: called}) | there)
                return AttrChange({attributes.CALLED: whole}) if name not in there else None

            self._insist(lambda: change_attrs(self._queue.db, self._queue.study, attributes.CALLED, decide))
            self._called |= called_ranges(whole)
        return self._called.get(name, called)

    def _keep(self, trial: HeldTrial, name: str, range_: Range, value: Any) -> None:
        lease = trial.lease
        self._insist(lambda: self._queue.add_params(lease, {name: value}, {name: range_}))
        trial.lease = replace(lease, params={**lease.params, name: value})


def _begun_with(row: TrialRow) -> dict[str, Any]:
    """What a trial tries, or is about to."""
    return {**proposed_for(row.attrs), **row.params}


def _unless_tried(
    params: Mapping[str, Any], ranges: Mapping[str, Range], known: set[int] | None, rows: Sequence[TrialRow]
) -> ChosenParams | None:
    """Keeps what is proposed for a trial, but where one that was not known tries the same; None: in any case."""
    for row in rows:
        if known is not None and row.number not in known:
            other = {name: value for name, value in _begun_with(row).items() if name in ranges}
            if try_the_same(ranges, params, other):
                return None
    return ChosenParams({}, {}, {attributes.PROPOSED: thaw_all(params)})


def known_value(what: str, range_: Range, value: Any) -> Any:
    """A value that is not proposed, where it is one of the range.

    Raises:
        ConfigError: it is not.
    """
    value = freeze(value)
    if not holds(range_, value):
        raise ConfigError(
            f"{what} = {format_value(value)} is outside the range of the objective's call.\n"
            f"Allowed: {format_range(range_)}."
        )
    return value
