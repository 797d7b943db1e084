"""What a way of searching tells of its trials, and the time that a longer search would take at the same pace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import optuna


@dataclass(frozen=True)
class Ended:
    """The trials that ended, in that order. Times are seconds since 1970."""

    started: float  # when the first trial began
    ended: list[float]
    values: list[float]  # best validation accuracy of each

    @classmethod
    def of(cls, started: float, trials: Sequence[tuple[float, float]]) -> Ended:
        """From (when, value) of each trial, in any order."""
        ordered = sorted(trials)
        return cls(started, [when for when, _ in ordered], [value for _, value in ordered])


def of_study(study: optuna.Study) -> Ended:
    """All complete trials of a study; Optuna writes local times."""
    trials = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    assert trials, "no trial has finished"
    started = min(trial.datetime_start for trial in study.get_trials(deepcopy=False)).timestamp()
    return Ended.of(started, [(trial.datetime_complete.timestamp(), trial.value) for trial in trials])


def extrapolate(seconds: float, ended: Sequence[float], num_at_once: int, num_trials: int) -> float:
    """Seconds that `num_trials` trials take where `len(ended)` took `seconds`, at a pace that stays the same.

    What is paid once (start, images, the first trial of each process, the end) is not scaled: the pace is that of the
    trials after the first of each process. Where there are no more than these, their own time must do.
    """
    missing = num_trials - len(ended)
    if missing <= 0:
        return seconds
    first = min(num_at_once, len(ended)) - 1
    after = len(ended) - 1 - first
    pace = (ended[-1] - ended[first]) / after if after else seconds / len(ended)
    return seconds + missing * pace


def as_plain(ended: Ended) -> dict[str, Any]:
    return {"started": ended.started, "ended": ended.ended, "values": ended.values}
