# ruff: noqa: N815 - fields with shape suffixes
"""Images that stay on disk, with what a tensor of them would give: batches are read ahead, in threads.

Shape suffixes: N = images, B = batch, C = channels, H = height, W = width.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Generic, TypeVar, overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from hpsearch.datasets.image_file import ImageFile
from hpsearch.datasets.normalization import Normalization
from hpsearch.datasets.normalizer import normalizer

NUM_READERS = 2  # threads: one waits for the disk while the other copies
NUM_AHEAD = 3  # batches in memory, that in use included

T = TypeVar("T")


class Ahead(Generic[T]):
    """What `read` gives for 0, 1, 2, ..., begun before it is asked for.

    Args:
        read: called in other threads.
        num: there is nothing to read from here on.
    """

    def __init__(self, read: Callable[[int], T], num: int) -> None:
        self._read, self._num = read, num
        self._begun: dict[int, Future[T]] = {}

    def take(self, number: int) -> T:
        """What was read; it is not kept. Whatever `read` raises is raised here."""
        wanted = range(number, min(number + NUM_AHEAD, self._num))
        for other in self._begun.keys() - set(wanted):
            self._begun.pop(other).cancel()
        for each in wanted:
            if each not in self._begun:
                self._begun[each] = _readers(os.getpid()).submit(self._read, each)
        return self._begun.pop(number).result()


@cache
def _readers(pid: int) -> ThreadPoolExecutor:
    """Of one process: a fork has no threads."""
    return ThreadPoolExecutor(NUM_READERS, thread_name_prefix=f"images {pid}")


@dataclass(frozen=True, eq=False)
class StoredImages:
    """Images of a file, with as much of a tensor's face as training and measuring use.

    They are given on `device` in `dtype`: as they are stored, or normalized.
    """

    file: ImageFile
    rows_N: npt.NDArray[np.int64]
    """Of the file."""
    dtype: torch.dtype
    device: torch.device
    normalization: Normalization | None = None

    def __len__(self) -> int:
        return len(self.rows_N)

    @property
    def shape(self) -> tuple[int, ...]:
        """N,C,H,W."""
        return (len(self), *self.file.image_shape)

    def to(self, device: torch.device) -> StoredImages:
        """The same, given on another device."""
        return replace(self, device=device)

    def followed_by(self, other: StoredImages) -> StoredImages:
        """Those images of the same file behind these, given as these."""
        return replace(self, rows_N=np.concatenate([self.rows_N, other.rows_N]))

    def index_select(self, dim: int, rows_B: Tensor) -> Tensor:
        """These images."""
        assert dim == 0
        return self.placed(self.read(rows_B.cpu()))

    @overload
    def __getitem__(self, rows: slice) -> StoredImages: ...
    @overload
    def __getitem__(self, rows: Tensor) -> Tensor: ...
    def __getitem__(self, rows: slice | Tensor) -> StoredImages | Tensor:
        if isinstance(rows, slice):
            return replace(self, rows_N=self.rows_N[rows])
        return self.index_select(0, rows)

    def split(self, size: int) -> Iterator[Tensor]:
        """All of them, so many at a time."""
        num = -(-len(self) // size)
        chunks = Ahead(lambda i: self.read(torch.arange(i * size, min((i + 1) * size, len(self)))), num)
        return (self.placed(chunks.take(number)) for number in range(num))

    def read(self, rows_B: Tensor) -> Tensor:
        """As they are stored, in the host's memory, from where a GPU fetches them by itself. For any thread."""
        shape, dtype = (len(rows_B), *self.file.image_shape), _torch_type(self.file.dtype)
        x_BCHW = torch.empty(shape, dtype=dtype, pin_memory=self.device.type == "cuda")
        self.file.read(self.rows_N[rows_B.numpy()], x_BCHW.numpy())
        return x_BCHW

    def placed(self, x_BCHW: Tensor) -> Tensor:
        """What `read` gave, on the device: bytes travel as bytes, others as they will be."""
        if x_BCHW.dtype != torch.uint8:
            x_BCHW = x_BCHW.to(self.dtype)
        x_BCHW = x_BCHW.to(self.device, non_blocking=True).to(self.dtype)
        if self.normalization is not None:
            normalizer(self.normalization, self)(x_BCHW)
        return x_BCHW


def chunks(x_NCHW: Tensor | StoredImages, size: int) -> Iterator[Tensor]:
    """All images on the device, so many at a time."""
    return x_NCHW.split(size) if isinstance(x_NCHW, StoredImages) else iter(torch.split(x_NCHW, size))


def _torch_type(dtype: np.dtype[Any]) -> torch.dtype:
    return torch.from_numpy(np.empty(0, dtype)).dtype
