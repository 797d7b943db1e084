"""Reading studies: whole, in a number of statements that does not grow with the trials."""

from __future__ import annotations

import difflib
import json
import math
from collections import defaultdict
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from hpsearch.errors import StudyNotFoundError
from hpsearch.results import EpochResult
from hpsearch.space import from_internal
from hpsearch.storage.database import Database
from hpsearch.storage.rows import STATES, Direction, State, StudyRow, TrialRow, cached_range, from_stored
from hpsearch.storage.tables import (
    hpsearch_epochs,
    studies,
    study_directions,
    study_user_attributes,
    trial_intermediate_values,
    trial_params,
    trial_user_attributes,
    trial_values,
    trials,
)

NUM_NAMES_SHOWN = 10  # of the studies there are, in a message


def list_studies(db: Database) -> list[StudyRow]:
    """All studies, in the order in which they were made."""
    return _read_studies(db, sa.true())


def find_study(db: Database, name: str) -> StudyRow:
    """The study of that name.

    Raises:
        StudyNotFoundError: there is none; the message has the nearest names.
    """
    if found := _read_studies(db, studies.c.study_name == name):
        return found[0]
    names = [study.name for study in list_studies(db)]
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    more = f" and {len(names) - NUM_NAMES_SHOWN} more" if len(names) > NUM_NAMES_SHOWN else ""
    there = f"There: {', '.join(map(repr, names[-NUM_NAMES_SHOWN:]))}{more}." if names else "There are none yet."
    raise StudyNotFoundError(f"no study is called {name[:60]!r} in {db.url}.{hint}\n{there}")


def _read_studies(db: Database, where: sa.ColumnElement[bool]) -> list[StudyRow]:
    ids = sa.select(studies.c.study_id).where(where)
    directions: defaultdict[int, list[Direction]] = defaultdict(list)
    attrs: defaultdict[int, dict[str, Any]] = defaultdict(dict)
    with db.read() as connection:
        found = connection.execute(
            sa.select(studies.c.study_id, studies.c.study_name).where(where).order_by(studies.c.study_id)
        ).all()
        d, a = study_directions.c, study_user_attributes.c
        for study_id, direction in connection.execute(
            sa.select(d.study_id, d.direction).where(d.study_id.in_(ids)).order_by(d.objective)
        ):
            directions[study_id].append("maximize" if direction == "MAXIMIZE" else "minimize")
        for study_id, key, text in connection.execute(
            sa.select(a.study_id, a.key, a.value_json).where(a.study_id.in_(ids))
        ):
            attrs[study_id][key] = json.loads(text)
    return [StudyRow(study_id, name, tuple(directions[study_id]), attrs[study_id]) for study_id, name in found]


def read_trials(
    db: Database,
    study: StudyRow,
    states: Collection[State] | None = None,
    since_trial_id: int | None = None,
    first_number: int = 0,
) -> list[TrialRow]:
    """The trials of a study by number, whoever made it, from `first_number` on: those in `states`, with ids above
    `since_trial_id`.
    """
    wanted = (trials.c.study_id == study.study_id) & (trials.c.number >= first_number)
    if states is not None:
        wanted &= trials.c.state.in_(states)
    if since_trial_id is not None:
        wanted &= trials.c.trial_id > since_trial_id
    with db.read() as connection:
        return trials_seen(connection, wanted)


def trials_seen(connection: sa.Connection, wanted: sa.ColumnElement[bool]) -> list[TrialRow]:
    """The trials of one study for which the condition is true, by number, as the transaction of the caller sees them.

    Where that is no snapshot, no trials may come to match meanwhile.
    """
    first_value = (trial_values.c.trial_id == trials.c.trial_id) & (trial_values.c.objective == 0)
    query = (
        sa.select(trials, trial_values.c.value, trial_values.c.value_type)
        .outerjoin(trial_values, first_value)
        .where(wanted)
        .order_by(trials.c.number)
    )
    rows: dict[int, TrialRow] = {}
    for row in connection.execute(query):
        value = math.nan if row.value_type is None else from_stored(row.value, row.value_type)
        rows[row.trial_id] = TrialRow(
            row.trial_id,
            row.number,
            row.state,
            None if math.isnan(value) else value,
            started=_utc(row.datetime_start),
            completed=_utc(row.datetime_complete),
        )
    for trial_id, name, internal, text in connection.execute(_of(trial_params, wanted, "param_id")):
        range_ = cached_range(text)
        rows[trial_id].params[name] = from_internal(range_, internal)
        rows[trial_id].ranges[name] = range_
    for trial_id, step, number, kind in connection.execute(_of(trial_intermediate_values, wanted, "step")):
        rows[trial_id].intermediate[step] = from_stored(number, kind)
    for trial_id, key, text in connection.execute(_of(trial_user_attributes, wanted, "trial_user_attribute_id")):
        rows[trial_id].attrs[key] = json.loads(text)
    return list(rows.values())


def _of(table: sa.Table, wanted: sa.ColumnElement[bool], order: str) -> sa.Select[Any]:
    """All columns but the row's own id, of the trials that are wanted."""
    columns = [column for column in table.columns if not column.primary_key]
    return (
        sa.select(*columns).join(trials, trials.c.trial_id == table.c.trial_id).where(wanted).order_by(table.c[order])
    )


def count_states(db: Database, study: StudyRow) -> dict[State, int]:
    """How many trials are in each state; all five are there."""
    query = sa.select(trials.c.state, sa.func.count().label("num")).where(trials.c.study_id == study.study_id)
    with db.read() as connection:
        found = {row.state: row.num for row in connection.execute(query.group_by(trials.c.state))}
    return {state: found.get(state, 0) for state in STATES}


def read_epochs(db: Database, study: StudyRow, numbers: Collection[int] | None = None) -> dict[int, list[EpochResult]]:
    """Trials' epochs in order, by trial number. A study that hpsearch did not train has none."""
    if not db.has_own_tables():
        return {}
    columns = [column for column in hpsearch_epochs.columns if column.name != "trial_id"]
    reported = trial_intermediate_values.c
    of_epoch = (reported.trial_id == hpsearch_epochs.c.trial_id) & (reported.step == hpsearch_epochs.c.epoch)
    query = (
        sa.select(trials.c.number, *columns, reported.intermediate_value, reported.intermediate_value_type)
        .join(trials, trials.c.trial_id == hpsearch_epochs.c.trial_id)
        .outerjoin(trial_intermediate_values, of_epoch)
        .where(trials.c.study_id == study.study_id)
        .order_by(trials.c.number, hpsearch_epochs.c.epoch)
    )
    if numbers is not None:
        query = query.where(trials.c.number.in_(numbers))
    epochs: defaultdict[int, list[EpochResult]] = defaultdict(list)
    with db.read() as connection:
        for row in connection.execute(query):
            measured = dict(row._mapping)
            value, kind = measured.pop("intermediate_value"), measured.pop("intermediate_value_type")
            score = from_stored(value, kind) if kind is not None else None
            # As it was before it was written, where the metric is the accuracy.
            epochs[row.number].append(EpochResult(**measured, score=None if _same(score, row.val_acc) else score))
    return dict(epochs)


def _same(score: float | None, accuracy: float) -> bool:
    return score == accuracy or (score is not None and math.isnan(score) and math.isnan(accuracy))


def _utc(time: datetime | None) -> datetime | None:
    return None if time is None else time.replace(tzinfo=UTC)
