"""folder:PATH - one folder of images per class, of any sizes, decoded once into a cache.

Layouts: PATH/train/<class>/... with PATH/test/<class>/... (or val in place of test); or PATH/<class>/..., of which 20%
are always set aside as the test split. That draw depends on the sorted file names alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from hpsearch.datasets.decoding import decoded
from hpsearch.datasets.images import Images, Labels, Progress, Source
from hpsearch.datasets.splits import test_share
from hpsearch.errors import DataError

DEFAULT_SIZE = 32  # pixels
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}


@dataclass(frozen=True)
class Listing:
    """The image files of one split, sorted by class and name, with their labels."""

    files: list[Path]
    y: Labels


class Folder(Source):
    """Images resized to squares of `size`; RGB, or grayscale if all training images are."""

    def __init__(self, path: Path, size: int | None, data_dir: Path, progress: Progress | None = None) -> None:
        self.path = path
        self.size = size or DEFAULT_SIZE
        self.cache_dir = data_dir / "cache"
        self.progress = progress
        self.description = f"images in {path}"

    @cached_property
    def train_dir(self) -> Path:
        """Where the classes of the training split are."""
        train = self.path / "train"
        return train if train.is_dir() and _subfolders(train) else self.path

    @cached_property
    def test_dir(self) -> Path | None:
        """Where the classes of the test split are; None where it is a share of the one folder."""
        candidates = [self.path / name for name in ("test", "val")] if self.train_dir != self.path else []
        return next((folder for folder in candidates if folder.is_dir()), None)

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """Names of the class folders of the training split, sorted.

        Raises:
            DataError: there are fewer than two.
        """
        if not self.path.is_dir():
            raise DataError(f"{self.path} is not a folder.\nAllowed: a folder with one folder of images per class.")
        names = tuple(_subfolders(self.train_dir))
        if len(names) < 2:
            raise DataError(f"{self.train_dir} has {len(names)} class folders.\nAllowed: at least 2.")
        return names

    def _load(self, *, train: bool) -> Images:
        channels = None if train else self.load_train().x.shape[1]
        listing = self._listing(train=train)
        x_NCHW = decoded(listing.files, self.path, self.size, channels, self.cache_dir, self.progress)
        return Images(x_NCHW, listing.y, self.class_names)

    def _listing(self, *, train: bool) -> Listing:
        if self.test_dir and not train:
            unknown = set(_subfolders(self.test_dir)) - set(self.class_names)
            if unknown:
                raise DataError(
                    f"{self.test_dir / min(unknown)} is a class without training images.\n"
                    f"Allowed: {', '.join(self.class_names)}."
                )
            return self._list_classes(self.test_dir, every_class=False)
        listing = self._list_classes(self.train_dir, every_class=True)
        if self.test_dir:
            return listing
        rows = test_share(listing.y)[0 if train else 1]
        return Listing([listing.files[row] for row in rows], listing.y[rows])

    def _list_classes(self, folder: Path, *, every_class: bool) -> Listing:
        files: list[Path] = []
        labels: list[int] = []
        for label, name in enumerate(self.class_names):
            found = sorted(_image_files(folder / name), key=lambda path: path.relative_to(folder).as_posix())
            if every_class and not found:
                raise DataError(f"{folder / name} has no image.\nAllowed: files {', '.join(sorted(SUFFIXES))}.")
            files += found
            labels += [label] * len(found)
        if not files:
            raise DataError(f"{folder} has no image.\nAllowed: files {', '.join(sorted(SUFFIXES))}.")
        return Listing(files, np.array(labels, dtype=np.int64))


def _subfolders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _image_files(folder: Path) -> Iterator[Path]:
    seen: set[str] = set()  # symlinks may run in circles
    for parent, subfolders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        for name in names:
            if Path(name).suffix.lower() in SUFFIXES and not name.startswith("."):
                yield Path(parent, name)
