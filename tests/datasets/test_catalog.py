from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from archives import Server

from hpsearch.config import DataConfig
from hpsearch.config.data_sources import SOURCES
from hpsearch.datasets.catalog import describe, fetch, is_present, list_sources
from hpsearch.datasets.sources import load_test, load_train
from hpsearch.errors import ConfigError


def test_every_source_is_listed(tmp_path: Path) -> None:
    assert {row.name for row in list_sources(tmp_path)} == {
        *SOURCES,
        "folder:PATH",
        "csv:PATH",
        "npz:PATH",
        "MODULE:FUNCTION",
    }


@pytest.mark.parametrize("name", ["digits", "faces"])
def test_the_list_tells_the_truth(name: str, tmp_path: Path) -> None:
    row = next(row for row in list_sources(tmp_path) if row.name == name)
    train, test = load_train(DataConfig(source=name)), load_test(DataConfig(source=name))
    assert (row.classes, row.shape, row.num_train, row.num_test) == (
        train.num_classes,
        train.shape,
        len(train),
        len(test),
    )


def test_presence_follows_the_download(mnist: Server, tmp_path: Path) -> None:
    assert not is_present(DataConfig(source="mnist"), tmp_path)
    assert is_present(DataConfig(source="digits"), tmp_path)
    load_train(DataConfig(source="mnist"), tmp_path)
    assert {row.name: row.present for row in list_sources(tmp_path)}["mnist"]


def test_describe_counts_and_measures_the_training_split(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (40, 1, 4, 4), dtype=np.uint8)
    path = tmp_path / "a.npz"
    np.savez(path, x_train=x, y_train=np.repeat([0, 1], [10, 30]), x_test=np.array([object()]))
    described = describe(DataConfig(source=f"npz:{path}", val=8, normalize="channel"), tmp_path)
    assert described["shape"] == [1, 4, 4]
    assert described["per_class"] == {"0": 10, "1": 30}
    assert (described["num_train"], described["num_val"]) == (32, 8)
    assert described["before"]["mean"] == pytest.approx(x.mean() / 255, rel=0.1)
    assert described["after"] == {"mean": pytest.approx(0, abs=1e-9), "std": pytest.approx(1)}
    json.dumps(described)
    assert described["per_class_test"] is None


def test_describe_counts_the_test_split(tmp_path: Path) -> None:
    x, y = np.zeros((40, 1, 4, 4), np.uint8), np.repeat([0, 1], [10, 30])
    np.savez(tmp_path / "a.npz", x_train=x, y_train=y, x_test=x[:7], y_test=np.zeros(7, np.int64))
    np.savez(tmp_path / "b.npz", x_train=x, y_train=y)
    assert describe(DataConfig(source=f"npz:{tmp_path}/a.npz"), tmp_path)["per_class_test"] == {"0": 7, "1": 0}
    without = describe(DataConfig(source=f"npz:{tmp_path}/b.npz"), tmp_path)
    assert (without["per_class_test"], without["notes"]) == (None, [])


def test_fetch_of_what_needs_none(tmp_path: Path) -> None:
    assert fetch("digits", tmp_path) == []
    with pytest.raises(ConfigError, match=r"'nist' is not a data set to fetch.\nAllowed: cifar10"):
        fetch("nist", tmp_path)
