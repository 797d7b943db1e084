"""Prepared images, normalized once and mapped by all processes of one machine.

A worker process would otherwise load, check and normalize them again: seconds of its start, and a copy of its own.

    tensors | JSON: their places, and what is not a tensor | 8 bytes: length of the JSON
"""

from __future__ import annotations

import json
import mmap
import os
from typing import Any

import numpy as np
import torch

from hpsearch.datasets.device import TrainingData
from hpsearch.datasets.memory import SharedMemory, bytes_of, view
from hpsearch.datasets.normalization import Normalization

TENSORS = ("x_train_NCHW", "y_train_N", "x_val_NCHW", "y_val_N")


def share(data: TrainingData) -> SharedMemory:
    """Memory with these images, complete for `adopt`: their own, or a copy where they are on another device."""
    memory = data.memory
    if memory is None:
        tensors = {name: getattr(data, name) for name in TENSORS}
        memory = SharedMemory(sum(bytes_of(x.shape, x.dtype) for x in tensors.values()))
        for name, tensor in tensors.items():
            memory.empty(name, tensor.shape, tensor.dtype).copy_(tensor)
    places = {
        name: {"dtype": str(tensor.dtype).removeprefix("torch."), "shape": tuple(tensor.shape), "offset": offset}
        for name, (tensor, offset) in memory.places.items()
    }
    described = {
        "places": places,
        "mean": data.normalization.mean.tolist(),  # float64, of which JSON keeps every bit
        "std": data.normalization.std.tolist(),
        "factor": data.normalization.factor,
        "from_bytes": data.normalization.from_bytes,
        "shape": data.shape,
        "class_names": data.class_names,
        "augment": data.augment,
        "fingerprint": data.fingerprint,
        "notes": data.notes,
    }
    content = json.dumps(described).encode()
    memory.append(content + len(content).to_bytes(8, "little"))
    return memory


def adopt(path: str, device: torch.device) -> TrainingData:
    """The images that another process shares: on a CPU without a copy.

    Raises:
        OSError: that process is gone, or its memory cannot be reached from here.
    """
    fd = os.open(path, os.O_RDWR)
    try:
        size = os.fstat(fd).st_size
        memory = mmap.mmap(fd, size, flags=mmap.MAP_PRIVATE)  # private: torch wants to be allowed to write
    finally:
        os.close(fd)
    length = int.from_bytes(memory[-8:], "little")
    header: dict[str, Any] = json.loads(memory[size - 8 - length : size - 8])
    tensors = {
        name: view(memory, place["shape"], getattr(torch, place["dtype"]), place["offset"]).to(device)
        for name, place in header["places"].items()
    }
    return TrainingData(
        **tensors,
        shape=tuple(header["shape"]),
        class_names=tuple(header["class_names"]),
        normalization=Normalization(
            np.array(header["mean"]), np.array(header["std"]), header["factor"], header["from_bytes"]
        ),
        augment=tuple(header["augment"]),
        fingerprint=header["fingerprint"],
        notes=tuple(header["notes"]),
        memory=None,
    )
