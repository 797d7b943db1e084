# ruff: noqa: N815 - fields with shape suffixes
"""One epoch of minibatches: an order of the images and the random numbers of their augmentation, all drawn before.

Shape suffixes: N = images, M = places in the order, B = batch, C = channels, H = height, W = width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import cast

import torch
from torch import Tensor

from hpsearch.config.augmentations import is_own
from hpsearch.datasets.augmentation import augment
from hpsearch.datasets.mixing import Labels, mixed_labels, mixes
from hpsearch.datasets.normalizer import Normalizer
from hpsearch.datasets.own_augmentation import own_augmentation
from hpsearch.datasets.pixels import Pixels
from hpsearch.datasets.stored import Ahead, StoredImages
from hpsearch.runtime import step_seed


@dataclass(frozen=True, eq=False)
class Epoch:
    """The minibatches of an epoch, each to be taken by its number, or by places that are known to the device alone.

    All tensors are on the device of the images, but for the order of those that stay on disk, which is the host's.
    """

    seed: int
    number: int
    """From 1."""
    x_NCHW: Tensor | StoredImages
    y_N: Tensor
    normalize: Normalizer
    order_M: Tensor
    """Rows of the images, as they come."""
    noises: tuple[tuple[str, Tensor], ...]
    """Kinds of augmentation, with their random numbers by place."""
    bounds: tuple[tuple[int, int], ...]
    """Of each batch: its first place, and that behind its last."""
    pixels: Pixels | None = None
    """Of the images, where the augmentation works on their pixel values; else on normalized images."""
    num_classes: int = 0
    """Of the labels."""

    @property
    def on_device(self) -> bool:
        """Whether the images are there, so that `gather` can take them."""
        return isinstance(self.x_NCHW, Tensor)

    @property
    def num_batches(self) -> int:
        """Steps of the epoch."""
        return len(self.bounds)

    def size(self, step: int) -> int:
        """Images of a batch."""
        first, behind = self.bounds[step]
        return behind - first

    def noise_seed(self, step: int) -> int:
        """Of what a forward pass draws in that step."""
        return step_seed(self.seed, self.number, step)

    def batch(self, step: int) -> tuple[Tensor, Labels]:
        """(x B,C,H,W, y B): normalized and augmented; labels may be mixed."""
        places = slice(*self.bounds[step])
        rows_B, noises_B = self.order_M[places], [noise_M[places] for _, noise_M in self.noises]
        if not isinstance(self.x_NCHW, StoredImages):
            return self._take(rows_B, noises_B)
        x_BCHW = self.x_NCHW.placed(self._ahead.take(step))
        y_B = self.y_N.index_select(0, rows_B.to(self.y_N.device))
        return self._augmented(x_BCHW, y_B, noises_B)

    def gather(self, places_B: Tensor) -> tuple[Tensor, Labels]:
        """As `batch`, of a batch's places: nothing of it is known to the host, so the images must be on the device."""
        noises = [noise_M.index_select(0, places_B) for _, noise_M in self.noises]
        return self._take(self.order_M.index_select(0, places_B), noises)

    def copy(self) -> Epoch:
        """One with an order and random numbers of its own, of the same images."""
        return replace(self, order_M=self.order_M.clone(), noises=tuple((kind, n.clone()) for kind, n in self.noises))

    def fits(self, other: Epoch) -> bool:
        """Whether `take` can take that one in."""
        sizes = [[tensor.shape for tensor in (each.order_M, *dict(each.noises).values())] for each in (self, other)]
        return self.x_NCHW is other.x_NCHW and sizes[0] == sizes[1]

    def take(self, other: Epoch) -> None:
        """Overwrite order and random numbers with those of another epoch of the same images."""
        self.order_M.copy_(other.order_M)
        for (_, own_M), (_, given_M) in zip(self.noises, other.noises, strict=True):
            own_M.copy_(given_M)

    @classmethod
    def joined(cls, epochs: Sequence[Epoch], number: int, num_batches: int) -> Epoch:
        """The first batches of epochs that follow each other, as one of that number."""
        starts = [0]
        for epoch in epochs:
            starts.append(starts[-1] + len(epoch.order_M))
        bounds = [
            (s + first, s + behind) for s, each in zip(starts, epochs, strict=False) for first, behind in each.bounds
        ]
        noises = zip(*(each.noises for each in epochs), strict=True)
        return replace(
            epochs[0],
            number=number,
            order_M=torch.cat([each.order_M for each in epochs]),
            noises=tuple((parts[0][0], torch.cat([noise_M for _, noise_M in parts])) for parts in noises),
            bounds=tuple(bounds[:num_batches]),
        )

    def _take(self, rows_B: Tensor, noises_B: Sequence[Tensor]) -> tuple[Tensor, Labels]:
        return self._augmented(self.x_NCHW.index_select(0, rows_B), self.y_N.index_select(0, rows_B), noises_B)

    def _augmented(self, x_BCHW: Tensor, y_B: Tensor, noises_B: Sequence[Tensor]) -> tuple[Tensor, Labels]:
        pixels, labels_B = self.pixels, cast(Labels, y_B)
        if pixels is None:
            x_BCHW = self.normalize(x_BCHW)
        elif x_BCHW.dtype == torch.uint8:
            x_BCHW = pixels.of_stored(x_BCHW)
        else:
            x_BCHW = pixels.of_normalized(self.normalize(x_BCHW))
        for (kind, _), noise_B in zip(self.noises, noises_B, strict=True):
            if is_own(kind):
                x_BCHW, labels_B = own_augmentation(kind)(x_BCHW, labels_B, noise_B, self.num_classes)
                continue
            x_BCHW = augment(kind, x_BCHW, noise_B, pixels)
            if mixes(kind):
                labels_B = mixed_labels(y_B, noise_B)
        return x_BCHW if pixels is None else pixels.normalized(x_BCHW), labels_B

    @cached_property
    def _ahead(self) -> Ahead[Tensor]:
        """Of images that stay on disk: the batches, as they are stored."""
        stored, order_M, bounds = self.x_NCHW, self.order_M, self.bounds
        assert isinstance(stored, StoredImages)
        return Ahead(lambda step: stored.read(order_M[slice(*bounds[step])]), self.num_batches)
