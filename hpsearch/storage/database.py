"""The one place that opens storages.

SQLite: write-ahead log, so that readers and the writer do not wait for each other; every write is BEGIN IMMEDIATE,
because a transaction that reads first and writes later can be refused at any time, and because SQLite has no row
locks (Optuna's own path hands one trial to two workers there). Postgres: plain transactions, READ COMMITTED for
writes, one snapshot per read.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from hpsearch.errors import MissingExtraError, StorageError, Typed
from hpsearch.storage import schema
from hpsearch.storage.failures import reason, storage_error
from hpsearch.storage.tables import create_own_tables
from hpsearch.storage.urls import mask, parse_url

if TYPE_CHECKING:
    import optuna

BUSY_SECONDS = 60.0  # longest wait for another writer of a SQLite file
CONNECT_SECONDS = 10  # longest wait for a Postgres server; libpq would wait for minutes
# A process that is stopped inside a transaction keeps its row locks, and a queue that skips locked rows would pass them
# over for as long; so such a transaction is ended. Ours are idle for milliseconds.
IDLE_SECONDS = 5.0
APPLICATION = "hpsearch"  # the name of our sessions


class Database:
    """A storage with its connections. Threads may share one; a forked child opens its own.

    Attributes:
        url: the URL with passwords masked.
        path: the file, if it is SQLite.
    """

    def __init__(self, url: sa.URL) -> None:
        self._url = url
        self.url = mask(url)
        self.is_sqlite = url.get_backend_name() == "sqlite"
        self.path = Path(url.database or "") if self.is_sqlite else None
        self._has_own_tables = False
        try:
            self._engine = sa.create_engine(url, **_engine_options(url))
        except ImportError:
            raise MissingExtraError("Postgres", "psycopg", "postgres") from None
        if self.is_sqlite:
            sa.event.listen(self._engine, "connect", _set_pragmas)
            sa.event.listen(self._engine, "connect", _begin_by_hand)
            sa.event.listen(self._engine, "begin", _begin)
            self._readers: sa.Engine = self._engine
            self._writers: sa.Engine = self._engine.execution_options(begin="BEGIN IMMEDIATE")
        else:
            sa.event.listen(self._engine, "connect", _end_idle_transactions)
            self._readers = self._engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            self._writers = self._engine.execution_options(isolation_level="READ COMMITTED")
        _opened.add(self)
        # An engine is in a circle with its parts: its connections would stay until somebody looks for garbage.
        weakref.finalize(self, self._engine.dispose).atexit = False

    def __repr__(self) -> str:
        return f"Database({self.url!r})"

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A connection whose queries all see one state of the database.

        Raises:
            StorageAwayError: the database does not answer now.
        """
        with self._said_plainly(), self._readers.begin() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A connection in one transaction: all is written, or nothing if the block raises.

        Raises:
            StorageAwayError: the database does not answer now; whether the last commit arrived is not known.
        """
        with self._said_plainly(), self._writers.begin() as connection:
            yield connection

    @contextmanager
    def _said_plainly(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.DBAPIError as error:
            plain = storage_error(self._url, error)
            if plain is None:
                raise
            raise plain from error

    @property
    def now(self) -> sa.ColumnElement[float]:
        """The database's own clock as an SQL expression: Unix time in seconds."""
        if self.is_sqlite:
            return (sa.func.julianday("now", type_=sa.Float) - 2440587.5) * 86400.0  # 1970-01-01; s in a day
        return sa.cast(sa.extract("epoch", sa.func.clock_timestamp()), sa.Float(53))

    def read_now(self) -> float:
        """The database's own clock: Unix time in seconds."""
        with self.read() as connection:
            return float(connection.execute(sa.select(self.now)).scalar_one())

    def has_own_tables(self) -> bool:
        """Whether there are leases and epochs; a database made by Optuna alone has none."""
        if not self._has_own_tables:
            with self.read() as connection:
                self._has_own_tables = schema.inspect(connection, self.url) == "ready"
        return self._has_own_tables

    def optuna_storage(self) -> optuna.storages.BaseStorage:
        """This database as Optuna sees it, for those who want an `optuna.Study`. Trials are cached in it."""
        return self._optuna_storage

    @cached_property
    def _optuna_storage(self) -> optuna.storages.BaseStorage:
        import optuna

        storage = self.rdb_storage({}, skip_table_creation=True)
        if self.is_sqlite:
            sa.event.listen(storage.engine, "connect", _set_pragmas)
            storage.engine.dispose()  # connections made before
        return optuna.storages.get_storage(storage)

    def rdb_storage(self, engine_options: dict[str, Any], **options: Any) -> optuna.storages.RDBStorage:
        """Optuna's own storage on this database, with its own connections; `options` are its arguments."""
        import optuna

        text = self._url.render_as_string(hide_password=False)
        text = text.replace("{", "{{").replace("}", "}}")  # Optuna treats the URL as a format string
        engine_options = {**_engine_options(self._url), **engine_options}
        return optuna.storages.RDBStorage(text, engine_kwargs=engine_options, **options)

    def create_schema(self) -> schema.State:
        """Make what is missing of Optuna's tables and ours; gives what there was. Many may call it at once."""
        try:
            with self.schema_lock():
                return self._create_missing_tables()
        except sa.exc.DBAPIError as error:  # no mistake of ours, these statements work: a right is missing
            raise StorageError(
                f"the tables cannot be made in {self.url}.\nReason: {reason(self._url, error)}"
            ) from error

    @contextmanager
    def schema_lock(self) -> Iterator[None]:
        """Keeps all others away who would make or upgrade the schema."""
        with self._said_plainly(), schema.lock(self._engine, self.path):
            yield

    def _create_missing_tables(self) -> schema.State:
        with self.read() as connection:
            state = schema.inspect(connection, self.url)
        if state == "empty" and not self._created_optuna_tables():
            # No pool: if Optuna fails halfway, nobody could close what is in it.
            self.rdb_storage({"poolclass": sa.NullPool}).remove_session()
        if self.is_sqlite:
            with closing(self._engine.raw_connection()) as raw:
                raw.cursor().execute("PRAGMA journal_mode = WAL")  # stays with the file
        with self.write() as connection:
            create_own_tables(connection)
        return state

    def _created_optuna_tables(self) -> bool:
        from hpsearch.storage.optuna_schema import create_optuna_tables  # once in the life of a database

        with self.write() as connection:
            return create_optuna_tables(connection)

    def end_stuck_transactions(self) -> None:
        """End transactions of ours, in any process, that have waited for their client for IDLE_SECONDS.

        Postgres's own timeout does not begin in the middle of a batch of statements, which is where most of our
        transactions spend their time. A SQLite file has no server that could do this.
        """
        if self.is_sqlite:
            return
        stuck = sa.text(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
            " AND usename = current_user AND application_name = :name AND pid <> pg_backend_pid()"
            " AND state <> 'idle' AND wait_event_type = 'Client'"
            " AND greatest(xact_start, state_change) < clock_timestamp() - make_interval(secs => :seconds)"
        )
        with self.read() as connection:
            connection.execute(stuck, {"name": APPLICATION, "seconds": IDLE_SECONDS})

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()
        storage = self.__dict__.pop("_optuna_storage", None)
        if storage is not None:
            storage.remove_session()
            storage._backend.engine.dispose()


