"""Creating and reading studies: whole, in a number of statements that does not grow with the trials."""

from __future__ import annotations

import difflib
import json
import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from hpsearch.config import Range
from hpsearch.errors import ConfigError, StorageError, StudyNotFoundError
from hpsearch.results import EpochResult
from hpsearch.space import from_internal
from hpsearch.storage.database import Database
from hpsearch.storage.rows import (
    STATES,
    Direction,
    NewTrial,
    State,
    StudyRow,
    TrialRow,
    attr_rows,
    cached_range,
    from_stored,
    param_rows,
)
from hpsearch.storage.tables import (
    MAX_NAME_LENGTH,
    hpsearch_epochs,
    studies,
    study_directions,
    study_user_attributes,
    trial_intermediate_values,
    trial_params,
    trial_user_attributes,
    trial_values,
    trials,
    upsert,
)

NUM_NAMES_SHOWN = 10  # of the studies there are, in a message


class StudyExistsError(StorageError):
    """A study of that name is in the storage already."""


def create_stage(
    db: Database,
    name: str,
    direction: Direction,
    attrs: Mapping[str, Any],
    ranges: Mapping[str, Range],
    new_trials: Sequence[NewTrial],
) -> StudyRow:
    """Create a study with all its trials WAITING, numbered from 0, in one transaction.

    Args:
        db: a database opened with `create`.
        name: 1 to 512 printable characters.
        direction: of its one objective.
        attrs: user attributes, plain JSON; a few kB, since the dashboard sends them with each refresh.
        ranges: of every hyperparameter that a trial brings along.
        new_trials: in the order of their numbers.

    Raises:
        ConfigError: the name is not allowed.
        StudyExistsError: there is one of that name; of many processes that create it at once, one succeeds.
    """
    check_name(name)
    with db.write() as connection:
        try:
            connection.execute(sa.insert(studies).values(study_name=name))
        except sa.exc.IntegrityError:
            raise StudyExistsError(
                f"the study {name!r} is in {db.url} already.\nGive the new one another name, or go on with that one."
            ) from None
        study_id = connection.scalar(sa.select(studies.c.study_id).where(studies.c.study_name == name))
        assert study_id is not None
        connection.execute(
            sa.insert(study_directions).values(study_id=study_id, direction=direction.upper(), objective=0)
        )
        _insert(connection, study_user_attributes, [{"study_id": study_id, **row} for row in attr_rows(attrs)])
        _insert_trials(connection, study_id, dict(enumerate(new_trials)), ranges)
    if not db.is_sqlite:
        # Until autovacuum comes by, Postgres would take the tables for tiny and spend 30 ms on every `take`.
        with db.write() as connection:
            connection.execute(sa.text("ANALYZE trials, trial_user_attributes"))
    return StudyRow(study_id, name, (direction,), json.loads(json.dumps(dict(attrs))))


def add_trials(
    db: Database,
    study: StudyRow,
    ranges: Mapping[str, Range],
    all_trials: Sequence[NewTrial],
    attrs: Mapping[str, Any],
) -> int:
    """Add the trials that a study lacks, WAITING; how many that were.

    Args:
        db: an open database.
        study: has as many trials, numbered from 0, as it was made or grew with; these stay as they are.
        ranges: of every hyperparameter that a trial brings along.
        all_trials: in the order of their numbers, those that are there included.
        attrs: user attributes that are replaced if trials are added.
    """
    there = sa.select(sa.func.count()).select_from(trials).where(trials.c.study_id == study.study_id)
    with db.write() as connection:
        # Of two processes that add the same ones at once, the second waits here, and finds them there.
        connection.execute(sa.select(studies).where(studies.c.study_id == study.study_id).with_for_update())
        num_there = connection.scalar(there) or 0
        added = {number: trial for number, trial in enumerate(all_trials) if number >= num_there}
        if added:
            _insert_trials(connection, study.study_id, added, ranges)
            rows = [{"study_id": study.study_id, **row} for row in attr_rows(attrs)]
            upsert(connection, study_user_attributes, ["study_id", "key"], rows)
    return len(added)


def _insert_trials(
    connection: sa.Connection, study_id: int, numbered: Mapping[int, NewTrial], ranges: Mapping[str, Range]
) -> None:
    rows = [{"study_id": study_id, "number": number, "state": "WAITING"} for number in numbered]
    _insert(connection, trials, rows)
    made = sa.select(trials.c.number, trials.c.trial_id).where(trials.c.study_id == study_id)
    ids = {row.number: row.trial_id for row in connection.execute(made)}
    by_id = {ids[number]: trial for number, trial in numbered.items()}
    with_params = ((trial_id, trial.params) for trial_id, trial in by_id.items() if trial.params)
    _insert(connection, trial_params, param_rows(with_params, ranges))
    _insert(
        connection,
        trial_user_attributes,
        [{"trial_id": trial_id, **row} for trial_id, trial in by_id.items() for row in attr_rows(trial.attrs)],
    )


def write_attrs(db: Database, study: StudyRow, attrs: Mapping[str, Any]) -> None:
    """Set user attributes of a study, plain JSON; those of the same name are replaced."""
    with db.write() as connection:
        rows = [{"study_id": study.study_id, **row} for row in attr_rows(attrs)]
        upsert(connection, study_user_attributes, ["study_id", "key"], rows)


def check_name(name: str) -> None:
    """Whether a study may be called so.

    Raises:
        ConfigError: it is empty, too long, or holds control characters.
    """
    if not name.strip() or len(name) > MAX_NAME_LENGTH or not name.isprintable():
        shown = name if len(name) <= 60 else f"{name[:60]}..."
        raise ConfigError(
            f"{shown!r} ({len(name)} characters) cannot be the name of a study.\n"
            f"Allowed: 1 to {MAX_NAME_LENGTH} printable characters."
        )


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


def _insert(connection: sa.Connection, table: sa.Table, rows: list[dict[str, Any]]) -> None:
    if rows:
        connection.execute(sa.insert(table), rows)


def _utc(time: datetime | None) -> datetime | None:
    return None if time is None else time.replace(tzinfo=UTC)
