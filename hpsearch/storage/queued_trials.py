"""How the trials of a queue stand whose trials train until an epoch, as those see it who choose who goes on.

What is written of it, and when, is in `choosing`.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import sqlalchemy as sa

from hpsearch.results import Direction, goodness
from hpsearch.storage.leases import STRUCTURE, Lease
from hpsearch.storage.rows import State, from_stored
from hpsearch.storage.tables import (
    hpsearch_leases,
    trial_intermediate_values,
    trial_user_attributes,
    trial_values,
    trials,
)

RUNG = "rung"  # the attribute of a trial that says until when it may train, and whether it waits there

Standing = Literal["new", "free", "held", "paused", "ended"]


@dataclass(frozen=True, slots=True)
class QueuedTrial:
    """How a trial stands, for those who choose.

    `new`: nobody has begun it; `free`: begun, and given back or left behind; `held`: in a worker's hands; `paused`:
    waits to be promoted; `ended`, or another program's.
    """

    trial_id: int
    number: int
    state: Standing
    structure: str | None = None
    until: int | None = None
    """The epoch until which it may train; None where nobody has said so."""
    values: Mapping[int, float] = field(default_factory=dict)
    """By epoch."""
    value: float | None = None
    is_complete: bool = False
    ending: Mapping[str, Any] = field(default_factory=dict)
    """Of one that is paused: the attributes that it has if it ends there."""
    attempts: Mapping[str, int] = field(default_factory=dict)
    """What is kept of those before its last pause: `kept_attempts`."""

    @property
    def done(self) -> int:
        """Epochs that it has reported."""
        return max(self.values, default=0)

    @property
    def reserved(self) -> int:
        """Epochs that are trained, or will be."""
        if self.state in ("free", "held"):
            return max(self.until or 0, self.done)
        return self.done

    def best(self, direction: Direction) -> float:
        """Goodness of its best finite value so far; -inf without one."""
        values = [goodness(value, direction) for value in self.values.values() if math.isfinite(value)]
        return max(values, default=-math.inf)


def earlier_attempts(attrs: Mapping[str, Any]) -> int:
    """Of a trial with these attributes: attempts before it was promoted, which no failure ended."""
    return int(_mark(attrs).get("earlier", 0))


def lost_attempts(attrs: Mapping[str, Any]) -> int:
    """Of a trial with these attributes: those of its earlier attempts that did not come to where it was to wait."""
    return int(_mark(attrs).get("lost", 0))


def kept_attempts(attrs: Mapping[str, Any]) -> dict[str, int]:
    """What a trial with these attributes keeps of its attempts as it goes on, or ends."""
    return {"earlier": earlier_attempts(attrs), "lost": lost_attempts(attrs)}


def paused_attempts(lease: Lease) -> dict[str, int]:
    """What a trial keeps of its attempts as the one under this lease pauses it."""
    lost = lease.attempt - earlier_attempts(lease.attrs) - 1
    return {"earlier": lease.attempt, "lost": lost_attempts(lease.attrs) + lost}


def stop_of(attrs: Mapping[str, Any]) -> int | None:
    """The epoch until which a trial with these attributes may train."""
    until: int | None = _mark(attrs).get("until")
    return until


def is_paused(state: State, attrs: Mapping[str, Any]) -> bool:
    """Whether a trial waits at a rung to be promoted: it is RUNNING, but in nobody's hands."""
    return state == "RUNNING" and bool(_mark(attrs).get("paused", False))


def _mark(attrs: Mapping[str, Any]) -> Mapping[str, Any]:
    """What is kept of a trial at its rungs; another program may keep what it likes under that name."""
    stored = attrs.get(RUNG)
    if not isinstance(stored, dict) or not isinstance(stored.get("until"), int):
        return {}
    return stored if isinstance(stored.get("earlier", 0), int) else {}


def read_queue(connection: sa.Connection, now: sa.ColumnElement[float], study_id: int) -> list[QueuedTrial]:
    """All trials of a study, by number."""
    of_study = trials.c.study_id == study_id
    found = read_standing(connection, now, of_study)
    v = trial_intermediate_values.c
    query = sa.select(v.trial_id, v.step, v.intermediate_value, v.intermediate_value_type)
    values: defaultdict[int, dict[int, float]] = defaultdict(dict)
    for trial_id, step, value, kind in connection.execute(
        query.join(trials, trials.c.trial_id == v.trial_id).where(of_study)
    ):
        values[trial_id][step] = from_stored(value, kind)
    return [replace(trial, values=values[trial.trial_id]) for trial in found]


def read_pruned(connection: sa.Connection, study_id: int) -> dict[int, dict[str, Any]]:
    """The attributes of each trial that is PRUNED, by number."""
    a = trial_user_attributes.c
    query = sa.select(trials.c.number, a.key, a.value_json).join(trials, trials.c.trial_id == a.trial_id)
    of_study = (trials.c.study_id == study_id) & (trials.c.state == "PRUNED")
    found: defaultdict[int, dict[str, Any]] = defaultdict(dict)
    for number, key, value in connection.execute(query.where(of_study)):
        found[number][key] = json.loads(value)
    return dict(found)


def read_standing(
    connection: sa.Connection, now: sa.ColumnElement[float], where: sa.ColumnElement[bool]
) -> list[QueuedTrial]:
    """Those trials, by number, without what they have reported; `now` as in `Database`."""
    structure, rung, lease = trial_user_attributes.alias(), trial_user_attributes.alias(), hpsearch_leases
    query = (
        sa.select(
            trials.c.trial_id,
            trials.c.number,
            trials.c.state,
            lease.c.worker,
            lease.c.attempt,
            (lease.c.expires_at < now).label("expired"),
            structure.c.value_json.label("structure"),
            rung.c.value_json.label("rung"),
            trial_values.c.value,
        )
        .outerjoin_from(trials, lease, lease.c.trial_id == trials.c.trial_id)
        .outerjoin(structure, (structure.c.trial_id == trials.c.trial_id) & (structure.c.key == STRUCTURE))
        .outerjoin(rung, (rung.c.trial_id == trials.c.trial_id) & (rung.c.key == RUNG))
        .outerjoin(trial_values, (trial_values.c.trial_id == trials.c.trial_id) & (trial_values.c.objective == 0))
        .where(where)
        .order_by(trials.c.number)
    )
    return [_queued(row) for row in connection.execute(query)]


def _queued(row: sa.Row[Any]) -> QueuedTrial:
    kept = {RUNG: json.loads(row.rung)} if row.rung is not None else {}
    state: Standing = "ended"  # or another program's
    if row.state == "WAITING":
        state = "free" if row.attempt else "new"
    elif row.state == "RUNNING" and row.worker is not None:
        state = "free" if row.expired else "held"
    elif row.attempt and is_paused(row.state, kept):
        state = "paused"
    return QueuedTrial(
        row.trial_id,
        row.number,
        state,
        row.structure,
        stop_of(kept),
        value=row.value,
        is_complete=row.state == "COMPLETE",
        ending=_mark(kept).get("ending", {}),
        attempts=kept_attempts(kept),
    )
