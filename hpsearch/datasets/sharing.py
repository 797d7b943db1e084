"""Prepared images that the processes of one machine share: written to memory once, mapped by all.

A worker process would otherwise load, check and normalize them again: seconds of its start, and a copy of its own.
The memory belongs to whoever holds the descriptor, so nothing is left behind when the processes are gone.

    8 bytes: length of the JSON | JSON: what is not a tensor, and the place of each tensor | tensors
"""

from __future__ import annotations

import json
import mmap
import os
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hpsearch.datasets.device import TrainingData
from hpsearch.datasets.normalization import Normalization

ALIGNMENT = 4096  # bytes; of a page
TENSORS = ("x_train_NCHW", "y_train_N", "x_val_NCHW", "y_val_N")


class SharedImages:
    """Memory for the images of a stage; children inherit `fd`, which is empty until `write`."""

    def __init__(self, data: TrainingData) -> None:
        self.data = data
        self.fd = os.memfd_create("hpsearch-images")

    @staticmethod
    def possible() -> bool:
        """Whether the system has such memory: Linux has."""
        return hasattr(os, "memfd_create")

    def write(self) -> None:
        """Put the images there. Seconds for large ones, so children may be started before."""
        data = self.data
        parts = {name: getattr(data, name).cpu().contiguous().numpy() for name in TENSORS}
        parts |= {name: np.ascontiguousarray(getattr(data.normalization, name)) for name in ("mean", "std")}
        places, offset = {}, 0
        for name, part in parts.items():
            places[name] = {"dtype": part.dtype.str, "shape": part.shape, "offset": offset}
            offset += -(-part.nbytes // ALIGNMENT) * ALIGNMENT
        described = {
            "places": places,
            "shape": data.shape,
            "class_names": data.class_names,
            "factor": data.normalization.factor,
            "from_bytes": data.normalization.from_bytes,
            "augment": data.augment,
            "fingerprint": data.fingerprint,
        }
        header = json.dumps(described).encode()
        start = _start(len(header))
        os.truncate(self.fd, start + offset)
        _write(self.fd, len(header).to_bytes(8, "little") + header, 0)
        for name, part in parts.items():
            _write(self.fd, part.reshape(-1).view(np.uint8).data, start + places[name]["offset"])

    def close(self) -> None:
        """Let go of the memory; processes that have mapped it keep it."""
        os.close(self.fd)


def adopt(fd: int, device: torch.device) -> TrainingData:
    """The images behind a descriptor that another process wrote: on a CPU without a copy."""
    memory = mmap.mmap(fd, 0, flags=mmap.MAP_PRIVATE)  # private: torch wants to be allowed to write
    length = int.from_bytes(memory[:8], "little")
    header = json.loads(memory[8 : 8 + length])
    start = _start(length)
    parts = {name: _tensor(memory, start, place) for name, place in header["places"].items()}
    normalization = Normalization(
        parts.pop("mean").numpy(), parts.pop("std").numpy(), header["factor"], header["from_bytes"]
    )
    return TrainingData(
        **{name: tensor.to(device) for name, tensor in parts.items()},
        shape=tuple(header["shape"]),
        class_names=tuple(header["class_names"]),
        normalization=normalization,
        augment=tuple(header["augment"]),
        fingerprint=header["fingerprint"],
    )


def _write(fd: int, content: bytes | memoryview, offset: int) -> None:
    view = memoryview(content)
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written


def _start(length: int) -> int:
    return -(-(8 + length) // ALIGNMENT) * ALIGNMENT


def _tensor(memory: mmap.mmap, start: int, place: dict[str, Any]) -> Tensor:
    array = np.frombuffer(memory, place["dtype"], int(np.prod(place["shape"])), start + place["offset"])
    return torch.from_numpy(array).reshape(place["shape"])
