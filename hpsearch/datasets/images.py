"""What every source gives: images with labels, in one layout.

Shape suffixes: N = images, C = channels, H = height, W = width.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hpsearch.datasets.image_file import ImageFile

if TYPE_CHECKING:
    from hpsearch.datasets.decoding import Recipe

Array: TypeAlias = npt.NDArray[Any]
Labels: TypeAlias = npt.NDArray[np.int64]
Progress: TypeAlias = Callable[[int, int], None]
"""Called with (done, total), in images or bytes."""

FINGERPRINT_CHUNK = 4096  # images hashed in one go, so that a memory-mapped array is not held whole


@dataclass(frozen=True, eq=False)
class Images:
    """One split: `x` is N,C,H,W in uint8, float32 or float64, `y` is N in int64.

    `x` may be read-only, and a view of memory in another order.
    """

    x: Array
    y: Labels
    class_names: tuple[str, ...]
    notes: tuple[str, ...] = ()
    """What there is to say about them: short plain sentences."""
    val_rows: Array | None = None
    """Of a training split: rows of the hold-out, ascending, where the source gives it; else it is drawn."""
    recipe: Recipe | None = None
    """Of a training split: how its files were decoded; None where it did not come from image files."""
    groups: Labels | None = None
    """Of a training split: numbers from 0; images of one group stay in one split."""
    name_of: Callable[[int], str | int] = int
    """Of a training split: what the source calls the image of a row here: its file, or its row in an array."""
    file: ImageFile | None = None
    """Where `x` is mapped from, if it is: in this order, and nothing between."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        channels, height, width = self.x.shape[1:]
        return channels, height, width

    @property
    def num_classes(self) -> int:
        """Number of classes, whether or not each has an image."""
        return len(self.class_names)

    def __len__(self) -> int:
        return len(self.x)

    def fingerprint(self) -> str:
        """A hash of shape, type, pixels, labels, class names and a given hold-out: 32 hexadecimal digits."""
        described = f"{self.x.shape} {self.x.dtype.str} {self.class_names}"
        digest = hashlib.blake2b(described.encode(errors="surrogateescape"), digest_size=16)
        for part in self._parts():
            digest.update(part.data)
        digest.update(np.ascontiguousarray(self.y).data)
        if self.val_rows is not None:
            digest.update(np.ascontiguousarray(self.val_rows, dtype=np.int64).data)
        if self.groups is not None:
            digest.update(np.ascontiguousarray(self.groups).data)
        return digest.hexdigest()

    def _parts(self) -> Iterator[Array]:
        """All images, a few at a time."""
        if self.file is None:
            for start in range(0, len(self), FINGERPRINT_CHUNK):
                yield np.ascontiguousarray(self.x[start : start + FINGERPRINT_CHUNK])
        else:
            for start in range(0, len(self), self.file.num_at_once):
                yield self.file.rows(np.arange(start, min(start + self.file.num_at_once, len(self))))


class Source(ABC):
    """A data set that can be loaded. What it gives of the training split comes from nothing of the test split."""

    description: str
    has_test: bool | None = True
    """Whether there is a test split; None where only loading it would tell."""

    def load_train(self) -> Images:
        """The training split, validation images included.

        Raises:
            DataError: it cannot be read.
        """
        return self._load(train=True)

    def load_test(self) -> Images:
        """The test split.

        Raises:
            DataError: it cannot be read, or there is none.
        """
        return self._load(train=False)

    def load_test_beside(self) -> Images | None:
        """The test split where it lies beside the training split: what is wrong with it is found before a search then.

        None where there is none, or where it would have to be fetched or made.
        """
        return None

    @abstractmethod
    def _load(self, *, train: bool) -> Images:
        """One split, which owes nothing to the other's images."""
