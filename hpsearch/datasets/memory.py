"""Memory for tensors that other processes of the machine can map.

Images on a CPU are prepared in it from the beginning, so sharing them with worker processes costs nothing later. It
belongs to whoever has it open: nothing is left behind when the processes are gone.
"""

from __future__ import annotations

import math
import mmap
import os
import weakref
from collections.abc import Sequence

import torch
from torch import Tensor

ALIGNMENT = 4096  # bytes; of a page


class SharedMemory:
    """Room for so many bytes of tensors."""

    def __init__(self, num_bytes: int) -> None:
        self.fd = os.memfd_create("hpsearch-images")
        weakref.finalize(self, os.close, self.fd)
        self.num_bytes = max(num_bytes, 1)
        os.truncate(self.fd, self.num_bytes)
        self._mapped = mmap.mmap(self.fd, self.num_bytes)
        self.places: dict[str, tuple[Tensor, int]] = {}
        """Tensors by name, with their offset in bytes."""
        self._end = 0

    @staticmethod
    def possible() -> bool:
        """Whether the system has such memory: Linux has."""
        return hasattr(os, "memfd_create")

    def empty(self, name: str, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """A tensor in it, not initialized."""
        tensor = view(self._mapped, shape, dtype, self._end)
        self.places[name] = (tensor, self._end)
        self._end += bytes_of(shape, dtype)
        return tensor


def view(memory: mmap.mmap, shape: Sequence[int], dtype: torch.dtype, offset: int) -> Tensor:
    """The tensor at an offset of mapped memory."""
    numbers = math.prod(shape)
    if not numbers:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(memory, dtype=dtype, count=numbers, offset=offset).reshape(shape)


def bytes_of(shape: Sequence[int], dtype: torch.dtype) -> int:
    """Bytes that a tensor takes, up to the next page."""
    return -(-math.prod(shape) * dtype.itemsize // ALIGNMENT) * ALIGNMENT
