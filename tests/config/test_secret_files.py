import pytest

from hpsearch.config import load_settings
from hpsearch.errors import ConfigError
from hpsearch.storage.urls import parse_url

URL = "postgresql://me@db:5433/name?sslmode=require"


def load(storage=None, **environment):
    names = {"url": "HPSEARCH_STORAGE", "file": "HPSEARCH_STORAGE_FILE", "password": "HPSEARCH_STORAGE_PASSWORD_FILE"}
    environment = {names[name]: str(value) for name, value in environment.items()}
    return load_settings(environment=environment, flags={"run.storage": storage}).run.storage


@pytest.fixture
def secret(tmp_path):
    def write(content, name="secret"):
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return tmp_path / name

    return write


def complain(words, **given):
    with pytest.raises(ConfigError) as caught:
        load(**given)
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 2
    assert "hidden" not in str(caught.value)


def test_the_url_from_a_file(secret):
    assert load(file=secret(f"{URL}\n")) == URL
    assert load(storage="sqlite:///x.db", file="/nowhere") == "sqlite:///x.db"  # a flag wins


@pytest.mark.parametrize("password", ["simple", "p@ss:w/o?r#d %41[]", "ünïcödé", " spaces "])
def test_the_password_from_a_file_goes_into_the_url(secret, password):
    url = parse_url(load(url=URL, password=secret(password + "\n")))
    assert (url.username, url.password, url.host, url.port, url.database) == ("me", password, "db", 5433, "name")
    assert dict(url.query) == {"sslmode": "require"}


def test_a_password_goes_with_a_url_from_a_file_a_flag_or_a_socket(secret):
    password = secret("hidden")
    assert parse_url(load(file=secret(URL, "url"), password=password)).password == "hidden"
    assert parse_url(load(storage=URL, password=password)).password == "hidden"
    assert parse_url(load(url="postgresql://me:@/name?host=%2Frun%2Fpg", password=password)).query["host"] == "/run/pg"
    assert load(storage="sqlite:///x.db", password=password) == "sqlite:///x.db"


def test_given_twice(secret):
    complain("HPSEARCH_STORAGE and HPSEARCH_STORAGE_FILE are both given", url=URL, file=secret("x"))
    for twice in (URL.replace("me@", "me:hidden@"), f"{URL}&password=hidden"):
        complain("HPSEARCH_STORAGE_PASSWORD_FILE is given too", url=twice, password=secret("hidden"))


def test_files_that_cannot_be_used(secret, tmp_path):
    for given in ({"file": None}, {"url": URL, "password": None}):
        key = list(given)[-1]
        complain(f"{tmp_path}/missing cannot be read: No such file", **{**given, key: tmp_path / "missing"})
        complain(f"{tmp_path} cannot be read: Is a directory", **{**given, key: tmp_path})
        for content, words in (
            ("", "is empty"),
            (" \n\n", "is empty"),
            ("hidden\nhidden\n", "more than one line"),
            (b"\xff\xfehidden", "not a text file"),
            ("hidden" * 10_000, "more than one line"),
        ):
            complain(words, **{**given, key: secret(content)})


def test_a_storage_that_takes_no_password(secret):
    complain("which has no password", password=secret("hidden"))  # the default one: HPSEARCH_STORAGE was forgotten
    complain("names no user", url="postgresql://db/name", password=secret("hidden"))


def test_what_is_no_url_is_left_to_whoever_opens_it(secret):
    assert load(url="postgresql://[broken", password=secret("x")) == "postgresql://[broken"
