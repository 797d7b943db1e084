"""Searches that take a second, and where they are kept: fixtures for the rooms that train."""

import functools
import tempfile
from pathlib import Path

import pytest

from hpsearch.config import load_settings
from hpsearch.storage import open_database

TINY = {
    "data": {
        "source": "synthetic",
        "synthetic": {"shape": [1, 4, 4], "classes": 3, "train": 90, "test": 9, "noise": 0.5},
    },
    "model": {"name": "mlp", "hidden": [6]},
    "train": {"batch_size": 20},
    "coarse": {"trials": 12, "epochs": 2},
    "fine": {"trials": 6, "epochs": 3},
    "run": {"device": "cpu", "threads": 1},
}


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def tiny():
    """A search that takes a second: settings from the study file above and other keys by dotted path."""

    def build(**other):
        flags = {key.replace("__", "."): value for key, value in other.items() if key != "space"}
        return load_settings(stored=TINY, flags=flags, spaces=other.get("space", ()))

    return build


@functools.cache
def _empty_database():
    """The bytes of a file with the schema and no studies: to copy them takes a quarter of what making them takes."""
    with tempfile.TemporaryDirectory() as folder:
        open_database(f"sqlite:///{folder}/studies.db", create=True).close()
        return Path(folder, "studies.db").read_bytes()


@pytest.fixture
def db(tmp_path):
    path = tmp_path / "studies.db"
    path.write_bytes(_empty_database())
    return open_database(f"sqlite:///{path}")
