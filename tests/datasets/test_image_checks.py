from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from hpsearch.datasets.checks import check_images
from hpsearch.datasets.images import Images
from hpsearch.errors import DataError


def images(dtype: type = np.float32, num_classes: int = 4) -> Images:
    y = np.arange(40, dtype=np.int64) % num_classes
    return Images(np.zeros((40, 2, 3, 5), dtype=dtype), y, tuple(f"c{i}" for i in range(num_classes)))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_good_images_pass(dtype: type) -> None:
    check_images(images(dtype), "train")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_named(value: float) -> None:
    bad = Images(np.zeros((3000, 1, 3, 5), dtype=np.float32), np.arange(3000) % 2, ("a", "b"))
    bad.x[2017, 0, 2, 4] = bad.x[2500, 0, 0, 0] = value
    with pytest.raises(DataError, match=rf"x_train\[2017, 0, 2, 4\] is {value}"):
        check_images(bad, "train")


@pytest.mark.parametrize("label", [-1, 4, 12])
def test_a_label_out_of_range_is_named(label: int) -> None:
    bad = images()
    bad.y[5] = label
    with pytest.raises(DataError, match=rf"y_test\[5\] = {label} is not a label.\nAllowed: 0 ... 3"):
        check_images(bad, "test")


def test_an_empty_class_is_named() -> None:
    bad = images()
    bad.y[bad.y == 2] = 1
    with pytest.raises(DataError, match=r"train: class 2 \(c2\) has no image"):
        check_images(bad, "train")
    check_images(bad, "test", every_class=False)


def test_a_hold_out_that_is_given_may_lack_classes_and_the_rest_may_not() -> None:
    whole = images()
    check_images(replace(whole, val_rows=np.flatnonzero(whole.y == 2)[:3]), "train")
    with pytest.raises(DataError, match=r"train: class 2 \(c2\) has no image"):
        check_images(replace(whole, val_rows=np.flatnonzero(whole.y == 2)), "train")


def test_the_fingerprint_covers_a_hold_out_that_is_given() -> None:
    whole = images()
    one, other = (replace(whole, val_rows=np.array(rows)) for rows in ([0, 1, 2, 3], [4, 5, 6, 7]))
    assert len({whole.fingerprint(), one.fingerprint(), other.fingerprint()}) == 3
    assert replace(whole, notes=("said",)).fingerprint() == whole.fingerprint()


@pytest.mark.parametrize(
    ("x", "y", "match"),
    [
        (np.zeros((4, 8), np.float32), np.array([0, 1, 0, 1]), "x_train has shape"),
        (np.zeros((0, 1, 2, 2), np.float32), np.zeros(0, np.int64), "x_train has shape"),
        (np.zeros((4, 1, 2, 2), np.int32), np.array([0, 1, 0, 1]), "x_train holds int32"),
        (np.zeros((4, 1, 2, 2), np.float32), np.array([0, 1, 0]), "y_train has shape"),
    ],
)
def test_wrong_shapes_and_types(x: np.ndarray, y: np.ndarray, match: str) -> None:
    with pytest.raises(DataError, match=match):
        check_images(Images(x, y, ("a", "b")), "train")


def test_one_class_is_too_few() -> None:
    with pytest.raises(DataError, match="at least 2 classes"):
        check_images(images(num_classes=1), "train")


def test_a_large_set_is_checked_in_a_few_passes_over_it() -> None:
    large = Images(np.zeros((10_000, 3, 32, 32), np.float32), np.arange(10_000) % 10, tuple("0123456789"))
    start = time.process_time()
    _ = large.x.copy()
    one_pass = time.process_time() - start
    start = time.process_time()
    check_images(large, "train")
    assert time.process_time() - start < 10 * one_pass
