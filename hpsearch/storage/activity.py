"""Who is at work on a study: a few columns of each trial, cheap enough to ask for every second."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from hpsearch.storage.database import Database
from hpsearch.storage.rows import State, StudyRow
from hpsearch.storage.tables import hpsearch_leases, trials


@dataclass(frozen=True, slots=True)
class Activity:
    """The state of a trial, the worker that has it in hand (None where another program runs it), and its silence."""

    trial_id: int
    number: int
    state: State
    worker: str | None
    silent: bool  # the worker's lease has run out: it is gone, or away


def read_activity(db: Database, study: StudyRow) -> list[Activity]:
    """One row per trial, by number; a single statement, which keeps no writer waiting."""
    own = db.has_own_tables()
    lease = (hpsearch_leases.c.worker, hpsearch_leases.c.expires_at < db.now) if own else (sa.null(), sa.null())
    query = sa.select(trials.c.trial_id, trials.c.number, trials.c.state, *lease)
    if own:
        held = (hpsearch_leases.c.trial_id == trials.c.trial_id) & (trials.c.state == "RUNNING")
        query = query.outerjoin_from(trials, hpsearch_leases, held)
    with db.read() as connection:
        rows = connection.execute(query.where(trials.c.study_id == study.study_id).order_by(trials.c.number))
        return [
            Activity(trial_id, number, state, worker, bool(silent)) for trial_id, number, state, worker, silent in rows
        ]
