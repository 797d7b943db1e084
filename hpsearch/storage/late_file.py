"""A database whose file is made by the first write, so that a search that is refused before it begins leaves none."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import sqlalchemy as sa
from typing_extensions import override

from hpsearch.phases import phase
from hpsearch.storage.database import Database, make_folder, open_database
from hpsearch.storage.tables import optuna_metadata
from hpsearch.storage.urls import parse_url


def open_late(url: str) -> Database:
    """As `open_database` with `create`, but that a SQLite file which is not there is made by the first write.

    Raises:
        HpsearchError: as `open_database`; also where no file could be made.
    """
    parsed = parse_url(url)
    if parsed.get_backend_name() == "sqlite" and _can_be_made(Path(parsed.database or "")):
        return LateFile(parsed)
    return open_database(url, create=True)


class LateFile(Database):
    """A SQLite file that is not there: until something is written, or another process makes it, reads find nothing."""

    _is_made = False

    @override
    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        assert self.path is not None, "a server's database is no file"
        if not self._is_made and not self.path.exists():
            with self._nothing.begin() as connection:
                yield connection
            return
        self._make()
        with super().read() as connection:
            yield connection

    @override
    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        self._make()
        with super().write() as connection:
            yield connection

    @override
    def close(self) -> None:
        super().close()
        if (engine := self.__dict__.pop("_nothing", None)) is not None:
            engine.dispose()

    def _make(self) -> None:
        if self._is_made:
            return
        assert self.path is not None, "a server's database is no file"
        self._is_made = True
        with phase("database"):
            make_folder(self.path)
            self.create_schema()

    @cached_property
    def _nothing(self) -> sa.Engine:
        """A database without studies, in memory."""
        options = {"poolclass": sa.StaticPool, "connect_args": {"check_same_thread": False}}
        engine = sa.create_engine("sqlite://", **options)
        optuna_metadata.create_all(engine)
        return engine


def _can_be_made(path: Path) -> bool:
    """Whether it is not there, and nothing hinders it; where something does, making it says what."""
    if path.exists():
        return False
    try:
        with tempfile.TemporaryFile(dir=next(folder for folder in path.absolute().parents if folder.exists())):
            return True
    except OSError:
        return False
