import gc
import sqlite3
import time

import optuna
import pytest
import sqlalchemy as sa
import together

from hpsearch.errors import RefusedError, StorageError
from hpsearch.storage import (
    NewTrial,
    Queue,
    StorageAwayError,
    create_stage,
    failures,
    find_study,
    list_studies,
    open_database,
    open_late,
    read_epochs,
    read_trials,
)
from hpsearch.storage import database as database_module
from hpsearch.storage.tables import OPTUNA_SCHEMA, OWN_SCHEMA, trials


def two_lines(error):
    return len(str(error.value).splitlines()) == 2


def test_a_storage_without_studies_says_what_to_run(fresh_url):
    with pytest.raises(StorageError, match=r"no studies yet in .*\n.*hpsearch coarse") as caught:
        open_database(fresh_url)
    assert two_lines(caught)


def test_reading_makes_no_file(tmp_path):
    with pytest.raises(StorageError):
        open_database(f"sqlite:///{tmp_path}/a/b.db")
    assert list(tmp_path.iterdir()) == []


def test_creating_makes_the_folder(tmp_path):
    open_database(f"sqlite:///{tmp_path}/a/b.db", create=True).close()
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"b.db", "b.db.lock"}


def test_a_file_is_made_late_by_the_first_write_or_by_another_process(tmp_path):
    url = f"sqlite:///{tmp_path}/a/b.db"
    first, second = (open_late(url) for _ in range(2))
    assert list_studies(first) == list_studies(second) == []
    assert abs(first.read_now() - time.time()) < 5
    assert not first.has_own_tables()
    assert list(tmp_path.iterdir()) == []
    create_stage(first, "made", "maximize", {}, {}, [NewTrial({}, {})])
    assert [study.name for study in list_studies(second)] == ["made"]
    assert first.has_own_tables()
    assert second.has_own_tables()
    first.close()
    second.close()


def test_a_file_that_cannot_be_made_is_refused_at_once(tmp_path):
    (tmp_path / "notes.txt").write_text("no folder")
    for path in (f"{tmp_path}/notes.txt/b.db", str(tmp_path), "/proc/nowhere/b.db"):
        with pytest.raises(StorageError, match=path.removesuffix("/b.db")):
            open_late(f"sqlite:///{path}")


def test_a_name_with_odd_characters(tmp_path):
    url = f"sqlite:///{tmp_path}/a {{b}} é.db"
    open_database(url, create=True).close()
    db = open_database(url)
    assert optuna.get_all_study_names(db.optuna_storage()) == []
    db.close()
    assert {path.name for path in tmp_path.iterdir()} == {"a {b} é.db", "a {b} é.db.lock"}


def test_what_nobody_holds_any_more_is_closed_at_once(tmp_path):
    url = f"sqlite:///{tmp_path}/s.db"
    gc.disable()
    try:
        db = open_database(url, create=True)
        assert list_studies(db) == []
        assert (tmp_path / "s.db-wal").exists()
        del db
        assert not (tmp_path / "s.db-wal").exists()
    finally:
        gc.enable()


def test_opening_again_changes_nothing(url):
    for create in (False, True):
        db = open_database(url, create=create)
        assert db.has_own_tables()
        assert list_studies(db) == []
        db.close()


def test_first_openings_at_once(fresh_url, processes):
    assert processes(together.open_fresh, fresh_url) == [True] * together.NUM_PROCESSES


def test_the_database_of_plain_optuna_is_read_and_then_extended(fresh_url, tmp_path):
    (tmp_path / "fresh").mkdir()
    storage = optuna.storages.RDBStorage(fresh_url.replace("postgresql:", "postgresql+psycopg:"))
    study = optuna.create_study(storage=storage, study_name="theirs")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    storage.remove_session()
    storage.engine.dispose()

    db = open_database(fresh_url)
    theirs = find_study(db, "theirs")
    assert len(read_trials(db, theirs)) == 2
    assert not db.has_own_tables()
    assert read_epochs(db, theirs) == {}
    open_database(fresh_url, create=True).close()
    assert db.has_own_tables()
    assert len(read_trials(db, theirs)) == 2
    db.close()


@pytest.mark.parametrize("create", [False, True])
@pytest.mark.parametrize(
    ("statement", "words"),
    [
        (f"UPDATE hpsearch_version SET version = {OWN_SCHEMA + 1}", "newer hpsearch"),
        ("UPDATE alembic_version SET version_num = 'v3.0.0.d'", "hpsearch storage upgrade"),
    ],
)
def test_other_schemas_are_refused(url, statement, words, create):
    db = open_database(url)
    with db.write() as connection:
        connection.exec_driver_sql(statement)
    db.close()
    with pytest.raises(RefusedError, match=words) as caught:
        open_database(url, create=create)
    assert two_lines(caught)


def test_a_newer_optuna_is_read_while_its_columns_are_ours(url):
    assert OPTUNA_SCHEMA < "v9"
    db = open_database(url)
    with db.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'v9.0.0.a'")
    open_database(url).close()
    with db.write() as connection:
        connection.exec_driver_sql("ALTER TABLE trial_values RENAME COLUMN value_type TO kind")
    db.close()
    with pytest.raises(RefusedError, match="newer Optuna"):
        open_database(url)


def test_what_is_no_database(tmp_path):
    (tmp_path / "notes.txt").write_text("not a database, " * 100)
    for create in (False, True):
        with pytest.raises(StorageError, match=r"notes.txt is not a SQLite database") as caught:
            open_database(f"sqlite:///{tmp_path}/notes.txt", create=create)
        assert two_lines(caught)
    with pytest.raises(StorageError, match="cannot be made") as caught:
        open_database(f"sqlite:///{tmp_path}/notes.txt/a/b.db", create=True)
    assert two_lines(caught)
    with pytest.raises(StorageError, match=str(tmp_path)) as caught:
        open_database(f"sqlite:///{tmp_path}", create=True)
    assert two_lines(caught)


