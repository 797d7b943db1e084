"""All studies at a glance, in a few queries however many trials they have."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from hpsearch.storage.database import Database
from hpsearch.storage.queued_trials import RUNG, is_paused
from hpsearch.storage.rows import State, StudyRow, TrialRow, from_stored
from hpsearch.storage.studies import list_studies
from hpsearch.storage.tables import trial_intermediate_values, trial_user_attributes, trial_values, trials


@dataclass(frozen=True, slots=True)
class StudyOverview:
    """A study, how many of its trials are in each state, and its best finite value (of the first objective).

    Of those that are RUNNING, `num_paused` wait at a rung, in nobody's hands.
    """

    study: StudyRow
    counts: dict[State, int]
    best: float | None
    num_paused: int = 0


def read_overview(db: Database) -> list[StudyOverview]:
    """One row per study, in the order in which they were made."""
    counts: defaultdict[int, dict[State, int]] = defaultdict(dict)
    extremes: dict[int, tuple[float, float]] = {}
    finite = (trials.c.state == "COMPLETE") & (trial_values.c.value_type == "FINITE") & (trial_values.c.objective == 0)
    value = trial_values.c.value
    with db.read() as connection:
        for study_id, state, number in connection.execute(
            sa.select(trials.c.study_id, trials.c.state, sa.func.count()).group_by(trials.c.study_id, trials.c.state)
        ):
            counts[study_id][state] = number
        for study_id, low, high in connection.execute(
            sa.select(trials.c.study_id, sa.func.min(value), sa.func.max(value))
            .join(trial_values, trial_values.c.trial_id == trials.c.trial_id)
            .where(finite)
            .group_by(trials.c.study_id)
        ):
            extremes[study_id] = (low, high)
        paused = _count_paused(connection)
    rows = []
    for study in list_studies(db):
        low, high = extremes.get(study.study_id, (None, None))
        best = high if study.directions[:1] == ("maximize",) else low
        rows.append(StudyOverview(study, counts[study.study_id], best, paused[study.study_id]))
    return rows


def _count_paused(connection: sa.Connection) -> Counter[int]:
    a = trial_user_attributes.c
    query = (
        sa.select(trials.c.study_id, trials.c.state, a.value_json)
        .join(trials, trials.c.trial_id == a.trial_id)
        .where(trials.c.state == "RUNNING", a.key == RUNG)
    )
    found = connection.execute(query)
    return Counter(row.study_id for row in found if is_paused(row.state, {RUNG: json.loads(row.value_json)}))


def read_linked(db: Database, study_ids: Collection[int], key: str) -> dict[int, list[TrialRow]]:
    """Of some studies, the trials that name another one, and these, without hyperparameters; by study.

    In two queries, in which the database looks at the trials of these studies alone.

    Args:
        db: an open database.
        study_ids: of the studies; those without such a trial are left out of what is found.
        key: of the user attribute that is the other one's number.
    """
    if not study_ids:
        return {}
    attr, first = trial_user_attributes.c, trial_values.c
    columns = (trials.c.study_id, trials.c.trial_id, trials.c.number, trials.c.state, first.value, first.value_type)
    with_value = (first.trial_id == trials.c.trial_id) & (first.objective == 0)
    of_these = trials.c.study_id.in_(study_ids)
    naming = (
        sa.select(*columns, attr.value_json)
        .join(trial_user_attributes, (attr.trial_id == trials.c.trial_id) & (attr.key == key))
        .outerjoin(trial_values, with_value)
        .where(of_these)
    )
    found: defaultdict[int, dict[int, TrialRow]] = defaultdict(dict)
    named: set[tuple[int, int]] = set()
    with db.read() as connection:
        for row in connection.execute(naming):
            found[row.study_id][row.number] = _without_params(row, {key: json.loads(row.value_json)})
            if isinstance(of := json.loads(row.value_json), int):
                named.add((row.study_id, of))
        numbers = trials.c.number.in_({number for _, number in named})
        others = sa.select(*columns).outerjoin(trial_values, with_value)
        in_these = trials.c.study_id.in_({study_id for study_id, _ in named})
        for other in connection.execute(others.where(in_these & numbers)) if named else ():
            if (other.study_id, other.number) in named:
                found[other.study_id].setdefault(other.number, _without_params(other, {}))
    return {study_id: sorted(rows.values(), key=lambda row: row.number) for study_id, rows in found.items()}


def _without_params(row: sa.Row[*tuple[Any, ...]], attrs: dict[str, Any]) -> TrialRow:
    value = math.nan if row.value_type is None else from_stored(row.value, row.value_type)
    return TrialRow(row.trial_id, row.number, row.state, None if math.isnan(value) else value, attrs=attrs)


def count_exploded(db: Database, key: str, mark: str) -> dict[int, Counter[State]]:
    """By study and state, how many trials exploded: they are marked so, or have an infinitely bad value.

    Args:
        db: an open database.
        key: of the user attribute that says why a trial ended.
        mark: what it says of an explosion.
    """
    attr, value = trial_user_attributes.alias("attr").c, trial_values.alias("value").c
    is_marked = (attr.trial_id == trials.c.trial_id) & (attr.key == key) & (attr.value_json == json.dumps(mark))
    is_infinite = (value.trial_id == trials.c.trial_id) & (value.objective == 0) & (value.value_type != "FINITE")
    groups = (trials.c.study_id, trials.c.state, attr.trial_id.is_not(None), value.value_type)
    query = (
        sa.select(*groups, sa.func.count())
        .select_from(trials)
        .outerjoin(attr.trial_id.table, is_marked)
        .outerjoin(value.trial_id.table, is_infinite)
        .where(trials.c.state.in_(["COMPLETE", "PRUNED"]) & (attr.trial_id.is_not(None) | value.trial_id.is_not(None)))
        .group_by(*groups)
    )
    maximized = {study.study_id for study in list_studies(db) if study.directions[:1] == ("maximize",)}
    found: defaultdict[int, Counter[State]] = defaultdict(Counter)
    with db.read() as connection:
        for study_id, state, marked, kind, number in connection.execute(query):
            if marked or kind == ("INF_NEG" if study_id in maximized else "INF_POS"):
                found[study_id][state] += number
    return dict(found)


def count_epochs(db: Database, study: StudyRow) -> int:
    """How many values the trials of a study have reported, all together: one an epoch."""
    query = (
        sa.select(sa.func.count())
        .select_from(trial_intermediate_values)
        .join(trials, trials.c.trial_id == trial_intermediate_values.c.trial_id)
        .where(trials.c.study_id == study.study_id)
    )
    with db.read() as connection:
        return connection.execute(query).scalar_one()
