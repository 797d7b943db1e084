"""Whether images are fit to train on; asked before the first trial."""

from __future__ import annotations

from typing import Any

import numpy as np

from hpsearch.datasets.images import Array, Images
from hpsearch.errors import DataError

CHUNK = 1024  # images looked at in one go, so that the masks stay small
LARGEST = float(np.finfo(np.float32).max)


def check_images(images: Images, where: str, *, every_class: bool = True) -> None:
    """Look for wrong shapes, NaN or inf, labels out of range, and classes without an image.

    `where` is the split, train or test, as messages name it: `x_train[17, 0, 3, 4] is nan`; empty for both in one.
    A test split may lack classes (`every_class=False`), and so may a hold-out that is given.

    Raises:
        DataError: the first thing that is wrong, with row and value.
    """
    x, y, num_classes = images.x, images.y, images.num_classes
    x_name, y_name = (f"{name}_{where}" if where else name for name in "xy")
    where = where or "images"
    if x.ndim != 4 or 0 in x.shape:
        raise DataError(f"{x_name} has shape {x.shape}.\nAllowed: images, channels, height, width; none of them 0.")
    if x.dtype not in (np.uint8, np.float32, np.float64):
        raise DataError(f"{x_name} holds {x.dtype}.\nAllowed: uint8, float32, float64.")
    if y.shape != (len(x),):
        raise DataError(f"{y_name} has shape {y.shape} for {len(x)} images.\nAllowed: ({len(x)},), one label an image.")
    if num_classes < 2:
        raise DataError(f"{where}: {num_classes} class is too few.\nAllowed: at least 2 classes.")
    check_labels(y, num_classes, y_name)
    learnt = y if images.val_rows is None else np.delete(y, images.val_rows)
    if every_class and (empty := np.flatnonzero(np.bincount(learnt, minlength=num_classes) == 0)).size:
        name = images.class_names[empty[0]]
        raise DataError(
            f"{where}: class {empty[0]} ({name}) has no image.\n"
            f"Allowed: at least one image in each of 0 ... {num_classes - 1}."
        )
    if x.dtype != np.uint8:
        _check_finite(images, x_name)


def check_same_kind(test: Images, shape: tuple[int, int, int], dtype: np.dtype[Any], source: str) -> None:
    """Whether test images are of the shape of the training images, and bytes where those are.

    Raises:
        DataError: they are not.
    """
    if test.shape != shape or (test.x.dtype == np.uint8) != (dtype == np.uint8):
        stored = "bytes" if dtype == np.uint8 else "floats"
        raise DataError(
            f"{source}: x_test holds images of {test.shape} in {test.x.dtype}.\n"
            f"Allowed: as in x_train, {shape} in {stored}."
        )


def check_labels(y: Array, num_classes: int, name: str) -> None:
    """Whether all labels are in 0 ... num_classes - 1.

    Raises:
        DataError: the first one that is not: `y_train[5] = 12`.
    """
    if y.min() < 0 or y.max() >= num_classes:
        row = int(np.flatnonzero((y < 0) | (y >= num_classes))[0])
        raise DataError(f"{name}[{row}] = {y[row]} is not a label.\nAllowed: 0 ... {num_classes - 1}.")


def _check_finite(images: Images, name: str) -> None:
    for start in range(0, len(images), CHUNK):
        fits = np.abs(images.x[start : start + CHUNK]) <= LARGEST  # not so where it is nan
        if not fits.all():
            first = np.unravel_index(int(np.argmin(fits)), fits.shape)
            row = (start + int(first[0]), *(int(i) for i in first[1:]))
            raise DataError(f"{name}{list(row)} is {images.x[row]}.\nAllowed: finite numbers, up to {LARGEST:.1e}.")
