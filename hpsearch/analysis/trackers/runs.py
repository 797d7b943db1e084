"""A study's trials as runs: what all trackers have in common. Pure."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, TypeAlias

from hpsearch.analysis.study_trials import StudyTrials, observe
from hpsearch.analysis.trial_records import trial_record
from hpsearch.results import EpochResult
from hpsearch.storage import TrialRow

Plain: TypeAlias = bool | int | float | str
RunState: TypeAlias = Literal["finished", "pruned", "exploded", "failed", "running"]
STATES: dict[str, RunState] = {"COMPLETE": "finished", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running"}
VALUE = "trial_value"


@dataclass(frozen=True)
class Run:
    """A trial that has begun."""

    number: int
    name: str
    """`coarse-7`."""
    state: RunState
    params: Mapping[str, Plain] = field(default_factory=dict)
    history: Sequence[tuple[int, Mapping[str, float]]] = ()
    """Epochs, and what was measured; may hold nan and inf."""
    value: float | None = None
    """Of the trial: that of its best epoch, or what the objective returned."""
    summary: Mapping[str, Plain] = field(default_factory=dict)
    """The value under the metric's name, and how the trial ended."""
    tags: Mapping[str, str] = field(default_factory=dict)
    traceback: str | None = None
    started: datetime | None = None
    completed: datetime | None = None
    is_best: bool = False

    @property
    def seconds(self) -> float | None:
        """From its start to its end."""
        return (self.completed - self.started).total_seconds() if self.started and self.completed else None

    @property
    def numbers(self) -> dict[str, float]:
        """Of the whole run, for trackers in which a name has the last value of its history: the value by its own."""
        names = {name for _, point in self.history for name in point}
        found = {n: float(v) for n, v in self.summary.items() if n not in names and not isinstance(v, str)}
        return found if self.value is None else {**found, VALUE: self.value}

    @property
    def digest(self) -> str:
        """Of all there is: equal where nothing has changed."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:16]

    def time_of(self, epoch: int) -> float | None:
        """Seconds since 1970 at its end, as if all epochs of the trial took as long; None where nobody knows."""
        if self.started is None:
            return None
        last = max((number for number, _ in self.history), default=epoch)
        return self.started.timestamp() + (self.seconds or 0.0) * epoch / max(1, last)


@dataclass(frozen=True)
class Exported:
    """What came of an export."""

    place: str
    new: int
    replaced: int = 0
    """Were there, and are now as the study has them."""
    unchanged: int = 0


def runs_of(evidence: StudyTrials, epochs: Mapping[int, Sequence[EpochResult]]) -> list[Run]:
    """All trials that have begun, by number.

    Args:
        evidence: the study.
        epochs: curves by trial, as `read_epochs` gives them.
    """
    best = evidence.best.number if evidence.best is not None else None
    begun = (trial for trial in evidence.trials if trial.state in STATES)
    return [_run(evidence, trial, epochs.get(trial.number, ()), is_best=trial.number == best) for trial in begun]


def study_key(evidence: StudyTrials, url: str) -> str:
    """Tells a study from others of its name, in other databases or of other days."""
    first = min((trial.started for trial in evidence.trials if trial.started), default=None)
    return hashlib.sha256(f"{url} {evidence.study.study_id} {first}".encode()).hexdigest()[:12]


def _run(evidence: StudyTrials, trial: TrialRow, epochs: Sequence[EpochResult], *, is_best: bool) -> Run:
    record, study = trial_record(trial), evidence.study.name
    exploded = observe(trial, evidence.direction).outcome == "exploded"
    column = evidence.metric.column
    state: RunState = "exploded" if exploded else STATES[trial.state]
    value = None if exploded else trial.value  # samplers are told one
    summary: dict[str, Plain | None] = {
        column: value,
        **({} if evidence.metric.is_own else evidence.measures_of(trial)),
        "best_epoch": record.best_epoch,
        "reason": record.reason,
        "stopped_at_epoch": record.epoch,
        "cost": record.cost,
        "first_cost": record.first_cost,
    }
    tags = {
        "study": study,
        "trial": str(trial.number),
        "state": state,
        "metric": evidence.metric.name,
        "direction": evidence.direction,
        "stage": evidence.record.kind,
        "from": evidence.record.source,
        "fingerprint": evidence.record.fingerprint or None,
        "reason": record.reason,
        "best": "true" if is_best else None,
    }
    return Run(
        number=trial.number,
        name=f"{study}-{trial.number}",
        state=state,
        value=value,
        params={name: plain_param(value) for name, value in trial.params.items()},
        history=_history(trial, epochs, column, trained_here=evidence.record.trained_here),
        summary={name: value for name, value in summary.items() if value is not None},
        tags={name: value for name, value in tags.items() if value is not None},
        traceback=record.traceback,
        started=trial.started,
        completed=trial.completed,
        is_best=is_best,
    )


def _history(
    trial: TrialRow, epochs: Sequence[EpochResult], column: str, *, trained_here: bool
) -> tuple[tuple[int, Mapping[str, float]], ...]:
    if not trained_here:
        return tuple((epoch, {column: value}) for epoch, value in sorted(trial.intermediate.items()))
    found = []
    for epoch in epochs:
        point = epoch.as_point()
        score = point.pop("val_score")
        found.append((int(point.pop("epoch")), {**point, column: score}))
    return tuple(found)


def plain_param(value: object) -> Plain:
    """A parameter's value as a number, true, false or text: lists as JSON, none as `none`."""
    if value is None:
        return "none"
    if isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return json.dumps(value, default=list)
