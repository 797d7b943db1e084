"""Who is at work on a study: a few columns of each trial, cheap enough to ask for every second."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from hpsearch.storage.database import Database
from hpsearch.storage.queued_trials import RUNG, earlier_attempts, lost_attempts
from hpsearch.storage.rows import State, StudyRow
from hpsearch.storage.tables import hpsearch_leases, trial_user_attributes, trials
from hpsearch.storage.workers import is_dead


@dataclass(frozen=True, slots=True)
class Activity:
    """A trial's state, and the lease under which it runs or ran: nothing of it where another program runs it.

    `worker` is who has it in hand now; `seconds_left` of that lease is below zero when it ran out.
    """

    trial_id: int
    number: int
    state: State
    attempt: int | None
    worker: str | None
    seconds_left: float | None
    lost: int = 0
    """Attempts that were lost before it was promoted; `attempt` counts from there."""

    @property
    def silent(self) -> bool:
        """Whether the worker's lease has run out, or its process is gone from this machine."""
        ran_out = self.seconds_left is not None and self.seconds_left < 0
        return ran_out or (self.worker is not None and is_dead(self.worker))

    @property
    def is_paused(self) -> bool:
        """Whether it waits at a rung, in nobody's hands; another program's has no attempts that are counted."""
        return self.state == "RUNNING" and self.worker is None and self.attempt is not None


@dataclass(frozen=True, slots=True)
class WorkerActivity:
    """A worker (host/pid/random) and what it has in hand; `seconds_left` of the lease that runs out first."""

    worker: str
    attempts: dict[int, int]  # by trial number
    seconds_left: float

    @property
    def is_dead(self) -> bool:
        """Whether its process is gone from this machine, whatever its lease says; False where that cannot be known."""
        return is_dead(self.worker)

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        attempts = {str(number): attempt for number, attempt in self.attempts.items()}
        return {"worker": self.worker, "attempts": attempts, "lease_seconds": self.seconds_left, "dead": self.is_dead}


def read_activity(db: Database, study: StudyRow) -> list[Activity]:
    """One row per trial, by number; two short statements, which keep no writer waiting."""
    leases = hpsearch_leases.c
    columns: list[sa.ColumnElement[Any]] = [sa.null(), sa.null(), sa.null()]
    query: sa.Select[Any] = sa.select(trials.c.trial_id, trials.c.number, trials.c.state)
    if own := db.has_own_tables():
        running = trials.c.state == "RUNNING"
        columns = [
            leases.attempt,
            sa.case((running, leases.worker)),
            sa.case((running, leases.expires_at - db.now)),
        ]
    query = query.add_columns(*columns)
    if own:
        query = query.outerjoin_from(trials, hpsearch_leases, leases.trial_id == trials.c.trial_id)
    a = trial_user_attributes.c
    promoted = sa.select(a.trial_id, a.value_json).join(trials, trials.c.trial_id == a.trial_id)
    of_study = trials.c.study_id == study.study_id
    with db.read() as connection:
        rows = [Activity(*row) for row in connection.execute(query.where(of_study).order_by(trials.c.number))]
        rungs = connection.execute(promoted.where(of_study, a.key == RUNG))
        kept = {trial_id: {RUNG: json.loads(text)} for trial_id, text in rungs}
    return [_since_promoted(row, kept.get(row.trial_id, {})) for row in rows]


def _since_promoted(row: Activity, attrs: Mapping[str, Any]) -> Activity:
    """A promotion begins a new attempt, which no failure has made necessary."""
    earlier = earlier_attempts(attrs)
    if not earlier or row.attempt is None:
        return row
    return replace(row, attempt=max(1, row.attempt - earlier), lost=lost_attempts(attrs))


def workers_of(activity: Sequence[Activity]) -> list[WorkerActivity]:
    """Those who have trials in hand, by name."""
    found: dict[str, list[Activity]] = {}
    for row in activity:
        if row.worker is not None:
            found.setdefault(row.worker, []).append(row)
    return [
        WorkerActivity(
            worker, {row.number: row.attempt or 1 for row in rows}, min(row.seconds_left or 0.0 for row in rows)
        )
        for worker, rows in sorted(found.items())
    ]


def num_taken_again(activity: Sequence[Activity]) -> int:
    """Trials that needed more than one attempt."""
    return sum((row.attempt or 1) > 1 or row.lost > 0 for row in activity)
