"""Storages of older versions of Optuna, made by Optuna's own migrations up to one of them and filled by hand."""

import hashlib
import json
import shutil
import sqlite3
from pathlib import Path

import alembic.command
import alembic.config
import optuna
import pytest
import sqlalchemy as sa
import together
from optuna.storages import _rdb

from hpsearch.errors import RefusedError, StorageError
from hpsearch.storage import Database, find_study, init_storage, open_database, read_trials, upgrade_storage
from hpsearch.storage.tables import OPTUNA_SCHEMA, hpsearch_leases
from hpsearch.storage.urls import parse_url

OLD = [  # of Optuna before 1.2 (whose upgrade Optuna itself cannot do on Postgres), 2.6 to 2.10, 3.0 to 3.1
    ("sqlite", "v0.9.0.a"),
    ("sqlite", "v2.6.0.a"),
    ("sqlite", "v3.0.0.d"),
    pytest.param(("postgres", "v2.6.0.a"), marks=pytest.mark.postgres),
    pytest.param(("postgres", "v3.0.0.d"), marks=pytest.mark.postgres),
]
UNIFORM = json.dumps({"name": "UniformDistribution", "attributes": {"low": 0.0, "high": 1.0}})
FLOAT = json.dumps({"name": "FloatDistribution", "attributes": {"low": 0.0, "high": 1.0, "step": None, "log": False}})


def migrate(url, revision):
    """A study `theirs` with three finished trials whose value is x squared, as that version kept it."""
    url = url.replace("postgresql:", "postgresql+psycopg:")
    config = alembic.config.Config()
    config.set_main_option("script_location", str(Path(_rdb.__file__).parent / "alembic"))
    config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    alembic.command.upgrade(config, revision)
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        run = connection.exec_driver_sql
        first = revision == "v0.9.0.a"
        run(f"INSERT INTO version_info VALUES (1, {1 if first else 12}, 'old')")
        if first:
            run("INSERT INTO studies (study_id, study_name, direction) VALUES (1, 'theirs', 'MINIMIZE')")
            run("DROP TABLE alembic_version")  # came later
        else:
            run("INSERT INTO studies (study_id, study_name) VALUES (1, 'theirs')")
            run("INSERT INTO study_directions (study_id, direction, objective) VALUES (1, 'MINIMIZE', 0)")
        for number, x in enumerate((0.25, 0.5, 0.75)):
            trial = number + 1
            value = x * x
            if first:
                run(f"INSERT INTO trials (trial_id, study_id, state, value) VALUES ({trial}, 1, 'COMPLETE', {value})")
                columns = "trial_id, key, value_json"
                run(f"INSERT INTO trial_system_attributes ({columns}) VALUES ({trial}, '_number', '{number}')")
            else:
                run(f"INSERT INTO trials (trial_id, number, study_id, state) VALUES ({trial}, {number}, 1, 'COMPLETE')")
                kind = (", value_type", ", 'FINITE'") if revision > "v3.0.0.a" else ("", "")
                columns = f"trial_id, objective, value{kind[0]}"
                run(f"INSERT INTO trial_values ({columns}) VALUES ({trial}, 0, {value}{kind[1]})")
            run(
                "INSERT INTO trial_params (trial_id, param_name, param_value, distribution_json) "
                f"VALUES ({trial}, 'x', {x}, '{FLOAT if revision > 'v3.0.0.a' else UNIFORM}')"
            )
    engine.dispose()


@pytest.fixture(scope="module")
def old_file(tmp_path_factory):
    """`old_file(path, revision)` puts one there, a copy: the migrations to each revision run once."""
    templates = tmp_path_factory.mktemp("old")

    def copy(path, revision):
        if not (template := templates / f"{revision}.db").exists():
            migrate(f"sqlite:///{template}", revision)
        shutil.copy(template, path)

    return copy


@pytest.fixture(scope="module")
def old_on_server(request):
    """The same on Postgres; `old_on_server(revision)` gives its URL."""
    templates = {}

    def copy(revision):
        databases = request.getfixturevalue("postgres_databases")
        if revision not in templates:
            url = databases.new()
            migrate(url, revision)
            templates[revision] = sa.make_url(url).database
        return databases.new(templates[revision])

    return copy


@pytest.fixture(params=OLD, ids="-".join)
def old_url(request, tmp_path, old_file, old_on_server):
    backend, revision = request.param
    if backend == "postgres":
        return old_on_server(revision)
    old_file(tmp_path / "old.db", revision)
    return f"sqlite:///{tmp_path}/old.db"


def test_it_is_refused_with_the_command_that_upgrades(old_url):
    for open_ in (open_database, lambda url: open_database(url, create=True), init_storage):
        with pytest.raises(RefusedError, match=r"older Optuna.*\n.*: hpsearch storage upgrade --storage ") as caught:
            open_(old_url)
        assert len(str(caught.value).splitlines()) == 2


def test_a_refusal_leaves_every_byte_of_the_file(tmp_path, old_file):
    url = f"sqlite:///{tmp_path}/old.db"
    old_file(tmp_path / "old.db", "v2.6.0.a")
    before = hashlib.sha256((tmp_path / "old.db").read_bytes()).hexdigest()
    for create in (False, True):
        with pytest.raises(RefusedError):
            open_database(url, create=create)
    assert hashlib.sha256((tmp_path / "old.db").read_bytes()).hexdigest() == before
    assert [path.name for path in tmp_path.iterdir()] == ["old.db"]


