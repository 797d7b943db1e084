import sys

import pytest
import sqlalchemy as sa

from hpsearch.errors import ConfigError, MissingExtraError, StorageError
from hpsearch.storage import open_database
from hpsearch.storage.failures import storage_error
from hpsearch.storage.urls import mask, parse_url

CANARY = "s3cret-canary"


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_postgres_has_one_driver(scheme):
    url = parse_url(f"{scheme}://me:{CANARY}@db.example/studies")
    assert url.drivername == "postgresql+psycopg"
    assert url.password == CANARY
    assert mask(url) == "postgresql+psycopg://me:***@db.example/studies"


def test_sqlite_is_a_file():
    assert parse_url("sqlite:///a/b.db").database == "a/b.db"
    assert mask(parse_url("sqlite:////a/b.db")) == "sqlite:////a/b.db"


@pytest.mark.parametrize(
    "text",
    [
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///file:a?mode=memory&uri=true",
        f"mysql://me:{CANARY}@host/db",
        f"postgresql+asyncpg://me:{CANARY}@host/db",
        f"postgresql://me:{CANARY}@host",
        "postgresql://me@host:port/db",
        "studies.db",
        "",
    ],
)
def test_other_urls_are_refused_with_what_is_allowed(text):
    with pytest.raises(ConfigError, match=r"sqlite:///FILE, postgresql://USER@HOST/NAME") as caught:
        open_database(text)
    assert CANARY not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize(
    "text",
    [
        f"postgresql://me:{CANARY}@host/db?password={CANARY}",
        f"postgresql://host/db?sslpassword={CANARY}",
        f"postgresql//me:{CANARY}@host/db",
        f"postgresql://me:{CANARY}@host:port/db",
        f"me:{CANARY}@host",
        f"nonsense?password={CANARY}",
    ],
)
def test_a_password_is_never_shown(text):
    try:
        shown = mask(parse_url(text))
    except ConfigError as error:
        shown = str(error)
    assert CANARY not in shown
    assert "***" in shown


def test_a_password_in_the_drivers_words_is_masked():
    url = parse_url(f"postgresql://me:{CANARY}@host/db")
    error = sa.exc.OperationalError("SELECT 1", {}, Exception(f"bad: {CANARY}"))
    assert CANARY not in str(storage_error(url, error))


def test_an_unreachable_server_is_named_without_the_password():
    with pytest.raises(StorageError, match=r"127.0.0.1:1/db does not answer") as caught:
        open_database(f"postgresql://me:{CANARY}@127.0.0.1:1/db")
    assert CANARY not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 2


def test_postgres_without_psycopg_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingExtraError, match=r"hpsearch\[postgres\]"):
        open_database("postgresql://host/db")
