"""Hyperparameters and attributes of trials in SQL. Every function runs inside the transaction of its caller."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import sqlalchemy as sa

from hpsearch.config import Range
from hpsearch.space import from_internal
from hpsearch.storage.leases import Lease, held
from hpsearch.storage.rows import TrialRow, attr_rows, cached_range, param_rows
from hpsearch.storage.tables import trial_params, trial_user_attributes, upsert


@dataclass(frozen=True, slots=True)
class ChosenParams:
    """Hyperparameters for a trial that is held, the ranges that they are from, and attributes that say why."""

    params: Mapping[str, Any]
    ranges: Mapping[str, Range]
    attrs: Mapping[str, Any] = field(default_factory=dict)


ParamChooser = Callable[[Sequence[TrialRow]], ChosenParams | None]
"""From how all other trials of a study stand."""


def write_params(
    connection: sa.Connection,
    worker: str,
    drawn: Sequence[tuple[Lease, Mapping[str, Any]]],
    ranges: Mapping[str, Range],
    attrs: Mapping[str, Any] | None = None,
) -> list[Lease]:
    """Hyperparameters in place of those there were, and attributes; the leases still held, with their params."""
    ids = held(connection, worker, [lease for lease, _ in drawn])
    kept = [(lease, dict(params)) for lease, params in drawn if lease in ids]
    connection.execute(sa.delete(trial_params).where(trial_params.c.trial_id.in_(ids.values())))
    if rows := param_rows(((lease.trial_id, params) for lease, params in kept), ranges):
        connection.execute(sa.insert(trial_params), rows)
    said = [{"trial_id": lease.trial_id, **row} for lease, _ in kept for row in attr_rows(attrs or {})]
    upsert(connection, trial_user_attributes, ["trial_id", "key"], said)
    return [replace(lease, params=params) for lease, params in kept]


def read_params(connection: sa.Connection, ids: Collection[int]) -> defaultdict[int, dict[str, Any]]:
    """By id of the trial."""
    p = trial_params.c
    query = sa.select(p.trial_id, p.param_name, p.param_value, p.distribution_json)
    params: defaultdict[int, dict[str, Any]] = defaultdict(dict)
    for trial_id, name, internal, text in connection.execute(query.where(p.trial_id.in_(ids)).order_by(p.param_id)):
        params[trial_id][name] = from_internal(cached_range(text), internal)
    return params


def read_attrs(connection: sa.Connection, ids: Collection[int]) -> defaultdict[int, dict[str, Any]]:
    """By id of the trial."""
    a = trial_user_attributes.c
    attrs: defaultdict[int, dict[str, Any]] = defaultdict(dict)
    for trial_id, key, text in connection.execute(
        sa.select(a.trial_id, a.key, a.value_json).where(a.trial_id.in_(ids))
    ):
        attrs[trial_id][key] = json.loads(text)
    return attrs
