"""Augmentations that change colours: brightness, contrast, saturation, hue, PCA offsets, noise.

Pixel values are from 0 to 1, and are clamped to that, as in torchvision; each image has its own factor.

Shape suffixes: N = images of an epoch, B = batch, C = channels, H = height, W = width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hpsearch.config.augmentations import Augmentation
from hpsearch.datasets.draws import Draws
from hpsearch.datasets.pixels import Pixels

GREY = 0.2989, 0.587, 0.114  # of red, green, blue: ITU-R 601, as torchvision rounds it
BITS = 2**32
MASK = BITS - 1


def draw_factor(found: Augmentation, draws: Draws) -> Tensor:
    """As torchvision's ColorJitter: float32 N, from 1 - strength, but at least 0, to 1 + strength."""
    low, high = max(0.0, 1 - found.number), 1 + found.number
    return (low + (high - low) * draws.uniform()).float()


def brightness(_found: Augmentation, x_BCHW: Tensor, factor_B: Tensor, _pixels: Pixels) -> Tensor:
    """Brighter than black by these factors."""
    return brightened(x_BCHW, factor_B)


def contrast(_found: Augmentation, x_BCHW: Tensor, factor_B: Tensor, _pixels: Pixels) -> Tensor:
    """Further from the image's mean grey by these factors."""
    return contrasted(x_BCHW, factor_B)


def saturation(_found: Augmentation, x_BCHW: Tensor, factor_B: Tensor, _pixels: Pixels) -> Tensor:
    """Further from the pixel's grey by these factors; images without colours stay as they are."""
    return saturated(x_BCHW, factor_B)


def brightened(x_BCHW: Tensor, factor_B: Tensor) -> Tensor:
    """See `brightness`."""
    return (x_BCHW * by_image(factor_B, x_BCHW)).clamp(0, 1)


def contrasted(x_BCHW: Tensor, factor_B: Tensor) -> Tensor:
    """See `contrast`."""
    return _blended(x_BCHW, grey(x_BCHW).mean((1, 2, 3), keepdim=True), factor_B)


def saturated(x_BCHW: Tensor, factor_B: Tensor) -> Tensor:
    """See `saturation`."""
    return _blended(x_BCHW, grey(x_BCHW), factor_B) if x_BCHW.shape[1] == len(GREY) else x_BCHW


def _blended(x_BCHW: Tensor, other: Tensor, factor_B: Tensor) -> Tensor:
    factor_B111 = by_image(factor_B, x_BCHW)
    return (x_BCHW * factor_B111 + other * (1 - factor_B111)).clamp(0, 1)


def grey(x_BCHW: Tensor) -> Tensor:
    """Of shape [B, 1, H, W]; of other channels than three, their mean."""
    if x_BCHW.shape[1] != len(GREY):
        return x_BCHW.mean(1, keepdim=True)
    red, green, blue = torch.split(x_BCHW, 1, dim=1)
    return GREY[0] * red + GREY[1] * green + GREY[2] * blue


def draw_hue(found: Augmentation, draws: Draws) -> Tensor:
    """Turns of the colour wheel: float32 N."""
    return (draws.signed() * found.number).float()


def hue(_found: Augmentation, x_BCHW: Tensor, turns_B: Tensor, _pixels: Pixels) -> Tensor:
    """Colours turned on the wheel of HSV; images without colours stay as they are."""
    if x_BCHW.shape[1] != len(GREY):
        return x_BCHW
    most, least = x_BCHW.amax(1), x_BCHW.amin(1)
    spread = most - least
    red, green, blue = ((most[:, None] - x_BCHW) / torch.where(spread > 0, spread, 1)[:, None]).unbind(1)
    sixths = torch.where(
        x_BCHW[:, 0] == most,
        blue - green,
        torch.where(x_BCHW[:, 1] == most, 2 + red - blue, 4 + green - red),
    )
    sixths = sixths + 6 * turns_B.to(x_BCHW.dtype)[:, None, None]
    # f(n) = V - V S max(0, min(k, 4 - k, 1)), k = (n + H / 60 degrees) mod 6, for n = 5, 3, 1: HSV to RGB in one form.
    places = [torch.remainder(sixths + n, 6) for n in (5, 3, 1)]
    return torch.stack([most - spread * torch.minimum(k, 4 - k).clamp(0, 1) for k in places], 1)


def draw_pca(found: Augmentation, draws: Draws) -> Tensor:
    """Of each component: float32 N,C."""
    return (draws.normal(draws.shape[0]) * found.number).float()


def pca(_found: Augmentation, x_BCHW: Tensor, steps_BC: Tensor, pixels: Pixels) -> Tensor:
    """All pixels of an image moved along the main directions of the training images' colours (Krizhevsky et al. 2012).

    A step of 1 along a direction is the standard deviation of the training images' pixels there.
    """
    offset_BC = steps_BC.to(x_BCHW.dtype) @ pixels.axes.T
    return (x_BCHW + offset_BC[:, :, None, None]).clamp(0, 1)


def draw_noise(_found: Augmentation, draws: Draws) -> Tensor:
    """A seed an image: int64 N. Whole images of noise would take as much memory as the images."""
    return draws.whole(BITS)


def noise(found: Augmentation, x_BCHW: Tensor, seed_B: Tensor, _pixels: Pixels) -> Tensor:
    """Gaussian noise on each number of an image."""
    return (x_BCHW + found.number * gaussian(seed_B, x_BCHW)).clamp(0, 1)


def gaussian(seed_B: Tensor, like_BCHW: Tensor) -> Tensor:
    """Normal numbers of the shape of images, from a seed each: the same ones on every device, without a generator."""
    numbers = torch.arange(math.prod(like_BCHW.shape[1:]), device=seed_B.device)
    bits = _scrambled((_scrambled(seed_B)[:, None] + numbers * 0x9E3779B1) & MASK)
    # 23 bits, in the middle between two, so that in float32 none is -1 or 1
    signed = ((bits >> 9).to(like_BCHW.dtype) + 0.5) / 2**22 - 1
    return (torch.erfinv(signed) * math.sqrt(2)).view(like_BCHW.shape)


def _scrambled(bits: Tensor) -> Tensor:
    """Chris Wellons' triple of shifts and products with the least bias for 32 bits; no product exceeds an int64."""
    bits = ((bits ^ (bits >> 16)) * 0x21F0AAAD) & MASK
    bits = ((bits ^ (bits >> 15)) * 0x735A2D97) & MASK
    return bits ^ (bits >> 15)


def by_image(numbers_B: Tensor, like: Tensor) -> Tensor:
    """As [B, 1, 1, 1], in its precision."""
    return numbers_B.to(like.dtype)[:, None, None, None]
