# ruff: noqa: N815 - fields with shape suffixes
"""Images one behind the other in a file, read as they are wanted: more of them than memory holds.

Read rather than mapped: what was read counts for nobody's memory, and a file that is cut is an error, no signal.

Shape suffixes: N = images, B = those that are wanted, C = channels, H = height, W = width.
"""

from __future__ import annotations

import math
import os
import tempfile
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.reduction import DupFd
from typing import Any

import numpy as np
import numpy.typing as npt

from hpsearch.errors import DataError

PART_BYTES = 2**26  # written or read in one go


class ImageFile:
    """An open file. It goes to another process when it is an argument of it, and is open there, too.

    Args:
        fd: of the file; closed with the last who has this.
        offset: of the first image, bytes.
        image_shape: of each.
        dtype: of the numbers, in this machine's order of bytes.
        name: in messages.
    """

    def __init__(self, fd: int, offset: int, image_shape: Sequence[int], dtype: npt.DTypeLike, name: str) -> None:
        self.fd, self.offset, self.name = fd, offset, name
        self.image_shape, self.dtype = tuple(image_shape), np.dtype(dtype)
        self.image_bytes = math.prod(self.image_shape) * self.dtype.itemsize
        weakref.finalize(self, os.close, fd)

    @staticmethod
    def possible() -> bool:
        """Whether the system can read so."""
        return hasattr(os, "preadv")

    @classmethod
    def mapped(cls, x_NCHW: np.memmap[Any, Any]) -> ImageFile:
        """The file of images that `numpy.load` has mapped.

        Raises:
            OSError: it cannot be opened.
        """
        name = str(x_NCHW.filename)
        fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
        return cls(fd, x_NCHW.offset, x_NCHW.shape[1:], x_NCHW.dtype, name)

    @classmethod
    def holding(cls, x_NCHW: npt.NDArray[Any], rows: npt.NDArray[Any]) -> ImageFile:
        """A file without a name that holds these images alone, in memory where the system has such files."""
        if hasattr(os, "memfd_create"):
            fd = os.memfd_create("hpsearch-images")
        else:
            with tempfile.TemporaryFile() as file:
                fd = os.dup(file.fileno())
        made = cls(fd, 0, x_NCHW.shape[1:], x_NCHW.dtype, "a file without a name")
        num = made.num_at_once
        for start in range(0, len(rows), num):
            left = memoryview(x_NCHW[rows[start : start + num]].tobytes())
            while left:
                left = left[os.write(fd, left) :]
        return made

    @property
    def num_at_once(self) -> int:
        """Images to handle in one go, so that memory stays bounded."""
        return max(1, PART_BYTES // self.image_bytes)

    def from_row(self, first: int) -> ImageFile:
        """The same file, of which this image counts as the first."""
        return ImageFile(
            os.dup(self.fd), self.offset + first * self.image_bytes, self.image_shape, self.dtype, self.name
        )

    def read(self, rows_B: npt.NDArray[Any], into_BCHW: npt.NDArray[Any]) -> None:
        """These images, into memory in one piece.

        Raises:
            DataError: they cannot be read.
        """
        for row, image in zip(rows_B.tolist(), into_BCHW, strict=True):
            at, left = self.offset + row * self.image_bytes, memoryview(image).cast("B")
            while left:
                try:
                    num = os.preadv(self.fd, [left], at)
                except OSError as error:
                    raise DataError(f"{self.name} cannot be read: {error}.") from error
                if not num:
                    raise DataError(f"{self.name} was cut while it was in use.\nBegin again: it is written anew.")
                at, left = at + num, left[num:]

    def rows(self, rows_B: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """These images, as a new array."""
        found = np.empty((len(rows_B), *self.image_shape), self.dtype)
        self.read(rows_B, found)
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        return _received, (DupFd(self.fd), self.offset, self.image_shape, self.dtype, self.name)


def _received(duplicate: Any, offset: int, image_shape: Sequence[int], dtype: Any, name: str) -> ImageFile:
    return ImageFile(duplicate.detach(), offset, image_shape, dtype, name)


@dataclass(frozen=True)
class Rows:
    """Some images of a file, as an array of them is read: a few at a time."""

    file: ImageFile
    rows_N: npt.NDArray[Any]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the numbers."""
        return self.file.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """N,C,H,W."""
        return (len(self), *self.file.image_shape)

    def __len__(self) -> int:
        return len(self.rows_N)

    def __getitem__(self, rows: slice, /) -> npt.NDArray[Any]:
        return self.file.rows(self.rows_N[rows])
