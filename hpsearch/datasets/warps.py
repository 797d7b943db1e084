"""Augmentations that move pixels: scale, translate, rotate, elastic. Each image has a grid of its own.

Values between pixels are bilinear; what comes in from outside is the mean colour.

Shape suffixes: N = images of an epoch, B = batch, C = channels, H = height, W = width.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from hpsearch.config.augmentations import Augmentation
from hpsearch.datasets.draws import Draws
from hpsearch.datasets.pixels import Pixels

MOST_ASPECT = 4 / 3  # of a window that is shown whole, each way: torchvision's RandomResizedCrop
NUM_ATTEMPTS = 10  # at a window that fits, as there
COARSE = 3  # points each way at which shifts are drawn (Ronneberger et al. 2015, U-Net)


def draw_scale(found: Augmentation, draws: Draws) -> Tensor:
    """Windows by the rule of torchvision's RandomResizedCrop: int64 N,4, top, left, height, width."""
    height, width = draws.height, draws.width
    area, shape, place = draws.uniform(NUM_ATTEMPTS), draws.signed(NUM_ATTEMPTS), draws.uniform(2)
    area = height * width * (found.number + (1 - found.number) * area)
    aspect = (shape * math.log(MOST_ASPECT)).exp()
    sizes = torch.stack([(area / aspect).sqrt().round(), (area * aspect).sqrt().round()], -1)  # N, attempts, 2
    whole = torch.tensor([height, width], dtype=torch.float64)
    fits = ((sizes > 0) & (sizes <= whole)).all(-1)
    first = fits.to(torch.int8).argmax(1)
    size_N2 = sizes[torch.arange(draws.num), first]
    offset_N2 = (place * (whole - size_N2 + 1)).floor()
    middle = _middle(height, width).expand(draws.num, -1)
    found_N4 = torch.cat([offset_N2, size_N2], 1)
    return torch.where(fits.any(1, keepdim=True), found_N4, middle).to(torch.int64)


def _middle(height: int, width: int) -> Tensor:
    """What is shown where no window fits: as much of the middle as the aspect allows."""
    rows, columns = height, width
    if width / height < 1 / MOST_ASPECT:
        rows = round(width * MOST_ASPECT)
    elif width / height > MOST_ASPECT:
        columns = round(height * MOST_ASPECT)
    return torch.tensor([(height - rows) // 2, (width - columns) // 2, rows, columns], dtype=torch.float64)


def scale(_found: Augmentation, x_BCHW: Tensor, window_B4: Tensor, _pixels: Pixels) -> Tensor:
    """The windows, enlarged to the whole; at their borders the outermost pixels go on."""
    height, width = x_BCHW.shape[-2:]
    top, left, rows, columns = (each[:, None] for each in window_B4.to(x_BCHW.dtype).unbind(1))
    y_BH = top + ((_centres(height, x_BCHW) + 0.5) * rows / height - 0.5).clamp(min=0).minimum(rows - 1)
    x_BW = left + ((_centres(width, x_BCHW) + 0.5) * columns / width - 0.5).clamp(min=0).minimum(columns - 1)
    return _sampled(x_BCHW, y_BH[:, :, None].expand(-1, -1, width), x_BW[:, None, :].expand(-1, height, -1))


def draw_translate(found: Augmentation, draws: Draws) -> Tensor:
    """Whole pixels: int64 N,2, down and right, each up to a share of the side."""
    sides = torch.tensor([draws.height, draws.width], dtype=torch.float64)
    return (draws.signed(2) * found.number * sides).round().to(torch.int64)


def translate(_found: Augmentation, x_BCHW: Tensor, shift_B2: Tensor, pixels: Pixels) -> Tensor:
    """Images moved by whole pixels: nothing is interpolated."""
    num, _, height, width = x_BCHW.shape
    row_BH = torch.arange(height, device=x_BCHW.device) - shift_B2[:, :1]
    column_BW = torch.arange(width, device=x_BCHW.device) - shift_B2[:, 1:]
    inside_BHW = _inside(row_BH, height)[:, :, None] & _inside(column_BW, width)[:, None, :]
    batch_B11 = torch.arange(num, device=x_BCHW.device)[:, None, None]
    rows, columns = row_BH.clamp(0, height - 1)[:, :, None], column_BW.clamp(0, width - 1)[:, None, :]
    moved_BCHW = x_BCHW.permute(0, 2, 3, 1)[batch_B11, rows, columns].permute(0, 3, 1, 2)
    return torch.where(inside_BHW[:, None], moved_BCHW, pixels.mean)


def _inside(place: Tensor, size: int) -> Tensor:
    return (place >= 0) & (place < size)


def draw_rotate(found: Augmentation, draws: Draws) -> Tensor:
    """Degrees, counter-clockwise: float32 N."""
    return (draws.signed() * found.number).float()


def rotate(_found: Augmentation, x_BCHW: Tensor, degrees_B: Tensor, pixels: Pixels) -> Tensor:
    """Images turned around their middles."""
    height, width = x_BCHW.shape[-2:]
    angle_B11 = torch.deg2rad(degrees_B.to(x_BCHW.dtype))[:, None, None]
    y_H1 = (_centres(height, x_BCHW) - (height - 1) / 2)[:, None]
    x_W = _centres(width, x_BCHW) - (width - 1) / 2
    cosine, sine = angle_B11.cos(), angle_B11.sin()
    y_BHW = sine * x_W + cosine * y_H1 + (height - 1) / 2
    x_BHW = cosine * x_W - sine * y_H1 + (width - 1) / 2
    return _sampled(x_BCHW, y_BHW, x_BHW, pixels.mean)


def draw_elastic(found: Augmentation, draws: Draws) -> Tensor:
    """Shifts of a few points, in pixels: float32 N,2,3,3, right and down."""
    return (draws.normal(2, COARSE, COARSE) * found.number).float()


def elastic(_found: Augmentation, x_BCHW: Tensor, shift_B2CC: Tensor, pixels: Pixels) -> Tensor:
    """Images warped smoothly: between the points, whose outermost are the image's corners, shifts are bicubic."""
    height, width = x_BCHW.shape[-2:]
    right_BHW, down_BHW = elastic_shifts(shift_B2CC.to(x_BCHW.dtype), height, width).unbind(1)
    y_BHW = _centres(height, x_BCHW)[:, None] + down_BHW
    x_BHW = _centres(width, x_BCHW) + right_BHW
    return _sampled(x_BCHW, y_BHW, x_BHW, pixels.mean)


def elastic_shifts(shift_B2CC: Tensor, height: int, width: int) -> Tensor:
    """Of each pixel, of shape [B, 2, H, W]."""
    return F.interpolate(shift_B2CC, size=(height, width), mode="bicubic", align_corners=True)


def _centres(size: int, like: Tensor) -> Tensor:
    return torch.arange(size, dtype=like.dtype, device=like.device)


def _sampled(x_BCHW: Tensor, y_BHW: Tensor, x_BHW: Tensor, fill_C11: Tensor | None = None) -> Tensor:
    """Values at these places, in pixels from the middle of the first one; outside there is `fill_C11`."""
    height, width = x_BCHW.shape[-2:]
    grid_BHW2 = torch.stack([(2 * x_BHW + 1) / width - 1, (2 * y_BHW + 1) / height - 1], -1)
    if fill_C11 is None:
        return F.grid_sample(x_BCHW, grid_BHW2, padding_mode="border", align_corners=False)
    return F.grid_sample(x_BCHW - fill_C11, grid_BHW2, align_corners=False) + fill_C11
