"""The way of images to the device: loaded, checked, divided, normalized, placed; in memory, or left on disk.

Shape suffixes: N = images, B = batch, C = channels, H = height, W = width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hpsearch.config import DataConfig
from hpsearch.datasets.checks import check_same_kind
from hpsearch.datasets.device import TrainingData
from hpsearch.datasets.device_start import start_device
from hpsearch.datasets.image_file import ImageFile, Rows
from hpsearch.datasets.images import Array, Images, Progress
from hpsearch.datasets.memory import SharedMemory, bytes_of
from hpsearch.datasets.normalization import Normalization, Part, fit, of_channels
from hpsearch.datasets.normalizer import normalizer
from hpsearch.datasets.notes import folds_note, on_disk_note
from hpsearch.datasets.room import room_for_images
from hpsearch.datasets.sources import DATA_DIR, load_test, load_train
from hpsearch.datasets.splits import divisions
from hpsearch.datasets.stored import StoredImages
from hpsearch.errors import ConfigError

Moments = tuple[tuple[float, ...], tuple[float, ...]]  # mean and std, by channel, of pixels from 0 to 1

PART_BYTES = 2**20  # copied at a time, into another order or type while they are in the cache


def prepare(
    config: DataConfig,
    device: torch.device,
    dtype: torch.dtype,
    data_dir: Path = DATA_DIR,
    progress: Progress | None = None,
    room: int = 0,
    moments: Moments | None = None,
) -> TrainingData:
    """Load the training split, check it, hold out, fit the normalization on the training part, move to the device.

    `dtype` is float32 or float64. Images of more than `room` bytes stay on disk; 0: of more than half of what is free.
    `moments` are mean and std by channel for data.normalize = pretrained. Nothing here comes from the test split.

    Raises:
        DataError: the images cannot be read or are not fit to train on.
        ConfigError: data.val or data.limit do not fit them, or the device has no float64.
    """
    if device.type == "mps" and dtype == torch.float64:
        raise ConfigError("train.precision = 'float64' does not run on mps.\nAllowed: float32, or run.device = cpu.")
    starting = start_device(device)
    images = load_train(config, data_dir, progress)
    with ThreadPoolExecutor(1) as beside:  # it hashes for as long as all the rest takes
        fingerprint = beside.submit(images.fingerprint)
        parts = divisions(config, images.y, images.val_rows, images.groups)
        prepared = [_prepared(config, images, *part, len(parts), device, dtype, room, moments) for part in parts]
    if starting is not None:
        starting.join()  # nothing else may happen on a GPU while steps are recorded there
    data, *others = (replace(each, fingerprint=fingerprint.result()) for each in prepared)
    whole = replace(data, other_folds=tuple(others), notes=(*data.notes, *folds_note(len(parts), len(images.y))))
    return whole.augmented_by(config.augment)


def _prepared(
    config: DataConfig,
    images: Images,
    train: Array,
    val: Array,
    num_parts: int,
    device: torch.device,
    dtype: torch.dtype,
    room: int,
    moments: Moments | None,
) -> TrainingData:
    """All but the fingerprint, of one fold of several, or of the only part that there is."""
    bytes_stay = images.x.dtype == np.uint8
    wanted = _num_bytes(images, len(train), torch.uint8 if bytes_stay else dtype) + _num_bytes(images, len(val), dtype)
    if _stay_on_disk(images, num_parts * wanted, device, room):
        return _prepared_on_disk(config, images, train, val, device, dtype, moments)
    tensors, memory = _place(
        {
            "x_train_NCHW": (images.x, train, torch.uint8 if bytes_stay else dtype),
            "y_train_N": (images.y, train, torch.int64),
            "x_val_NCHW": (images.x, val, dtype),
            "y_val_N": (images.y, val, torch.int64),
        },
        device,
    )
    x_train = tensors["x_train_NCHW"].numpy() if bytes_stay and memory is not None else images.x[train]
    normalization = _normalization(config, x_train, moments)
    for name in ("x_val_NCHW",) if bytes_stay else ("x_train_NCHW", "x_val_NCHW"):
        normalizer(normalization, tensors[name])(tensors[name])
    known = {**_said(config, images, val), **tensors}
    return TrainingData(**known, normalization=normalization, memory=memory)


def _prepared_on_disk(
    config: DataConfig,
    images: Images,
    train: Array,
    val: Array,
    device: torch.device,
    dtype: torch.dtype,
    moments: Moments | None,
) -> TrainingData:
    """The same of images that are read as they are used: nothing is held whole, and statistics are taken by parts."""
    file = images.file or ImageFile.holding(images.x, np.arange(len(images)))
    normalization = _normalization(config, Rows(file, train), moments)
    labels = {"y_train_N": (images.y, train, torch.int64), "y_val_N": (images.y, val, torch.int64)}
    tensors, memory = _place(labels, device)
    known = {**_said(config, images, val), **tensors}
    known["notes"] = (*images.notes, on_disk_note(len(train) + len(val), file.image_bytes))
    return TrainingData(
        x_train_NCHW=StoredImages(file, train, torch.uint8 if images.x.dtype == np.uint8 else dtype, device),
        x_val_NCHW=StoredImages(file, val, dtype, device, normalization),
        **known,
        normalization=normalization,
        memory=memory,
    )


def _said(config: DataConfig, images: Images, val: Array) -> dict[str, Any]:
    """What is known of the images, wherever they lie; augmentation and fingerprint come later."""
    return {
        "shape": images.shape,
        "class_names": images.class_names,
        "augment": (),
        "sampling": config.sampling,
        "fingerprint": "",
        "notes": images.notes,
        "recipe": images.recipe,
        "val_names": tuple(images.name_of(row) for row in val.tolist()),
    }


def _normalization(config: DataConfig, x_NCHW: Part, moments: Moments | None) -> Normalization:
    if config.normalize != "pretrained":
        return fit(config.normalize, x_NCHW, config.scale)
    assert moments is not None
    return of_channels(*moments, x_NCHW, config.scale)


def _num_bytes(images: Images, num: int, dtype: torch.dtype) -> int:
    """Of so many images in memory."""
    return num * math.prod(images.shape) * dtype.itemsize


def _stay_on_disk(images: Images, num_bytes: int, device: torch.device, room: int) -> bool:
    """Whether images are read as they are used. Those that lie in memory anyway stay there unless a room is given."""
    if not ImageFile.possible() or (images.file is None and device.type == "cpu" and not room):
        return False
    return num_bytes > room_for_images(device, room)


Placed = tuple[Array, Array, torch.dtype]  # array, rows of it, type on the device


def _place(parts: dict[str, Placed], device: torch.device) -> tuple[dict[str, Tensor], SharedMemory | None]:
    """Copies on the device; on a CPU in shared memory, where the system has it."""
    if device.type != "cpu" or not SharedMemory.possible():
        return {name: _raw(x[rows], dtype).to(device).to(dtype) for name, (x, rows, dtype) in parts.items()}, None
    shapes = {name: (len(rows), *x.shape[1:]) for name, (x, rows, _) in parts.items()}
    memory = SharedMemory(sum(bytes_of(shapes[name], dtype) for name, (_, _, dtype) in parts.items()))
    tensors = {name: memory.empty(name, shapes[name], dtype) for name, (_, _, dtype) in parts.items()}
    for name, (x, rows, _) in parts.items():
        place = tensors[name].numpy()
        size = max(1, PART_BYTES * len(x) // max(1, x.nbytes))
        for start in range(0, len(rows), size):
            part = slice(start, start + size)
            place[part] = x[rows[part]]
    return tensors, memory


def prepare_test(
    config: DataConfig,
    training_data: TrainingData,
    data_dir: Path = DATA_DIR,
    progress: Progress | None = None,
    room: int = 0,
    hear: Callable[[str], None] = lambda _fingerprint: None,
) -> tuple[Tensor | StoredImages, Tensor]:
    """The test split as (x N,C,H,W, y N), normalized and placed like the training data. Nothing else gives it.

    Images of more than `room` bytes stay on disk, as in `prepare`. `hear` is told which images they are, as they were
    loaded: their fingerprint.

    Raises:
        DataError: there is none, it cannot be read, or it does not match the training split.
    """
    images = load_test(config, data_dir, progress)
    hear(images.fingerprint())
    normalization = training_data.normalization
    trained_on = np.dtype(np.uint8 if normalization.from_bytes else np.float64)
    check_same_kind(images, training_data.shape, trained_on, config.source)
    like = training_data.x_val_NCHW
    y_N = torch.from_numpy(images.y).to(like.device)
    if _stay_on_disk(images, _num_bytes(images, len(images), like.dtype), like.device, room):
        rows = np.arange(len(images))
        file = images.file or ImageFile.holding(images.x, rows)
        return StoredImages(file, rows, like.dtype, like.device, normalization), y_N
    x_NCHW = _raw(np.array(images.x, order="C"), like.dtype).to(like.device).to(like.dtype)
    return normalizer(normalization, x_NCHW)(x_NCHW), y_N


def _raw(x_NCHW: Array, dtype: torch.dtype) -> Tensor:
    """As they travel to the device: bytes as bytes, others as they will be, since not every device takes float64."""
    raw = torch.from_numpy(np.ascontiguousarray(x_NCHW))
    return raw if x_NCHW.dtype == np.uint8 else raw.to(dtype)