def test_the_clock_is_that_of_the_database(db):
    with db.read() as connection:
        seconds = connection.scalar(sa.select(db.now))
    assert isinstance(seconds, float)
    assert abs(seconds - time.time()) < 5


def test_a_write_is_whole_or_not_at_all(db):
    def stop_halfway():
        with db.write() as connection:
            connection.exec_driver_sql("INSERT INTO studies (study_name) VALUES ('half')")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop_halfway()
    assert list_studies(db) == []


def test_a_read_sees_one_state(db):
    with db.read() as reader:
        count = sa.text("SELECT COUNT(*) FROM studies")
        assert reader.scalar(count) == 0
        with db.write() as writer:  # neither waits for the other
            writer.exec_driver_sql("INSERT INTO studies (study_name) VALUES ('new')")
        assert reader.scalar(count) == 0
    assert len(list_studies(db)) == 1


def test_sqlite_has_one_writer_from_the_start(sqlite_template, monkeypatch):
    monkeypatch.setattr(database_module, "BUSY_SECONDS", 0.05)
    first, second = (open_database(f"sqlite:///{sqlite_template}") for _ in range(2))
    with first.write():  # has written nothing so far
        assert list_studies(second) == []
        with pytest.raises(StorageAwayError, match="locked"), second.write():
            pass
    first.close()
    second.close()


def test_a_full_disk_names_the_path_and_the_room(tmp_path):
    db = open_database(f"sqlite:///{tmp_path}/studies.db", create=True)

    def write_much():
        with db.write() as connection:
            connection.exec_driver_sql("PRAGMA max_page_count = 1")
            connection.exec_driver_sql("INSERT INTO studies (study_name) VALUES (?)", ("x" * 100_000,))

    with pytest.raises(StorageAwayError, match=r"studies.db.\nFree on that disk: [\d,]+ bytes"):
        write_much()
    assert list_studies(db) == []
    db.close()


@pytest.mark.postgres
def test_a_lost_server_is_an_error_that_passes(postgres_databases, postgres_template):
    db = open_database(postgres_databases.new(postgres_template))

    def lose_the_server():
        with db.write() as connection:
            pid = connection.scalar(sa.text("SELECT pg_backend_pid()"))
            with db.write() as other:
                other.execute(sa.text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
            connection.execute(sa.text("SELECT 1"))

    with pytest.raises(StorageAwayError, match="does not answer"):
        lose_the_server()
    assert list_studies(db) == []
    db.close()


@pytest.mark.postgres
def test_a_missing_right_is_said_in_two_lines(postgres_databases):
    url = postgres_databases.new()
    with postgres_databases.engine.connect() as connection:
        connection.execute(sa.text("DROP ROLE IF EXISTS hpsearch_reader"))
        connection.execute(sa.text("CREATE ROLE hpsearch_reader LOGIN PASSWORD 'canary'"))
    reader = sa.make_url(url).set(username="hpsearch_reader", password="canary")
    with pytest.raises(StorageError, match=r"tables cannot be made in .*\nReason: .*permission denied") as caught:
        open_database(reader.render_as_string(hide_password=False), create=True)
    assert two_lines(caught)
    assert "canary" not in str(caught.value)


def test_our_own_mistakes_stay_as_they_are(db):
    with pytest.raises(sa.exc.DBAPIError), db.read() as connection:
        connection.exec_driver_sql("SELECT nothing FROM nowhere")
    assert failures.storage_error(db._url, sa.exc.IntegrityError("", {}, sqlite3.IntegrityError())) is None


@pytest.mark.postgres
def test_a_process_stopped_in_a_transaction_does_not_keep_its_locks(postgres_databases, postgres_template, monkeypatch):
    """Rows that stay locked are skipped by everyone who looks for work: the server has to end such a transaction."""
    monkeypatch.setattr("hpsearch.storage.database.IDLE_SECONDS", 0.3)
    url = postgres_databases.new(postgres_template)
    stopped, other = open_database(url), open_database(url)
    study = create_stage(stopped, "s", "maximize", {}, {}, [NewTrial({})])
    with pytest.raises(StorageAwayError, match="does not answer"), stopped.write() as connection:  # noqa: PT012
        connection.execute(sa.select(trials).with_for_update())
        queue = Queue(other, study, "host/1/other")
        assert not queue.take(1)
        deadline = time.monotonic() + 600
        while not queue.take(1):
            assert time.monotonic() < deadline
        connection.execute(sa.select(trials))
    assert stopped.read_now() > 0  # with a new connection
    stopped.close()
    other.close()


@pytest.mark.postgres
def test_nor_does_one_stopped_in_the_middle_of_a_batch(postgres_databases, postgres_template, monkeypatch):
    """The server's own timeout begins between statements only; whoever waits for work ends such a transaction."""
    url = postgres_databases.new(postgres_template)
    stopped = open_database(url)
    study = create_stage(stopped, "s", "maximize", {}, {}, [NewTrial({})])
    with pytest.raises(StorageAwayError), stopped.write() as connection:  # noqa: PT012
        connection.execute(sa.text("SET idle_in_transaction_session_timeout = 0"))  # as if it had not begun
        connection.execute(sa.select(trials).with_for_update())
        monkeypatch.setattr("hpsearch.storage.database.IDLE_SECONDS", 0.3)
        other = open_database(url)
        queue = Queue(other, study, "host/1/other")
        deadline = time.monotonic() + 600
        while not queue.take(1):
            queue.release_dead()
            assert time.monotonic() < deadline
        connection.execute(sa.select(trials))
    stopped.close()
    other.close()
