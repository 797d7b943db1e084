"""Deleting a study: all its rows in one transaction, unless a worker holds a trial of it."""

from __future__ import annotations

import sqlalchemy as sa

from hpsearch.errors import RefusedError, Typed
from hpsearch.storage.activity import read_activity
from hpsearch.storage.database import Database
from hpsearch.storage.optuna_schema import tables_of_studies
from hpsearch.storage.rows import StudyRow
from hpsearch.storage.tables import studies, trials
from hpsearch.wording import count_text


def delete_study(db: Database, study: StudyRow) -> None:
    """Delete a study with its trials, whatever program made it. Of our own tables, rows go with their trials.

    Raises:
        RefusedError: a worker holds a trial of it; nothing is deleted.
    """
    ids = sa.select(trials.c.trial_id).where(trials.c.study_id == study.study_id)
    with db.write() as connection:
        # Nobody takes a trial from here on: SQLite has one writer, and on Postgres a locked trial is passed over.
        connection.execute(sa.select(studies).where(studies.c.study_id == study.study_id).with_for_update())
        connection.execute(ids.with_for_update())
        refuse_held(db, study)
        for table in tables_of_studies():
            of_study = table.c.study_id == study.study_id if "study_id" in table.c else table.c.trial_id.in_(ids)
            connection.execute(sa.delete(table).where(of_study))


def refuse_held(db: Database, study: StudyRow) -> None:
    """Whether no worker has a trial of a study in hand.

    Raises:
        RefusedError: one has, and is not known to be dead.
    """
    held = [row for row in read_activity(db, study) if row.worker is not None and not row.silent]
    if held:
        workers = count_text(len({row.worker for row in held}), "worker")
        raise RefusedError(
            f"{study.name!r} is at work: {workers} with {count_text(len(held), 'trial')} in hand.\nStop that first: ",
            Typed(("hpsearch", "stop", study.name)),
        )
