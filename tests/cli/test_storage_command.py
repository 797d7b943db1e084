"""storage init and upgrade, and secrets from files, as the commands that people and containers run."""

import hashlib
import json
import sqlite3

import optuna
import pytest
import sqlalchemy as sa

from hpsearch.storage.tables import OPTUNA_SCHEMA


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/deep/studies.db"
    return request.getfixturevalue("postgres_databases").new()


def make_old(url):
    """Optuna's 3.0 schema is that of today but for an index."""
    storage = optuna.storages.RDBStorage(url.replace("postgresql:", "postgresql+psycopg:"))
    study = optuna.create_study(storage=storage, study_name="theirs")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    with storage.engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = 'v3.0.0.d'"))
        connection.execute(sa.text("DROP INDEX IF EXISTS ix_trials_study_id"))
    storage.remove_session()
    storage.engine.dispose()


@pytest.mark.slow
def test_init_says_what_it_made_and_then_what_it_found(hpsearch, url):
    assert "made the tables" in hpsearch("storage", "init", HPSEARCH_STORAGE=url).stdout
    assert "nothing to do" in hpsearch("storage", "init", HPSEARCH_STORAGE=url).stdout
    said = hpsearch.json("storage", "init", HPSEARCH_STORAGE=url)
    assert (said["found"], said["made"]) == ("ready", False)
    assert hpsearch.json("status", HPSEARCH_STORAGE=url) == []


def test_init_where_nothing_can_be_made(hpsearch):
    done = hpsearch("storage", "init", "--storage", "sqlite:////proc/nowhere/x.db", code=1)
    assert "/proc/nowhere" in done.stderr
    assert len(done.stderr.splitlines()) == 2


@pytest.mark.slow
def test_an_old_storage_is_refused_and_then_upgraded(hpsearch, tmp_path, url):
    (tmp_path / "deep").mkdir()
    make_old(url)
    for command in (("status",), ("coarse", "-c", "tiny.toml")):
        done = hpsearch(*command, code=3, HPSEARCH_STORAGE=url)
        assert done.stdout == ""
        assert "hpsearch storage upgrade --storage " in done.stderr.splitlines()[1]
    done = hpsearch("storage", "upgrade", HPSEARCH_STORAGE=url)
    assert f"from schema v3.0.0.d to {OPTUNA_SCHEMA}" in done.stdout
    assert done.stderr == ""
    assert "nothing to do" in hpsearch("storage", "upgrade", HPSEARCH_STORAGE=url).stdout
    hpsearch("coarse", "-c", "tiny.toml", "--skip-checks", HPSEARCH_STORAGE=url)
    assert sorted(row["study"] for row in hpsearch.json("status", HPSEARCH_STORAGE=url)) == ["coarse", "theirs"]


def test_refused_commands_leave_the_file_as_it_is(hpsearch):
    make_old(f"sqlite:///{hpsearch.folder}/old.db")
    before = hashlib.sha256((hpsearch.folder / "old.db").read_bytes()).digest()
    names = sorted(path.name for path in hpsearch.folder.iterdir())
    for command in (
        ("status",),
        ("coarse", "-c", "tiny.toml"),
        ("fine", "--from", "theirs"),
        ("worker", "theirs"),
        ("stop", "theirs"),
        ("dashboard", "--port", "0"),
        ("storage", "init"),
    ):
        hpsearch(*command, "--storage", "sqlite:///old.db", code=3)
        assert hashlib.sha256((hpsearch.folder / "old.db").read_bytes()).digest() == before, command
        assert sorted(path.name for path in hpsearch.folder.iterdir()) == names, command


def test_a_newer_storage_is_not_upgraded(hpsearch):
    hpsearch("storage", "init", "--storage", "sqlite:///new.db")
    with sqlite3.connect(hpsearch.folder / "new.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'v9.0.0.a'")
        connection.execute("ALTER TABLE trial_values RENAME COLUMN value_type TO kind")
    connection.close()
    assert "newer Optuna" in hpsearch("storage", "upgrade", "--storage", "sqlite:///new.db", code=3).stderr


def test_nothing_to_upgrade(hpsearch):
    assert "no studies yet" in hpsearch("storage", "upgrade", "--storage", "sqlite:///no.db", code=1).stderr
    assert not (hpsearch.folder / "no.db").exists()


def test_json_of_an_upgrade(hpsearch):
    make_old(f"sqlite:///{hpsearch.folder}/old.db")
    said = hpsearch.json("storage", "upgrade", "--storage", "sqlite:///old.db")
    assert (said["before"], said["after"], said["copy"]) == ("v3.0.0.d", OPTUNA_SCHEMA, "old-v3.0.0.d.db")
    assert (hpsearch.folder / "old-v3.0.0.d.db").is_file()


def test_a_fleet_of_processes_takes_its_storage_from_a_file(hpsearch):
    """The processes that the command starts get the URL itself: both ways at once would be refused."""
    (hpsearch.folder / "url").write_text("sqlite:///here.db\n")
    hpsearch("coarse", "-c", "tiny.toml", "--skip-checks", "--workers", "2", HPSEARCH_STORAGE_FILE="url")
    [row] = hpsearch.json("status", "--storage", "sqlite:///here.db")
    assert row["trials"] == row["finished"] == 12


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"HPSEARCH_STORAGE_FILE": "missing"}, "HPSEARCH_STORAGE_FILE missing cannot be read"),
        ({"HPSEARCH_STORAGE_FILE": "tiny.toml", "HPSEARCH_STORAGE": "sqlite:///x.db"}, "both given"),
        ({"HPSEARCH_STORAGE": "postgresql://a@b/c", "HPSEARCH_STORAGE_PASSWORD_FILE": "empty"}, "empty is empty"),
    ],
)
def test_secret_files_that_cannot_be_used(hpsearch, environment, words):
    (hpsearch.folder / "empty").write_text("")
    done = hpsearch("status", code=2, **environment)
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 2


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"HPSEARCH_DASHBOARD_TOKEN_FILE": "missing"}, "HPSEARCH_DASHBOARD_TOKEN_FILE missing cannot be read"),
        ({"HPSEARCH_DASHBOARD_TOKEN_FILE": "empty"}, "empty is empty"),
        ({"HPSEARCH_DASHBOARD_TOKEN_FILE": "short"}, "at least 16"),
        ({"HPSEARCH_DASHBOARD_TOKEN_FILE": "short", "HPSEARCH_DASHBOARD_TOKEN": "x" * 20}, "both given"),
    ],
)
def test_token_files_that_cannot_be_used(hpsearch, environment, words):
    (hpsearch.folder / "empty").write_text("")
    (hpsearch.folder / "short").write_text("canary")
    done = hpsearch("dashboard", "--port", "0", code=2, **environment)
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 2
    assert "canary" not in done.stderr


def test_the_commands_are_in_the_help(hpsearch):
    said = hpsearch("storage", "--help").stdout
    assert "init" in said
    assert "upgrade" in said
    assert json.loads(hpsearch("storage", "init", "--json").stdout)["found"] == "empty"
