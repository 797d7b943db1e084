"""folder:PATH - one folder of images per class, of any sizes and kinds, as people have them.

`layout` says which folders are splits, `listing` which files are images, `decoding` what becomes of their pixels, and
`decoded` keeps that on disk. The draw of the test share depends on the sorted file names alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
from typing_extensions import override

from hpsearch.config import DataConfig
from hpsearch.datasets import notes
from hpsearch.datasets.groups import groups_by_name
from hpsearch.datasets.image_files import ImageFiles, left_out
from hpsearch.datasets.images import Progress
from hpsearch.datasets.layout import Layout, find_layout
from hpsearch.datasets.listing import SUFFIXES, Listing, list_classes, num_loose, subfolders
from hpsearch.errors import DataError


class Folder(ImageFiles):
    """Images by class folder; `data.group` is an expression for their names."""

    def __init__(self, path: Path, config: DataConfig, data_dir: Path, progress: Progress | None = None) -> None:
        super().__init__(path, path, config, data_dir, progress)
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
    def class_names(self) -> tuple[str, ...]:  # type: ignore[override]
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

    @override
    def _found(self) -> dict[str, Listing]:
        """What the folders of the splits hold: train, perhaps val, perhaps test, in this order."""
        layout = self.layout
        found = {"train": self._training()}
        if layout.val:
            found["val"] = self._beside(layout.val, "data.val draws the hold-out")
        if layout.test:
            found["test"] = self._beside(layout.test, "20% of the training images are set aside")
        if (group := self.config.group) is not None:
            found = {
                split: replace(listing, groups=groups_by_name(group, listing.files)) for split, listing in found.items()
            }
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

    @override
    def _split_notes(self, found: Mapping[str, Listing]) -> Sequence[str]:
        layout = self.layout
        lines = []
        if layout.val:
            num_without = len(self.class_names) - len(np.unique(found["val"].y))
            lines.append(notes.hold_out_note(layout.val.name, len(found["val"].y), num_without))
        if not layout.test:
            lines.append(notes.test_share_note("" if layout.train == self.path else layout.train.name))
        return lines

    @override
    def _other_notes(self, found: Mapping[str, Listing]) -> Sequence[str]:
        layout = self.layout
        loose = num_loose({self.path, *(folder for folder in (layout.train, layout.val, layout.test) if folder)})
        return [left_out(found), notes.loose_note(loose)]
