"""Augmentations that mix two images of a batch, and their labels: mixup and cutmix.

Each step has one share for all its images, and each image one other of its batch.

Shape suffixes: N = images of an epoch, B = batch, C = channels, H = height, W = width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from hpsearch.config.augmentations import MIXES, Augmentation, parse_augmentation
from hpsearch.datasets.draws import Draws
from hpsearch.datasets.pixels import Pixels


@dataclass(frozen=True, eq=False)
class MixedLabels:
    """Two labels of each image: the loss is `share` times that of the first, and the rest that of the second."""

    first_B: Tensor  # noqa: N815
    second_B: Tensor  # noqa: N815
    share: Tensor
    """Of shape [], on the device."""

    def __len__(self) -> int:
        return len(self.first_B)


@dataclass(frozen=True, eq=False)
class SoftLabels:
    """Shares of the classes for each image, floats that are 1 together, as a function of the user's gives them."""

    rows_BC: Tensor  # noqa: N815

    def __len__(self) -> int:
        return len(self.rows_BC)


Labels: TypeAlias = Tensor | MixedLabels | SoftLabels


def mixes(kind: str) -> bool:
    """Whether a kind of augmentation changes labels."""
    return kind.partition(":")[0] in MIXES and parse_augmentation(kind).is_on


def mixed_labels(y_B: Tensor, noise: Tensor) -> MixedLabels:
    """Those of a batch, from the random numbers of its mixing."""
    return MixedLabels(y_B, y_B.index_select(0, _others(noise)), noise[0, 1])


def draw_mixup(found: Augmentation, draws: Draws) -> Tensor:
    """Float32 N,2: the other image, by its place in the batch, and the share of the own one (Zhang et al. 2017)."""
    shares = draws.numpy().beta(found.number, found.number, len(draws.bounds))
    return _by_place(draws, shares[:, None])


def mixup(_found: Augmentation, x_BCHW: Tensor, noise_B2: Tensor, _pixels: Pixels) -> Tensor:
    """Each image with another one shining through."""
    share = noise_B2[0, 1].to(x_BCHW.dtype)
    return share * x_BCHW + (1 - share) * x_BCHW.index_select(0, _others(noise_B2))


def draw_cutmix(found: Augmentation, draws: Draws) -> Tensor:
    """Float32 N,6: as `draw_mixup`, and the window: top, bottom, left, right (Yun et al. 2019).

    As in torchvision's CutMix, its middle is anywhere in the image, and the share is that which it leaves.
    """
    height, width, random = draws.height, draws.width, draws.numpy()
    shares = random.beta(found.number, found.number, len(draws.bounds))
    row, column = (random.integers(size, size=len(shares)) for size in (height, width))
    half = 0.5 * np.sqrt(1 - shares)
    half_rows, half_columns = (half * height).astype(int), (half * width).astype(int)
    top, bottom = (row - half_rows).clip(0), (row + half_rows).clip(max=height)
    left, right = (column - half_columns).clip(0), (column + half_columns).clip(max=width)
    shares = 1 - (bottom - top) * (right - left) / (height * width)
    return _by_place(draws, np.stack([shares, top, bottom, left, right], 1))


def cutmix(_found: Augmentation, x_BCHW: Tensor, noise_B6: Tensor, _pixels: Pixels) -> Tensor:
    """Each image with a window of another one."""
    rows_H, columns_W = (torch.arange(size, device=x_BCHW.device) for size in x_BCHW.shape[-2:])
    top, bottom, left, right = noise_B6[0, 2:].unbind()
    inside_HW = ((rows_H >= top) & (rows_H < bottom))[:, None] & (columns_W >= left) & (columns_W < right)
    return torch.where(inside_HW, x_BCHW.index_select(0, _others(noise_B6)), x_BCHW)


def _others(noise: Tensor) -> Tensor:
    return noise[:, 0].to(torch.int64)


def _by_place(draws: Draws, of_batches: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> Tensor:
    """What each place has: another image of its batch, and what the batch has. Places beyond the batches have zeros."""
    found = torch.zeros(draws.num, 1 + of_batches.shape[1])
    for (first, behind), numbers in zip(draws.bounds, of_batches, strict=True):
        found[first:behind, 0] = torch.randperm(behind - first, generator=draws.generator).float()
        found[first:behind, 1:] = torch.from_numpy(numbers).float()
    return found