def close_databases() -> None:
    """Close all connections of this process, before it ends in a way that leaves them to the system."""
    for db in list(_opened):
        db.close()


_opened: weakref.WeakSet[Database] = weakref.WeakSet()


def open_database(url: str, create: bool = False) -> Database:
    """Open the storage at `url`, for the first time too if `create`.

    Raises:
        ConfigError: the URL is not one of ours.
        MissingExtraError: Postgres without psycopg.
        StorageError: it cannot be opened; or it has no studies yet, and `create` is false.
        RefusedError: its schema is older or newer than ours; nothing is changed.
    """
    db = Database(parse_url(url))
    try:
        if db.path is not None and not db.path.is_file():
            if not create:
                raise no_studies(db.url)
            make_folder(db.path)
        with db.read() as connection:
            state = schema.inspect(connection, db.url)
        if state != "ready" and create:
            db.create_schema()
        elif state == "empty":
            raise no_studies(db.url)
    except BaseException:
        db.close()
        raise
    return db


def no_studies(url: str) -> StorageError:
    """Of a database in which nothing was searched."""
    first = Typed(("hpsearch", "coarse"), anew=True)
    return StorageError(f"there are no studies yet in {url}.\nMake the first one with: ", first)


def make_folder(path: Path) -> None:
    """The folder of a SQLite file, unless it is there.

    Raises:
        StorageError: it cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"the folder {path.parent} cannot be made.\nReason: {error.strerror}.") from error


def _engine_options(url: sa.URL) -> dict[str, Any]:
    if url.get_backend_name() == "sqlite":
        return {"connect_args": {"timeout": BUSY_SECONDS}}
    timeout = {} if "connect_timeout" in url.query else {"connect_timeout": CONNECT_SECONDS}
    return {"connect_args": timeout, "pool_pre_ping": True}


def _set_pragmas(connection: Any, _record: Any) -> None:
    connection.execute("PRAGMA synchronous = NORMAL")  # safe with a write-ahead log; a power cut may cost the last ones
    connection.execute("PRAGMA foreign_keys = ON")


def _end_idle_transactions(connection: Any, _record: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"SET idle_in_transaction_session_timeout = '{1000 * IDLE_SECONDS:.0f}ms'")
        cursor.execute(f"SET application_name = '{APPLICATION}'")
    connection.commit()


def _begin_by_hand(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # the driver would begin by itself, and only before a write


def _begin(connection: sa.Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN"))
