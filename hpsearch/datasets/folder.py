"""folder:PATH - one folder of images per class, of any sizes and kinds, as people have them.

`layout` says which folders are splits, `listing` which files are images, `decoding` what becomes of their pixels, and
`decoded` keeps that on disk. The draw of the test share depends on the sorted file names alone.
"""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from pathlib import Path

import numpy as np

from hpsearch.datasets import notes
from hpsearch.datasets.decoded import decoded
from hpsearch.datasets.decoding import Recipe
from hpsearch.datasets.image_file import ImageFile
from hpsearch.datasets.images import Images, Progress, Source
from hpsearch.datasets.layout import Layout, find_layout
from hpsearch.datasets.listing import SUFFIXES, Listing, list_classes, num_loose, subfolders
from hpsearch.datasets.splits import test_share
from hpsearch.errors import DataError


class Folder(Source):
    """Images squeezed into squares of `size`, or of their own size; RGB, or grayscale if all training images are.

    With `crop` the square in the middle is kept instead.
    """

    def __init__(
        self, path: Path, size: int | None, data_dir: Path, progress: Progress | None = None, *, crop: bool = False
    ) -> None:
        self.path = path
        self.size = size
        self.crop = crop
        self.cache_dir = data_dir / "cache"
        self.progress = progress
        self.description = f"images in {path}"
        self._own = {data_dir.resolve(), self.cache_dir.resolve()}

    @cached_property
    def layout(self) -> Layout:
        """Which folders are splits.

        Raises:
            DataError: see `find_layout`.
        """
        return find_layout(self.path, self._own)

    @cached_property
    def class_names(self) -> tuple[str, ...]:
        """Names of the class folders of the training split, sorted.

        Raises:
            DataError: there are fewer than two.
        """
        folder = self.layout.train
        names = tuple(subfolders(folder, self._own))
        if len(names) < 2:
            inside = [name for name in names if len(subfolders(folder / name)) >= 2]
            hint = f"; those of {folder / inside[0]} are one level down" if inside else ""
            num = "1 class folder" if names else "no class folders"
            raise DataError(f"{folder} has {num}.\nAllowed: at least 2{hint}.")
        return names

    def _load(self, *, train: bool) -> Images:
        found = self._found()
        splits = found if "test" in found else _with_test_share(found)
        files = {split: listing.files for split, listing in splits.items()}
        x_NCHW, recipe = decoded(files, self.path, self.size, self.cache_dir, self.progress, crop=self.crop)
        test = splits.pop("test")
        num, num_train = len(x_NCHW) - len(test.y), len(splits["train"].y)
        file = ImageFile.mapped(x_NCHW) if ImageFile.possible() else None
        if not train:
            return Images(x_NCHW[num:], test.y, self.class_names, file=file and file.from_row(num))
        y = np.concatenate([listing.y for listing in splits.values()])
        val_rows = np.arange(num_train, num) if "val" in splits else None
        said = self._notes(found, recipe)
        return Images(x_NCHW[:num], y, self.class_names, val_rows=val_rows, notes=said, file=file)

    def _found(self) -> dict[str, Listing]:
        """What the folders of the splits hold: train, perhaps val, perhaps test, in this order."""
        layout = self.layout
        found = {"train": self._training()}
        if layout.val:
            found["val"] = self._beside(layout.val, "data.val draws the hold-out")
        if layout.test:
            found["test"] = self._beside(layout.test, "20% of the training images are set aside")
        return found

    def _training(self) -> Listing:
        folder = self.layout.train
        listing = list_classes(folder, self.class_names)
        empty = np.flatnonzero(np.bincount(listing.y, minlength=len(self.class_names)) == 0)
        if empty.size:
            name = self.class_names[empty[0]]
            there = notes.left_out_note(list_classes(folder, [name]).left_out)
            raise DataError(
                f"{folder / name} has no image.\n"
                f"Allowed: files {', '.join(sorted(SUFFIXES))}{f'; {there}' if there else ''}."
            )
        return listing

    def _beside(self, folder: Path, otherwise: str) -> Listing:
        """A split that lies beside the training split; `otherwise` is what happens without its folder."""
        if unknown := set(subfolders(folder)) - set(self.class_names):
            raise DataError(
                f"{folder / min(unknown)} is a class without training images.\nAllowed: {', '.join(self.class_names)}."
            )
        listing = list_classes(folder, self.class_names)
        if not listing.files:
            raise DataError(
                f"{folder} has no image in a class folder.\n"
                f"Allowed: class folders as in {self.layout.train}; or no {folder.name}/, and {otherwise}."
            )
        return listing

    def _notes(self, found: dict[str, Listing], recipe: Recipe) -> tuple[str, ...]:
        layout = self.layout
        lines = [notes.size_note(recipe, given=self.size is not None), notes.depth_note(recipe)]
        if layout.val:
            num_without = len(self.class_names) - len(np.unique(found["val"].y))
            lines.append(notes.hold_out_note(layout.val.name, len(found["val"].y), num_without))
        if not layout.test:
            lines.append(notes.test_share_note("" if layout.train == self.path else layout.train.name))
        left_out = sum((listing.left_out for listing in found.values()), Counter[str]())
        loose = num_loose({self.path, *(folder for folder in (layout.train, layout.val, layout.test) if folder)})
        lines += [notes.left_out_note(left_out), notes.loose_note(loose)]
        return tuple(line for line in lines if line)


def _with_test_share(found: dict[str, Listing]) -> dict[str, Listing]:
    """The same with a test split, of a share of the training images."""
    whole = found["train"]
    train, test = test_share(whole.y)
    return {**found, "train": whole.take(train), "test": whole.take(test)}
