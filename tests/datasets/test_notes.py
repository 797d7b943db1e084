"""Short plain sentences from counts."""

from __future__ import annotations

import pytest

from hpsearch.datasets.decoding import Recipe
from hpsearch.datasets.notes import depth_note, hold_out_note, left_out_note, loose_note, size_note, test_share_note

test_share_note.__test__ = False  # type: ignore[attr-defined]  # its name only looks like a test


@pytest.mark.parametrize(
    ("smallest", "largest", "size", "given", "note"),
    [
        ((640, 480), (640, 480), 64, False, "640x480 images squeezed to 64x64; data.size sets another size"),
        ((640, 480), (640, 480), 96, True, "640x480 images squeezed to 96x96"),
        ((300, 200), (800, 600), 64, True, "images of 300x200 to 800x600 squeezed to 64x64"),
        ((128, 128), (128, 128), 64, True, "128x128 images resized to 64x64"),
        ((28, 28), (28, 28), 28, False, "28x28 images, as they are"),
    ],
)
def test_sizes(smallest: tuple[int, int], largest: tuple[int, int], size: int, given: bool, note: str) -> None:
    assert size_note(Recipe(size, 3, smallest, largest), given) == note


def test_what_is_cropped() -> None:
    assert size_note(Recipe(64, 3, (300, 200), (800, 600), crop=True), given=True) == (
        "images of 300x200 to 800x600 cropped in the middle to 64x64"
    )
    assert size_note(Recipe(64, 3, (128, 128), (128, 128), crop=True), given=True) == "128x128 images resized to 64x64"


@pytest.mark.parametrize(
    ("left_out", "note"),
    [
        ({}, ""),
        ({".txt": 1}, "1 file of another kind left out (.txt 1)"),
        (
            {"none": 2, ".heic": 10},
            "12 files of other kinds left out (.heic 10, none 2); pip install pillow-heif reads .heic",
        ),
        (
            {".a": 1, ".b": 1, ".c": 1, ".d": 1, ".e": 1, ".f": 1200},
            "1,205 files of other kinds left out (.f 1,200, .a 1, .b 1, .c 1, others 2)",
        ),
    ],
)
def test_files_left_out(left_out: dict[str, int], note: str) -> None:
    assert left_out_note(left_out) == note


def test_the_others() -> None:
    deep = Recipe(64, 1, (512, 512), (512, 512), num_deep=90, black=-1000, white=3071)
    assert depth_note(deep) == (
        "90 training images have more than 8 bits: -1,000 ... 3,071, the values in use, become 0 ... 255"
    )
    assert hold_out_note("val", 1200, 0) == "validation: the 1,200 images of val/; data.val draws none"
    assert test_share_note("") == "20% of each class set aside as the test split"
    assert (loose_note(0), loose_note(3)) == ("", "3 images outside the class folders left out")
