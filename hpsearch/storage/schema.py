"""Making and checking the schema: Optuna's tables, made by Optuna itself so that its upgrades fit, then ours."""

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

State = Literal["empty", "optuna", "ready"]


def inspect(connection: sa.Connection, url: str) -> State:
    """What a database holds: no complete schema of Optuna; that alone; or our tables as well.

    Raises:
        RefusedError: a schema is there that this version cannot read; `url` is for the message.
    """
    names = set(sa.inspect(connection).get_table_names())
    if not {"alembic_version", "trials"} <= names:
        return "empty"
    revision = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
    if revision is None:  # Optuna writes it last
        return "empty"
    if revision < tables.OPTUNA_SCHEMA:
        raise RefusedError(
            f"{url} was made by an older Optuna (schema {revision}, needed {tables.OPTUNA_SCHEMA}).\n"
            f"Upgrade it with: optuna storage upgrade --storage {url}"
        )
    if revision > tables.OPTUNA_SCHEMA and not _has_our_columns(connection):
        raise RefusedError(
            f"{url} was made by a newer Optuna (schema {revision}, known {tables.OPTUNA_SCHEMA}).\n"
            "Update with: pip install -U hpsearch"
        )
    version = _own_version(connection) if "hpsearch_version" in names else None
    if version is None:
        return "optuna"
    if version > tables.OWN_SCHEMA:
        raise RefusedError(
            f"{url} was made by a newer hpsearch (schema {version}, known {tables.OWN_SCHEMA}).\n"
            "Update with: pip install -U hpsearch"
        )
    return "ready"


def _own_version(connection: sa.Connection) -> int | None:
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
