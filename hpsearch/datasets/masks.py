"""Augmentations that hide parts of an image under the mean colour: cutout and grid masks.

Shape suffixes: N = images of an epoch, B = batch, C = channels, H = height, W = width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hpsearch.config.augmentations import Augmentation
from hpsearch.datasets.draws import Draws
from hpsearch.datasets.pixels import Pixels


def draw_cutout(_found: Augmentation, draws: Draws) -> Tensor:
    """Middles of the squares, anywhere in the image: int64 N,2, row and column."""
    return torch.stack([draws.whole(draws.height), draws.whole(draws.width)], 1)


def cutout(found: Augmentation, x_BCHW: Tensor, middle_B2: Tensor, pixels: Pixels) -> Tensor:
    """One square less; where it sticks out, it is smaller (DeVries and Taylor 2017)."""
    first_B2 = middle_B2 - found.whole // 2
    hidden_BH, hidden_BW = (
        (place >= first[:, None]) & (place < first[:, None] + found.whole)
        for place, first in zip(_places(x_BCHW), first_B2.unbind(1), strict=True)
    )
    return _hidden(x_BCHW, hidden_BH[:, :, None] & hidden_BW[:, None, :], pixels)


def draw_gridmask(found: Augmentation, draws: Draws) -> Tensor:
    """Where the grid begins: int64 N,2, row and column."""
    return draws.whole(2 * found.whole, 2)


def gridmask(found: Augmentation, x_BCHW: Tensor, shift_B2: Tensor, pixels: Pixels) -> Tensor:
    """Squares less, with as much room between them: a quarter of the image (Chen et al. 2020, with ratio 1/2)."""
    hidden_BH, hidden_BW = (
        (place + shift[:, None]) % (2 * found.whole) < found.whole
        for place, shift in zip(_places(x_BCHW), shift_B2.unbind(1), strict=True)
    )
    return _hidden(x_BCHW, hidden_BH[:, :, None] & hidden_BW[:, None, :], pixels)


def _places(x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
    """Of rows and columns."""
    rows_H, columns_W = (torch.arange(size, device=x_BCHW.device) for size in x_BCHW.shape[-2:])
    return rows_H, columns_W


def _hidden(x_BCHW: Tensor, hidden_BHW: Tensor, pixels: Pixels) -> Tensor:
    return torch.where(hidden_BHW[:, None], pixels.mean, x_BCHW)
