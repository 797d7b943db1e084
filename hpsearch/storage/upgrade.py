"""Making a storage ready, and upgrading one that an older Optuna made: in place, by Optuna itself, under our lock."""

from __future__ import annotations

import logging
import sqlite3
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from hpsearch.errors import StorageError
from hpsearch.storage import schema, tables
from hpsearch.storage.database import Database, make_folder, no_studies
from hpsearch.storage.urls import parse_url


@dataclass(frozen=True, slots=True)
class Upgrade:
    """What an upgrade did; `before` and `after` are Optuna's names of the schemas, the same if nothing was to do."""

    url: str
    """With passwords masked."""
    before: str
    after: str
    copy: Path | None = None
    """The SQLite file as it was before."""


def init_storage(url: str) -> tuple[str, schema.State]:
    """Make what is missing at `url`; gives the masked URL and what was there before.

    Many processes may call it at once: one of them makes everything, the others find it made.

    Raises:
        HpsearchError: as `open_database`.
    """
    db = Database(parse_url(url))
    try:
        if db.path is not None:
            make_folder(db.path)
        with db.read() as connection:
            state = schema.inspect(connection, db.url)
        return db.url, state if state == "ready" else db.create_schema()
    finally:
        db.close()


def upgrade_storage(url: str) -> Upgrade:
    """Bring a storage of an older Optuna to the schema that this version reads; all studies stay.

    Raises:
        RefusedError: the schema is newer than this version; nothing is changed.
        StorageError: there is nothing at `url`, or the upgrade failed.
    """
    db = Database(parse_url(url))
    try:
        if db.path is not None and not db.path.is_file():
            raise no_studies(db.url)
        if (done := _look(db)) is not None:
            return done
        with db.schema_lock():
            return _look(db) or _upgrade(db)  # another process may have been faster
    finally:
        db.close()


def _look(db: Database) -> Upgrade | None:
    """None if there is something to upgrade."""
    with db.read() as connection:
        revision = schema.find_revision(connection)
        if revision is None:
            raise no_studies(db.url)
        if revision < tables.OPTUNA_SCHEMA:
            return None
        schema.inspect(connection, db.url)
    return Upgrade(db.url, revision, revision)


def _upgrade(db: Database) -> Upgrade:
    with db.read() as connection:
        before = str(schema.find_revision(connection))
        had_own_tables = schema.own_version(connection) is not None
    copy = _copy(db.path, before) if db.path is not None else None
    try:
        with _silently():
            # No pool: if Optuna fails halfway, nobody could close what is in it.
            options = {"poolclass": sa.NullPool}
            storage = db.rdb_storage(options, skip_table_creation=True, skip_compatibility_check=True)
            storage.upgrade()
            storage.remove_session()
    except Exception as error:  # scripts of another project, which assert too
        words = " ".join(str(getattr(error, "orig", error)).split()) or type(error).__name__
        kept = f" As it was: {copy}." if copy else ""
        raise StorageError(f"{db.url} could not be upgraded from schema {before}.{kept}\nReason: {words}") from error
    if had_own_tables:
        with db.write() as connection:  # on SQLite, an upgraded table loses its triggers
            tables.create_own_tables(connection)
    with db.read() as connection:
        return Upgrade(db.url, before, str(schema.find_revision(connection)), copy)


def _copy(path: Path, revision: str) -> Path:
    """A copy of a SQLite file beside it, because there an upgrade is not one transaction.

    A copy that is there already is kept: it is from before an upgrade that did not reach its end.
    """
    copy = path.with_name(f"{path.stem}-{revision}{path.suffix}")
    if copy.exists():
        return copy
    part = copy.with_name(f"{copy.name}.part")
    try:
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(part)) as target:
            source.backup(target)
        part.replace(copy)
    except (sqlite3.Error, OSError) as error:
        part.unlink(missing_ok=True)
        raise StorageError(f"the copy {copy} cannot be made; nothing is upgraded.\nReason: {error}.") from error
    return copy


@contextmanager
def _silently() -> Iterator[None]:
    """Optuna's scripts use what Optuna deprecates, and set up logging of their own where the root has no handler."""
    handler = logging.NullHandler()
    logging.getLogger().addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        logging.getLogger().removeHandler(handler)