def test_after_the_upgrade_all_studies_are_there(old_url):
    done = upgrade_storage(old_url)
    assert done.before < done.after == OPTUNA_SCHEMA
    db = open_database(old_url, create=True)
    rows = read_trials(db, find_study(db, "theirs"))
    assert [(row.number, row.state, row.params["x"], row.value) for row in rows] == [
        (0, "COMPLETE", 0.25, 0.0625),
        (1, "COMPLETE", 0.5, 0.25),
        (2, "COMPLETE", 0.75, 0.5625),
    ]
    assert optuna.load_study(study_name="theirs", storage=db.optuna_storage()).best_params == {"x": 0.25}
    db.close()
    again = upgrade_storage(old_url)
    assert (again.before, again.after, again.copy) == (OPTUNA_SCHEMA, OPTUNA_SCHEMA, None)


def test_a_sqlite_file_is_copied_first_and_the_first_copy_is_kept(tmp_path, old_file):
    url = f"sqlite:///{tmp_path}/old.db"
    old_file(tmp_path / "old.db", "v3.0.0.d")
    done = upgrade_storage(url)
    assert done.copy == tmp_path / "old-v3.0.0.d.db"
    with sqlite3.connect(done.copy) as copy:
        assert copy.execute("SELECT version_num FROM alembic_version").fetchone() == ("v3.0.0.d",)
        assert copy.execute("SELECT COUNT(*) FROM trials").fetchone() == (3,)
        copy.execute("DELETE FROM trials WHERE trial_id = 3")
    copy.close()
    (tmp_path / "old.db").unlink()
    old_file(tmp_path / "old.db", "v3.0.0.d")
    upgrade_storage(url)
    with sqlite3.connect(done.copy) as copy:
        assert copy.execute("SELECT COUNT(*) FROM trials").fetchone() == (2,)
    copy.close()


def test_many_upgrades_at_once(old_url, processes):
    befores = processes(together.upgrade, old_url)
    assert sorted(before != OPTUNA_SCHEMA for before in befores) == [False] * (together.NUM_PROCESSES - 1) + [True]
    db = open_database(old_url)
    assert len(read_trials(db, find_study(db, "theirs"))) == 3
    db.close()


@pytest.mark.postgres
def test_an_upgrade_may_take_longer_than_a_transaction_may_be_idle(postgres_databases, monkeypatch):
    """The lock is a transaction that waits for the work of other connections: the server must not end it."""
    monkeypatch.setattr("hpsearch.storage.database.IDLE_SECONDS", 0.5)
    db = Database(parse_url(postgres_databases.new()))
    with db.schema_lock(), postgres_databases.engine.connect() as connection:
        connection.execute(sa.text("SELECT pg_sleep(1)"))
    db.close()


def test_our_own_triggers_survive(tmp_path):
    url = f"sqlite:///{tmp_path}/studies.db"
    db = open_database(url, create=True)
    with db.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'v3.0.0.d'")
        connection.exec_driver_sql("DROP TRIGGER hpsearch_leases_go_with_trial")
    upgrade_storage(url)
    with db.write() as connection:
        connection.exec_driver_sql("INSERT INTO trials (trial_id, state) VALUES (7, 'WAITING')")
        connection.execute(sa.insert(hpsearch_leases).values(trial_id=7, attempt=1))
    with db.write() as connection:
        connection.exec_driver_sql("DELETE FROM trials WHERE trial_id = 7")
    with db.read() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(hpsearch_leases)) == 0
    db.close()


def test_what_cannot_be_upgraded(fresh_url, url):
    with pytest.raises(StorageError, match="no studies yet"):
        upgrade_storage(fresh_url)
    db = open_database(url)
    with db.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'v9.0.0.a'")
        connection.exec_driver_sql("ALTER TABLE trial_values RENAME COLUMN value_type TO kind")
    db.close()
    with pytest.raises(RefusedError, match="newer Optuna"):
        upgrade_storage(url)


def test_an_upgrade_that_fails_says_why_and_where_the_copy_is(tmp_path, old_file):
    url = f"sqlite:///{tmp_path}/old.db"
    old_file(tmp_path / "old.db", "v2.6.0.a")
    with sqlite3.connect(tmp_path / "old.db") as connection:
        connection.execute("DROP TABLE trial_params")
    connection.close()
    with pytest.raises(StorageError, match=r"could not be upgraded .*old-v2.6.0.a.db\.\nReason: ") as caught:
        upgrade_storage(url)
    assert len(str(caught.value).splitlines()) == 2


def test_init_says_what_was_there(fresh_url, processes):
    found = processes(together.init, fresh_url)
    assert sorted(found) == ["empty"] + ["ready"] * (together.NUM_PROCESSES - 1)


def test_init_extends_what_optuna_made(fresh_url, tmp_path):
    (tmp_path / "fresh").mkdir()
    storage = optuna.storages.RDBStorage(fresh_url.replace("postgresql:", "postgresql+psycopg:"))
    storage.remove_session()
    storage.engine.dispose()
    assert [init_storage(fresh_url)[1] for _ in range(2)] == ["optuna", "ready"]
