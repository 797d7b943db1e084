"""What validation images are called: by their files, or by their rows in the arrays of their source."""

from __future__ import annotations

import csv
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hpsearch.config import DataConfig
from hpsearch.config.usercode import trust
from hpsearch.datasets.device import TrainingData
from hpsearch.datasets.preparing import prepare
from hpsearch.datasets.sharing import share
from hpsearch.datasets.stored import StoredImages

USERS = """
import numpy as np
def whole():
    return np.arange(60, dtype=np.uint8).reshape(60, 1, 1, 1), np.arange(60) % 2
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """60 images whose every pixel is their number, in files and in arrays."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for i in range(60):
        path = Path("shots", "ab"[i % 2], f"{i}.png")
        path.parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray(np.full((8, 8), i, dtype=np.uint8)).save(path)
    far = tmp_path.parent / f"{tmp_path.name}-far.png"
    Path("shots", "a", "0.png").rename(far)
    rows = [[far if i == 0 else f"shots/{'ab'[i % 2]}/{i}.png", i % 2] for i in range(60)]
    with Path("shots.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "label"], *rows])
    x = np.arange(60, dtype=np.uint8).reshape(60, 1, 1, 1)
    np.savez("shots.npz", x_train=x, y_train=np.arange(60) % 2)
    Path("namedarrays.py").write_text(USERS)
    trust("namedarrays")
    yield tmp_path
    sys.modules.pop("namedarrays", None)


def prepared(source: str, *, room: int = 0, **keys: object) -> TrainingData:
    config = DataConfig.model_validate({"source": source, "normalize": "none", "scale": 255.0, **keys})
    return prepare(config, torch.device("cpu"), torch.float32, Path("data"), room=room)


def first_pixels(data: TrainingData) -> list[int]:
    x_NCHW = data.x_val_NCHW
    rows = torch.arange(len(x_NCHW))
    return [int(x) for x in (x_NCHW[rows] if isinstance(x_NCHW, StoredImages) else x_NCHW)[:, 0, 0, 0]]


@pytest.mark.parametrize("room", [0, 1])
def test_files_are_called_by_their_place_in_the_source(home: Path, room: int) -> None:
    data = prepared("folder:shots", room=room, val=12, limit=40)
    assert data.on_disk == bool(room)
    assert data.val_names == tuple(f"{'ab'[i % 2]}/{i}.png" for i in first_pixels(data))
    data = prepared("csv:shots.csv", room=room, val=20)
    far = (home.parent / f"{home.name}-far.png").as_posix()
    assert data.val_names == tuple(f"shots/{'ab'[i % 2]}/{i}.png" if i else far for i in first_pixels(data))


@pytest.mark.parametrize("source", ["npz:shots.npz", "namedarrays:whole"])
def test_rows_are_those_of_the_array(home: Path, source: str) -> None:
    data = prepared(source, val=12, limit=40)
    assert data.val_names == tuple(first_pixels(data))
    assert len(data.val_names) == data.num_val


def test_a_hold_out_of_the_source_is_named_too(home: Path) -> None:
    for split in ("train", "val"):
        for name in "ab":
            for i in range(4):
                path = home / "split" / split / name / f"{i}.png"
                path.parent.mkdir(exist_ok=True, parents=True)
                Image.fromarray(np.full((8, 8), 100 * (split == "val") + i, dtype=np.uint8)).save(path)
    data = prepared("folder:split")
    assert data.val_names == tuple(f"val/{name}/{i}.png" for name in "ab" for i in range(4))
    assert first_pixels(data) == [100, 101, 102, 103] * 2


def test_workers_are_not_sent_names(home: Path) -> None:
    data = prepared("folder:shots", val=12)
    assert len(data.val_names) == 12
    assert b".png" not in pickle.dumps(share(data)._rest)
