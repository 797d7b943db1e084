# ruff: noqa: N815 - fields with shape suffixes
"""Images on the device, cut into batches without leaving it; `preparing` brings them there.

Shape suffixes: N = images, B = batch, C = channels, H = height, W = width.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor

from hpsearch.config import ModelConfig
from hpsearch.config.augmentations import active
from hpsearch.datasets.augmentation import HFLIP_VIEW, draw_noise
from hpsearch.datasets.decoding import Recipe
from hpsearch.datasets.draws import Draws
from hpsearch.datasets.epoch import Epoch
from hpsearch.datasets.frozen_body import FrozenBody
from hpsearch.datasets.memory import SharedMemory
from hpsearch.datasets.mixing import Labels
from hpsearch.datasets.normalization import Normalization
from hpsearch.datasets.normalizer import Normalizer, normalizer
from hpsearch.datasets.pixels import Colours, Pixels, colours_of
from hpsearch.datasets.sampling import Sampling, draw_order
from hpsearch.datasets.splits import sample
from hpsearch.datasets.stored import StoredImages, chunks
from hpsearch.runtime import step_seed

MAX_SAMPLE = 1000  # training images on which accuracy is measured
COLOURS_CHUNK = 256  # images whose colours are looked at in one go
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
        return Epoch(seed, number, *images, order_N, tuple(noises), bounds, self.pixels, self.num_classes)

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
