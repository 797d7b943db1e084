"""Creating studies: whole, in a number of statements that does not grow with the trials; and what is added later."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from hpsearch.config import Range
from hpsearch.errors import ConfigError, StorageError
from hpsearch.storage.database import Database
from hpsearch.storage.rows import Direction, NewTrial, StudyRow, attr_rows, param_rows
from hpsearch.storage.tables import (
    MAX_NAME_LENGTH,
    studies,
    study_directions,
    study_user_attributes,
    trial_params,
    trial_user_attributes,
    trials,
    upsert,
)


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


def _insert(connection: sa.Connection, table: sa.Table, rows: list[dict[str, Any]]) -> None:
    if rows:
        connection.execute(sa.insert(table), rows)
