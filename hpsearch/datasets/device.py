# ruff: noqa: N815 - fields with shape suffixes
"""Images on the device: prepared once, then cut into batches without leaving it.

Shape suffixes: N = images, B = batch, C = channels, H = height, W = width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hpsearch.config import DataConfig, ModelConfig
from hpsearch.config.augmentations import active
from hpsearch.datasets.augmentation import HFLIP_VIEW, draw_noise
from hpsearch.datasets.checks import check_same_kind
from hpsearch.datasets.decoding import Recipe
from hpsearch.datasets.device_start import start_device
from hpsearch.datasets.draws import Draws
from hpsearch.datasets.epoch import Epoch
from hpsearch.datasets.frozen_body import FrozenBody
from hpsearch.datasets.image_file import ImageFile, Rows
from hpsearch.datasets.images import Array, Images, Progress
from hpsearch.datasets.memory import SharedMemory, bytes_of
from hpsearch.datasets.mixing import Labels
from hpsearch.datasets.normalization import Normalization, Part, fit, of_channels
from hpsearch.datasets.normalizer import Normalizer, normalizer
from hpsearch.datasets.notes import folds_note, on_disk_note
from hpsearch.datasets.pixels import Colours, Pixels, colours_of
from hpsearch.datasets.room import room_for_images
from hpsearch.datasets.sampling import Sampling, draw_order
from hpsearch.datasets.sources import DATA_DIR, load_test, load_train
from hpsearch.datasets.splits import divisions, sample
from hpsearch.datasets.stored import StoredImages, chunks
from hpsearch.errors import ConfigError
from hpsearch.runtime import step_seed

Moments = tuple[tuple[float, ...], tuple[float, ...]]  # mean and std, by channel, of pixels from 0 to 1

MAX_SAMPLE = 1000  # training images on which accuracy is measured
COLOURS_CHUNK = 256  # images whose colours are looked at in one go
PART_BYTES = 2**20  # copied at a time, into another order or type while they are in the cache
SAMPLE_SEED = 0  # draws them; a constant, so that all trials are measured on the same ones


@dataclass(frozen=True, eq=False)
class TrainingData:
    """The training part and the hold-out on one device; labels are int64.

    The hold-out is normalized. So are the training images, but those that are bytes stay bytes, which take a quarter of
    the memory and of the time to prepare: they are normalized as they are used, to the same numbers. Images that memory
    does not hold stay on disk, and give the same numbers, too.

    `fingerprint` is a hash of the training split as it was loaded, before data.limit and the hold-out that it draws.
    """

    x_train_NCHW: Tensor | StoredImages
    y_train_N: Tensor
    x_val_NCHW: Tensor | StoredImages
    y_val_N: Tensor
    shape: tuple[int, int, int]  # channels, height, width
    class_names: tuple[str, ...]
    normalization: Normalization
    augment: tuple[str, ...]
    fingerprint: str
    notes: tuple[str, ...] = field(default=(), kw_only=True)
    """Plain sentences on how the images were read."""
    recipe: Recipe | None = field(default=None, kw_only=True)
    """How the image files were decoded; None where the images came as arrays."""
    sampling: Sampling = field(default="shuffled", kw_only=True)
    """In what order the training images come."""
    memory: SharedMemory | None = field(default=None, kw_only=True)
    """That of the four tensors, where other processes can map it."""

    val_names: tuple[str | int, ...] = field(default=(), kw_only=True)
    """Of the images of the hold-out, as `Images.name_of` has them."""
    colours: Colours | None = field(default=None, kw_only=True)
    """Of the images, where augmentation asks for them; None: not looked at yet."""

    body: FrozenBody | None = field(default=None, kw_only=True)
    """Of whose features the images have been replaced by theirs; `shape` is that of the images still."""
    other_folds: tuple[TrainingData, ...] = field(default=(), kw_only=True)
    """The same images divided otherwise, for cross-validation; this is the first fold."""

    @property
    def folds(self) -> tuple[TrainingData, ...]:
        """All folds, each for itself; this one alone where there is no cross-validation."""
        return (replace(self, other_folds=()), *self.other_folds) if self.other_folds else (self,)

    def trained_net(self, model: ModelConfig) -> tuple[ModelConfig, tuple[int, int, int]]:
        """The net that trains on what is here, and the shape that it takes: the whole, or its head alone."""
        return (model, self.shape) if self.body is None else (self.body.head(model), self.body.shape)

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def on_disk(self) -> bool:
        """Whether the training images stay there."""
        return isinstance(self.x_train_NCHW, StoredImages)

    @property
    def num_train(self) -> int:
        """Images in the training part."""
        return len(self.y_train_N)

    @property
    def num_val(self) -> int:
        """Images that are validated on: those of the hold-out, or of all folds."""
        return sum(len(fold.y_val_N) for fold in self.folds)

    @property
    def largest_share(self) -> float:
        """Of the hold-out, how many images are of its most frequent class."""
        return float(self.y_val_N.bincount().max()) / len(self.y_val_N)

    def num_batches(self, batch_size: int) -> int:
        """Batches in an epoch. The last one may be smaller, but a single image left over makes none."""
        full, rest = divmod(self.num_train, batch_size)
        # Batch normalization has no variance over one image.
        return full + (rest > 1 or (rest == 1 and full == 0))

    def epoch(self, seed: int, number: int, batch_size: int) -> Epoch:
        """An epoch's minibatches: shuffled and augmented, from (seed, number) alone; the first is 1.

        Which images are mixed, and by what shares, is drawn for each batch, so it depends on their size, too. All
        chance is drawn on the CPU, so that every device sees the same.
        """
        generator = torch.Generator().manual_seed(step_seed(seed, number, 0, "batches"))
        device = self.x_train_NCHW.device
        order_N = draw_order(self.sampling, self.y_train_N, generator)
        if not self.on_disk:
            order_N = order_N.to(device)
        firsts = range(0, self.num_batches(batch_size) * batch_size, batch_size)
        bounds = tuple((first, min(first + batch_size, self.num_train)) for first in firsts)
        draws = Draws(self.num_train, self.shape, bounds, generator)
        kinds = self.augment if self.augment == (HFLIP_VIEW,) else tuple(map(str, active(self.augment)))
        noises = [(kind, draw_noise(kind, self.num_train, generator, draws).to(device)) for kind in kinds]
        images = self.x_train_NCHW, self.y_train_N, self._normalizer()
        return Epoch(seed, number, *images, order_N, tuple(noises), bounds, self.pixels)

    def augmented_by(self, kinds: tuple[str, ...]) -> TrainingData:
        """The same images with another list of augmentations; features of images stay as they are."""
        if self.body is not None or kinds == self.augment:
            return self
        other = replace(self, augment=kinds, other_folds=tuple(fold.augmented_by(kinds) for fold in self.other_folds))
        return replace(other, colours=other._colours) if other._looks_at_pixels else other

    def batches(self, seed: int, epoch: int, batch_size: int) -> Iterator[tuple[Tensor, Labels]]:
        """The batches of one epoch as (x B,C,H,W, y B)."""
        whole = self.epoch(seed, epoch, batch_size)
        return (whole.batch(step) for step in range(whole.num_batches))

    def stretches(self, num_batches: int, every: int) -> Iterator[range]:
        """The steps of an epoch, as they are done without a look in between: the last one is one for itself."""
        ends = [*range(every, num_batches - 1, every), num_batches - 1, num_batches]
        return (range(first, behind) for first, behind in pairwise([0, *ends]) if first < behind)

    def train_sample(self, num: int = MAX_SAMPLE) -> tuple[Tensor, Tensor]:
        """A fixed stratified sample of the training part, at most 1,000 images, never augmented."""
        rows = sample(self.y_train_N.cpu().numpy(), min(num, MAX_SAMPLE), SAMPLE_SEED)
        rows_B = torch.from_numpy(rows).to(self.x_train_NCHW.device)
        return self.train_images(rows_B), self.y_train_N.index_select(0, rows_B)

    def train_images(self, rows_B: Tensor | None = None) -> Tensor:
        """These images of the training part, or all of them: normalized, in the hold-out's precision."""
        x_NCHW = self.x_train_NCHW
        if rows_B is not None:
            x_NCHW = x_NCHW.index_select(0, rows_B)
        elif isinstance(x_NCHW, StoredImages):
            x_NCHW = x_NCHW.index_select(0, torch.arange(len(x_NCHW)))
        if self.body is not None:
            x_NCHW = x_NCHW[:, : self.body.num_features]  # not those of flipped images
        return self._normalizer()(x_NCHW)

    @property
    def _looks_at_pixels(self) -> bool:
        return self.augment != (HFLIP_VIEW,) and any(each.kind.in_pixels for each in active(self.augment))

    @cached_property
    def _colours(self) -> Colours:
        if self.colours is not None:
            return self.colours
        x_NCHW = self.x_train_NCHW
        normalized = isinstance(x_NCHW, Tensor) and x_NCHW.is_floating_point()
        return colours_of(chunks(x_NCHW, COLOURS_CHUNK), self.normalization, normalized=normalized)

    @cached_property
    def pixels(self) -> Pixels | None:
        """What is known of pixel values, where augmentation works on them."""
        if not self._looks_at_pixels:
            return None
        return Pixels(self.normalization, self._colours, self.x_val_NCHW)

    def _normalizer(self) -> Normalizer:
        """For images of the training part as they are stored."""
        if isinstance(self.x_train_NCHW, Tensor) and self.x_train_NCHW.is_floating_point():
            return lambda x_BCHW: x_BCHW
        return normalizer(self.normalization, self.x_val_NCHW)


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
    return TrainingData(
        **tensors,
        shape=images.shape,
        class_names=images.class_names,
        normalization=normalization,
        augment=(),
        sampling=config.sampling,
        fingerprint="",
        notes=images.notes,
        recipe=images.recipe,
        val_names=_names(images, val),
        body=None,
        colours=None,
        memory=memory,
        other_folds=(),
    )


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
    as_bytes = images.x.dtype == np.uint8
    return TrainingData(
        x_train_NCHW=StoredImages(file, train, torch.uint8 if as_bytes else dtype, device),
        x_val_NCHW=StoredImages(file, val, dtype, device, normalization),
        **tensors,
        shape=images.shape,
        class_names=images.class_names,
        normalization=normalization,
        augment=(),
        sampling=config.sampling,
        fingerprint="",
        notes=(*images.notes, on_disk_note(len(train) + len(val), file.image_bytes)),
        recipe=images.recipe,
        val_names=_names(images, val),
        body=None,
        colours=None,
        memory=memory,
        other_folds=(),
    )


def _names(images: Images, rows: Array) -> tuple[str | int, ...]:
    return tuple(images.name_of(row) for row in rows.tolist())


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
) -> tuple[Tensor | StoredImages, Tensor]:
    """The test split as (x N,C,H,W, y N), normalized and placed like the training data. Nothing else gives it.

    Images of more than `room` bytes stay on disk, as in `prepare`.

    Raises:
        DataError: there is none, it cannot be read, or it does not match the training split.
    """
    images = load_test(config, data_dir, progress)
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
