"""Which folders are splits: by their names, and never in silence."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from hpsearch.datasets.layout import Layout, find_layout, splits_among
from hpsearch.errors import DataError


def made(root: Path, *folders: str) -> Path:
    """A folder with these folders; an image in each whose name does not end with a slash."""
    for folder in folders:
        (root / folder).mkdir(parents=True, exist_ok=True)
        if not folder.endswith("/"):
            Image.new("L", (4, 4)).save(root / folder / "a.png")
    return root


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["cat", "dog"], {}),
        (["Train", "TEST", "cat"], {"train": ["Train"], "test": ["TEST"]}),
        (["testing", "Training", "Valid"], {"train": ["Training"], "val": ["Valid"], "test": ["testing"]}),
        (["val", "validation"], {"val": ["val", "validation"]}),
        (["trains", "tester", "value", "train-images"], {}),
    ],
)
def test_names_of_splits(names: list[str], found: dict[str, list[str]]) -> None:
    assert splits_among(names) == found
    assert list(splits_among(names)) == list(found)


@pytest.mark.parametrize(
    ("folders", "train", "val", "test"),
    [
        (["cat", "dog"], "", None, None),
        (["train/cat", "train/dog"], "train", None, None),
        (["Train/cat", "Val/cat"], "Train", "Val", None),
        (["TRAINING/cat", "validation/cat", "Testing/cat"], "TRAINING", "validation", "Testing"),
        (["train/train", "train/test", "test/test"], "train", None, "test"),  # classes called so, inside
        (["train/cat", "test/cat", "labels/", "__MACOSX/train"], "train", None, "test"),
    ],
)
def test_layouts(tmp_path: Path, folders: list[str], train: str, val: str | None, test: str | None) -> None:
    root = made(tmp_path, *folders)
    assert find_layout(root) == Layout(root / train, val and root / val, test and root / test)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("folders", "match"),
    [
        (["val/cat", "test/cat"], r"val is called like a split, but there is no train folder.*\nAllowed: train/ with"),
        (
            ["bus", "train"],
            r"train is called .* beside other images, in 'bus'\.\nAllowed: .*as train-images\.",
        ),
        (["cat", "dog", "Test"], r"Test is called .* in 'cat'\.\n.*if 'Test' is a class, rename its folder"),
        (["train/cat", "train/dog", "test/cat", "emu"], r"train is called .* beside other images, in 'emu'"),
        (["train/cat", "Training/cat"], r"has Train(ing)? and train.*, which are both called like the train split"),
        (["train/cat", "val/cat", "valid/cat"], r"has val and valid, which are both called like the val split"),
    ],
)
def test_what_is_called_like_a_split_and_is_none_is_refused(tmp_path: Path, folders: list[str], match: str) -> None:
    with pytest.raises(DataError, match=match):
        find_layout(made(tmp_path, *folders))
