"""Leases in SQL: who may write to a trial. Every function runs inside the transaction of its caller.

On SQLite there is one writer at a time. On Postgres a transaction locks the rows of its trials first, in the order of
their ids, and reads the leases in a second statement: under READ COMMITTED, a statement that waited for a lock sees
the new version of the locked rows alone.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from hpsearch.storage.tables import (
    FINISHED,
    hpsearch_epochs,
    hpsearch_leases,
    trial_intermediate_values,
    trial_user_attributes,
    trials,
)

STRUCTURE = "structure"  # the trial attribute that says which trials can train in one pack


@dataclass(frozen=True, slots=True)
class Lease:
    """A worker's hold on a trial; `attempt` counts from 1. `params` is empty until they are drawn.

    Leases are the same if they are of the same trial and attempt.
    """

    trial_id: int
    number: int
    attempt: int
    params: dict[str, Any] = field(default_factory=dict, compare=False)
    attrs: dict[str, Any] = field(default_factory=dict, compare=False)


def fence(connection: sa.Connection, worker: str, leases: Sequence[Lease]) -> dict[Lease, str]:
    """Those leases that are still this worker's, with the state of their trials; locks the trials.

    A RUNNING one it may write to; a finished one it has finished itself before.
    """
    ids = {lease.trial_id for lease in leases}
    locked = (
        sa.select(trials.c.trial_id, trials.c.state)
        .where(trials.c.trial_id.in_(ids))
        .order_by(trials.c.trial_id)
        .with_for_update(key_share=True)
    )
    states = {row.trial_id: row.state for row in connection.execute(locked)}
    own = sa.select(hpsearch_leases).where(hpsearch_leases.c.trial_id.in_(ids), hpsearch_leases.c.worker == worker)
    current = {(row.trial_id, row.attempt): row.expires_at for row in connection.execute(own)}
    fenced: dict[Lease, str] = {}
    for lease in leases:
        key = (lease.trial_id, lease.attempt)
        if key in current and key[0] in states:
            state, finished_here = states[key[0]], current[key] is None
            if state == "RUNNING" or (state in FINISHED and finished_here):
                fenced[lease] = state
    return fenced


def held(connection: sa.Connection, worker: str, leases: Sequence[Lease]) -> dict[Lease, int]:
    """Those leases under which the worker may write, with the ids of their trials; locks the trials."""
    fenced = fence(connection, worker, leases)
    return {lease: lease.trial_id for lease, state in fenced.items() if state == "RUNNING"}


def lock_free(connection: sa.Connection, study_id: int, now: sa.ColumnElement[float], limit: int) -> list[Lease]:
    """Lock up to `limit` trials that anyone may take, all of the first one's structure; with their next attempt."""
    structure = trial_user_attributes.alias("structure")
    free = (
        sa.select(trials.c.trial_id, trials.c.number, structure.c.value_json)
        .outerjoin_from(trials, hpsearch_leases, hpsearch_leases.c.trial_id == trials.c.trial_id)
        .outerjoin(structure, (structure.c.trial_id == trials.c.trial_id) & (structure.c.key == STRUCTURE))
        .where(
            trials.c.study_id == study_id,
            (trials.c.state == "WAITING") | ((trials.c.state == "RUNNING") & (hpsearch_leases.c.expires_at < now)),
        )
        .order_by(trials.c.number)
        .with_for_update(of=trials, skip_locked=True)
    )
    locked = connection.execute(free.limit(1)).all()
    if locked and limit > 1:
        first = locked[0]
        alike = structure.c.value_json.is_not_distinct_from(first.value_json)
        rest = free.where(trials.c.trial_id != first.trial_id, alike).limit(limit - 1)
        locked = [first, *connection.execute(rest).all()]
    return _still_free(connection, {row.trial_id: row.number for row in locked}, now)


def _still_free(connection: sa.Connection, numbers: dict[int, int], now: sa.ColumnElement[float]) -> list[Lease]:
    """Those that nobody took or renewed between the query and its locks."""
    query = (
        sa.select(
            trials.c.trial_id,
            trials.c.state,
            sa.func.coalesce(hpsearch_leases.c.attempt, 0).label("attempt"),
            (hpsearch_leases.c.expires_at < now).label("expired"),
        )
        .outerjoin_from(trials, hpsearch_leases, hpsearch_leases.c.trial_id == trials.c.trial_id)
        .where(trials.c.trial_id.in_(numbers))
    )
    return [
        Lease(row.trial_id, numbers[row.trial_id], row.attempt + 1)
        for row in connection.execute(query)
        if row.state == "WAITING" or (row.state == "RUNNING" and row.expired)
    ]


def extend(connection: sa.Connection, ids: Collection[int], expires_at: sa.ColumnElement[float] | None) -> None:
    """Set when the leases of these trials run out; None: never, because the trials are finished."""
    statement = sa.update(hpsearch_leases).where(hpsearch_leases.c.trial_id.in_(ids))
    connection.execute(statement.values(expires_at=expires_at))


def forget(connection: sa.Connection, ids: Collection[int]) -> None:
    """Remove what an attempt that did not finish has recorded."""
    for table in (hpsearch_epochs, trial_intermediate_values):
        connection.execute(sa.delete(table).where(table.c.trial_id.in_(ids)))


def give_back(connection: sa.Connection, ids: Collection[int]) -> None:
    """Let trials wait again. Their leases stay, without a worker, to count the attempts."""
    if not ids:
        return
    forget(connection, ids)
    connection.execute(sa.update(trials).where(trials.c.trial_id.in_(ids)).values(state="WAITING", datetime_start=None))
    connection.execute(
        sa.update(hpsearch_leases).where(hpsearch_leases.c.trial_id.in_(ids)).values(worker=None, expires_at=None)
    )
