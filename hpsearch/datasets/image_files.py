"""Images in files of any sizes and kinds, whatever says which there are: class folders or a table."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from hpsearch.config import DataConfig
from hpsearch.datasets import notes
from hpsearch.datasets.decoded import decoded
from hpsearch.datasets.decoding import Recipe
from hpsearch.datasets.groups import number_groups, refuse_leaks
from hpsearch.datasets.image_file import ImageFile
from hpsearch.datasets.images import Images, Progress, Source
from hpsearch.datasets.listing import Listing
from hpsearch.datasets.splits import test_share


class ImageFiles(Source):
    """Images squeezed into squares of `data.size`, or of their own size; RGB, or grayscale if all to train on are.

    With `data.resize = "crop"` the square in the middle is kept instead.
    """

    class_names: tuple[str, ...]
    """Those of the training split."""

    def __init__(self, path: Path, root: Path, config: DataConfig, data_dir: Path, progress: Progress | None) -> None:
        self.path = path
        self.root = root
        self.config = config
        self.cache_dir = data_dir / "cache"
        self.progress = progress

    def listings(self) -> dict[str, Listing]:
        """The files of the splits: train, perhaps val, perhaps test; 20% of train are set aside where there is none.

        Raises:
            DataError: folders or tables cannot be read.
        """
        return self._found()

    @abstractmethod
    def _found(self) -> dict[str, Listing]:
        """The files of the splits: train, perhaps val, perhaps test, in this order."""

    @abstractmethod
    def _split_notes(self, found: Mapping[str, Listing]) -> Sequence[str]:
        """What there is to say of hold-out and test split."""

    @abstractmethod
    def _other_notes(self, found: Mapping[str, Listing]) -> Sequence[str]:
        """What there is to say of the rest."""

    def _load(self, *, train: bool) -> Images:
        found = self._found()
        refuse_leaks({split: listing.groups for split, listing in found.items()})
        splits = dict(found) if "test" in found else _with_test_share(found)
        files = {split: listing.files for split, listing in splits.items()}
        crop = self.config.resize == "crop"
        x_NCHW, recipe = decoded(files, self.root, self.config.size, self.cache_dir, self.progress, crop=crop)
        test = splits.pop("test")
        num, num_train = len(x_NCHW) - len(test.y), len(splits["train"].y)
        file = ImageFile.mapped(x_NCHW) if ImageFile.possible() else None
        if not train:
            return Images(x_NCHW[num:], test.y, self.class_names, file=file and file.from_row(num))
        y = np.concatenate([listing.y for listing in splits.values()])
        names = [name for listing in splits.values() for name in listing.groups or ()]
        paths = [path for listing in splits.values() for path in listing.files]
        return Images(
            x_NCHW[:num],
            y,
            self.class_names,
            notes=self._notes(found, recipe),
            val_rows=np.arange(num_train, num) if "val" in splits else None,
            file=file,
            groups=number_groups(names) if names else None,
            recipe=recipe,
            name_of=lambda row: self._relative(paths[row]),
        )

    def _relative(self, path: Path) -> str:
        """A file's name below the source; a table may name files that lie elsewhere."""
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else path.as_posix()

    def _notes(self, found: Mapping[str, Listing], recipe: Recipe) -> tuple[str, ...]:
        groups = {name for listing in found.values() for name in listing.groups or ()}
        lines = [
            notes.size_note(recipe, given=self.config.size is not None),
            notes.depth_note(recipe),
            *self._split_notes(found),
            notes.groups_note(len(groups)),
            *self._other_notes(found),
        ]
        return tuple(line for line in lines if line)


def left_out(found: Mapping[str, Listing]) -> str:
    """The note on files of other kinds."""
    return notes.left_out_note(sum((listing.left_out for listing in found.values()), Counter[str]()))


def _with_test_share(found: dict[str, Listing]) -> dict[str, Listing]:
    """The same with a test split, of a share of the training images."""
    whole = found["train"]
    train, test = test_share(whole.y, None if whole.groups is None else number_groups(whole.groups))
    return {**found, "train": whole.take(train), "test": whole.take(test)}
