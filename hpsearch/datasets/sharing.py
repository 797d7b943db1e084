"""Prepared images, normalized once and mapped by all processes of one machine.

A worker process would otherwise load, check and normalize them again: seconds of its start, and a copy of its own. Not
PyTorch's own shared memory, which lies in /dev/shm: 64 MiB in a container by default, and a bus error beyond.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from multiprocessing.reduction import DupFd
from typing import Any

import torch
from torch import Tensor

from hpsearch.datasets.device import TrainingData
from hpsearch.datasets.memory import SharedMemory, bytes_of, view
from hpsearch.datasets.stored import StoredImages

TENSORS = ("x_train_NCHW", "y_train_N", "x_val_NCHW", "y_val_N")


@dataclass(frozen=True)
class Place:
    """A tensor in the memory."""

    shape: Sequence[int]
    dtype: torch.dtype
    offset: int


class SharedImages:
    """Images in memory that goes to another process when this is an argument of it, without a copy.

    Args:
        memory: of the tensors; whoever has it keeps it.
        places: of the tensors in it.
        rest: everything else that images are made of.
    """

    def __init__(self, memory: Any, places: Mapping[str, Place], rest: Mapping[str, Any]) -> None:
        self._memory, self._places, self._rest = memory, dict(places), dict(rest)

    @staticmethod
    def possible() -> bool:
        """Whether the system has such memory."""
        return SharedMemory.possible()

    def __reduce__(self) -> tuple[Any, ...]:
        return _received, (DupFd(self._memory.fd), self._places, self._rest)

    def adopt(self, device: torch.device) -> TrainingData:
        """The images, on a CPU without a copy. For the process that received them."""
        tensors = {
            name: view(self._memory, place.shape, place.dtype, place.offset).to(device)
            for name, place in self._places.items()
        }
        rest: dict[str, Any] = {
            name: each.to(device) if isinstance(each, StoredImages) else each for name, each in self._rest.items()
        }
        rest["other_folds"] = tuple(fold.adopt(device) for fold in rest["other_folds"])
        return TrainingData(**{**rest, **tensors})


def _received(duplicate: Any, places: Mapping[str, Place], rest: Mapping[str, Any]) -> SharedImages:
    fd = duplicate.detach()
    try:  # private: torch wants to be allowed to write
        memory = mmap.mmap(fd, os.fstat(fd).st_size, flags=mmap.MAP_PRIVATE)
    finally:
        os.close(fd)
    return SharedImages(memory, places, rest)


def share(data: TrainingData) -> SharedImages:
    """These images for other processes: their own memory, or a copy where they are on another device."""
    memory = data.memory
    if memory is None:
        tensors = {name: tensor for name in TENSORS if isinstance(tensor := getattr(data, name), Tensor)}
        memory = SharedMemory(sum(bytes_of(x.shape, x.dtype) for x in tensors.values()))
        for name, tensor in tensors.items():
            memory.empty(name, tensor.shape, tensor.dtype).copy_(tensor)
    places = {name: Place(tuple(x.shape), x.dtype, offset) for name, (x, offset) in memory.places.items()}
    left = (*places, "memory", "val_names")  # no worker asks for names, and there may be many
    rest = {f.name: getattr(data, f.name) for f in fields(TrainingData) if f.name not in left}
    rest["other_folds"] = tuple(share(fold) for fold in data.other_folds)
    return SharedImages(memory, places, rest)
