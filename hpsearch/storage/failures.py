"""What went wrong in a database, in the user's words."""

from __future__ import annotations

import shutil
from pathlib import Path

import sqlalchemy as sa

from hpsearch.errors import StorageError
from hpsearch.storage.urls import mask

# SQLite's primary result codes (https://www.sqlite.org/rescode.html)
PASSING = {5: "BUSY", 6: "LOCKED", 10: "IOERR"}
SQLITE_FULL, SQLITE_NOTADB = 13, 26
IDLE_IN_TRANSACTION = "25P03"  # Postgres: this process was stopped for longer than the server lets locks lie


class StorageAwayError(StorageError):
    """The database does not answer, is locked, or has no room. The same call can be made again later."""


def storage_error(url: sa.URL, error: sa.exc.DBAPIError) -> StorageError | None:
    """The error to show instead of `error`; None if it is a mistake in a statement of ours."""
    code = getattr(error.orig, "sqlite_errorcode", None)
    if url.get_backend_name() == "sqlite" and code is not None:
        return _sqlite_error(url, error, code & 0xFF)
    ended = getattr(error.orig, "sqlstate", None) == IDLE_IN_TRANSACTION
    if isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError) or error.connection_invalidated or ended:
        return StorageAwayError(f"the database {mask(url)} does not answer.\nReason: {reason(url, error)}")
    return None


def _sqlite_error(url: sa.URL, error: sa.exc.DBAPIError, code: int) -> StorageError | None:
    if code == SQLITE_NOTADB:
        return StorageError(
            f"{url.database} is not a SQLite database.\nName another file with --storage sqlite:///FILE."
        )
    if code == SQLITE_FULL:
        free = shutil.disk_usage(Path(url.database or ".").absolute().parent).free
        return StorageAwayError(f"no room to write {url.database}.\nFree on that disk: {free:,} bytes.")
    if code in PASSING:
        return StorageAwayError(f"the database {url.database} does not answer.\nReason: {reason(url, error)}")
    if isinstance(error, sa.exc.IntegrityError | sa.exc.ProgrammingError) or code == 1:
        return None
    return StorageError(f"the database {url.database} cannot be used.\nReason: {reason(url, error)}")


def reason(url: sa.URL, error: sa.exc.DBAPIError) -> str:
    """The driver's own words in one line, without the password."""
    words = " ".join(str(error.orig).split())
    return words.replace(url.password, "***") if url.password else words
