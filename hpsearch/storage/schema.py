"""Checking the schema, Optuna's tables and ours, and keeping others away who would make it at the same time."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Literal

import sqlalchemy as sa

from hpsearch.errors import RefusedError, StorageError
from hpsearch.storage import tables

LOCK_SECONDS = 60.0  # longest wait for another process that makes the schema
POSTGRES_LOCK = 0x68707365617263  # "hpsearc", the advisory lock's key

FIRST_REVISION = "v0.9.0.a"  # Optuna's name for all schemas from before it named them
FIRST_WITH_REVISIONS = 12  # schema_version of the first ones with a name

State = Literal["empty", "optuna", "ready"]


def inspect(connection: sa.Connection, url: str) -> State:
    """What a database holds: no complete schema of Optuna; that alone; or our tables as well.

    Raises:
        RefusedError: a schema is there that this version cannot read; `url` is for the message.
    """
    revision = find_revision(connection)
    if revision is None:
        return "empty"
    if revision < tables.OPTUNA_SCHEMA:
        raise RefusedError(
            f"{url} was made by an older Optuna (schema {revision}, needed {tables.OPTUNA_SCHEMA}).\n"
            f"Upgrade it with: hpsearch storage upgrade --storage {url}"
        )
    if revision > tables.OPTUNA_SCHEMA and not _has_our_columns(connection):
        raise RefusedError(
            f"{url} was made by a newer Optuna (schema {revision}, known {tables.OPTUNA_SCHEMA}).\n"
            "Update with: pip install -U hpsearch"
        )
    version = own_version(connection)
    if version is None:
        return "optuna"
    if version > tables.OWN_SCHEMA:
        raise RefusedError(
            f"{url} was made by a newer hpsearch (schema {version}, known {tables.OWN_SCHEMA}).\n"
            "Update with: pip install -U hpsearch"
        )
    return "ready"


def find_revision(connection: sa.Connection) -> str | None:
    """Optuna's name of the schema that a database has; None where there is none, or one left half made."""
    names = set(sa.inspect(connection).get_table_names())
    if "trials" not in names:
        return None
    revision: str | None = None
    if "alembic_version" in names:
        revision = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
    if revision is None and "version_info" in names:  # Optuna writes the revision last, and did not do so before 2019
        version = connection.scalar(sa.text("SELECT schema_version FROM version_info"))
        revision = FIRST_REVISION if version is not None and version < FIRST_WITH_REVISIONS else None
    return revision


def own_version(connection: sa.Connection) -> int | None:
    """The version of our own tables; None where there are none."""
    if not sa.inspect(connection).has_table(tables.hpsearch_version.name):
        return None
    version: int | None = connection.scalar(sa.select(sa.func.max(tables.hpsearch_version.c.version)))
    return version


def _has_our_columns(connection: sa.Connection) -> bool:
    inspector = sa.inspect(connection)
    return all(
        {column.name for column in table.columns} <= {column["name"] for column in inspector.get_columns(table.name)}
        for table in tables.OPTUNA_TABLES
    )


@contextmanager
def lock(engine: sa.Engine, path: Path | None) -> Iterator[None]:
    """Only one process at a time gets in; a process that dies lets go.

    Optuna makes its tables in several transactions, so the lock cannot be one of the SQLite file at `path` itself: it
    is one of a second, empty database beside it, which works wherever SQLite does. That file stays: removed, it would
    fail those who wait for it.
    """
    if path is None:
        with engine.begin() as connection:
            # Idle on purpose: the work is done in other connections, and an upgrade may take minutes.
            connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(POSTGRES_LOCK)))
            yield
        return
    lock_path = path.with_name(f"{path.name}.lock")
    try:
        holder = sqlite3.connect(lock_path, timeout=LOCK_SECONDS, isolation_level=None)
        with closing(holder):
            holder.execute("BEGIN EXCLUSIVE")
            yield
    except sqlite3.OperationalError as error:
        raise StorageError(f"{lock_path} cannot be locked.\nReason: {error}.") from error
