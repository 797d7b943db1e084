"""Trials of a stage that call the code again with the hyperparameters of an earlier one, to see what it is worth. Pure.

They are trials of the stage, in its budget, and each says in its attribute AGAIN which one it repeats. So they are
counted and handed out as all others. What they find is evidence about the first call, not about a place of its own.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hpsearch.analysis import attributes
from hpsearch.analysis.repeats import Repeats, mean_of_calls
from hpsearch.results import Direction, goodness
from hpsearch.storage import FINISHED, TrialRow

MAX_FAILED = 2  # calls of one trial: fewer say nothing of it, as its process may have been killed for want of memory


def repeats_trial(trial: TrialRow) -> int | None:
    """The number of the trial that this one calls again; None where it has hyperparameters of its own."""
    of = trial.attrs.get(attributes.AGAIN)
    return of if isinstance(of, int) else None


@dataclass(frozen=True)
class Called:
    """A complete trial and the calls that repeat it."""

    number: int
    first: float
    """Its own value, finite."""
    values: Mapping[int, float | None] = field(default_factory=dict)
    """Of the calls that have ended, by their numbers; None where one exploded, or MAX_FAILED of them failed.

    Fewer that failed are as if they had not been made, so that they are made once more.
    """
    num_running: int = 0

    @property
    def known(self) -> list[float]:
        """The values that there are, its own first."""
        return [self.first, *(value for value in self.values.values() if value is not None)]

    @property
    def mean(self) -> float | None:
        """Over all calls, the first one as well; None where one of them has none."""
        first, *others = self.known
        return mean_of_calls(first, others) if len(others) == len(self.values) else None


@dataclass(frozen=True)
class TriedAgain:
    """A trial of an earlier stage that led, and that this one called."""

    study: str
    """The earlier stage."""
    params: Mapping[str, Any]
    """Of the trial, as far as this stage searches them."""
    values: tuple[float | None, ...]
    """Of the calls here that have ended; None where one exploded or failed."""


def calls_of(trials: Sequence[TrialRow]) -> list[Called]:
    """The trials that have a value, each with the calls that repeat it, by number."""
    repeats: dict[int, list[TrialRow]] = {}
    for trial in trials:
        if (of := repeats_trial(trial)) is not None:
            repeats.setdefault(of, []).append(trial)
    found = []
    for trial in trials:
        if repeats_trial(trial) is None and (first := _value(trial)) is not None:
            again = repeats.get(trial.number, [])
            ended = [each for each in again if each.state in FINISHED]
            values = {each.number: _value(each) for each in _without_single_failures(ended)}
            found.append(Called(trial.number, first, values, len(again) - len(ended)))
    return sorted(found, key=lambda each: each.number)


def tried_again(trials: Sequence[TrialRow]) -> list[TriedAgain]:
    """The trials of earlier stages that were called in this one, by the numbers of their first calls.

    A call that a rung or a pruner ended says nothing of what it would have come to; nor does one that failed, unless
    MAX_FAILED of its trial did.
    """
    found: list[tuple[str, Mapping[str, Any], list[TrialRow]]] = []
    for trial in trials:
        if isinstance(study := trial.attrs.get(attributes.TRIED_IN), str):
            again = [trial, *(each for each in trials if repeats_trial(each) == trial.number)]
            same = (calls for of, params, calls in found if (of, params) == (study, trial.params))
            if (calls := next(same, None)) is not None:  # one that had failed
                calls += again
            else:
                found.append((study, trial.params, again))
    return [
        TriedAgain(study, params, tuple(_value(each) for each in _without_single_failures(_ended(calls))))
        for study, params, calls in found
    ]


def best_called_first(calls: Sequence[Called], direction: Direction) -> list[Called]:
    """By the mean over their calls, those without one last; of equals the earliest first.

    Trials of earlier stages, whose numbers are below 0, come behind equals of this one: where many share the highest
    value that there is, each of them would be called once, and none would be seen to hold.
    """

    def place(each: Called) -> tuple[bool, float, bool, int]:
        return each.mean is None, -goodness(each.mean, direction), each.number < 0, abs(each.number)

    return sorted(calls, key=place)


def best_value_of(calls: Collection[Called], direction: Direction) -> float | None:
    """The value of the best of a stage's trials, as `StudyTrials.best` has it: the mean, of those called again.

    Where all of these gave no value then, the best of the others.
    """
    held = [each for each in calls if each.values and each.mean is not None]
    others = [each for each in calls if not each.values]
    found = [each.first if each.mean is None else each.mean for each in held or others or calls]
    return max(found, key=lambda value: goodness(value, direction), default=None)


def repeats_among(trials: Sequence[TrialRow]) -> Repeats | None:
    """What the calls say of the trials that they repeat, as of trials that were trained again with other seeds.

    The seeds are the numbers of the calls. None where no call has ended.
    """
    called = [each for each in calls_of(trials) if each.values]
    if not called:
        return None
    return Repeats(
        max(len(each.values) for each in called),
        {each.number: each.first for each in called},
        {each.number: each.values for each in called},
        among_trials=True,
    )


def _ended(calls: Sequence[TrialRow]) -> list[TrialRow]:
    return [each for each in calls if each.state in FINISHED and not _is_stopped(each)]


def _without_single_failures(calls: Sequence[TrialRow]) -> list[TrialRow]:
    """Of the calls of one trial that have ended, those that say something of it."""
    others = [each for each in calls if each.state != "FAIL"]
    return list(calls) if len(calls) - len(others) >= MAX_FAILED else others


def _is_stopped(trial: TrialRow) -> bool:
    return trial.state == "PRUNED" and trial.attrs.get(attributes.REASON) != attributes.EXPLODED


def _value(trial: TrialRow) -> float | None:
    """Of a trial that came to its end with a finite one."""
    is_known = trial.state == "COMPLETE" and trial.value is not None and math.isfinite(trial.value)
    return trial.value if is_known else None
