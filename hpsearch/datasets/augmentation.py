"""Augmentation of a batch, from random numbers that are drawn outside: which function draws and applies which kind.

Lists of flips and crops work on normalized images, as they lie on the device. Where any other kind is in the list, all
work on pixel values from 0 (black) to 1 (white), and what comes in from outside an image is the mean colour.

Shape suffixes: N = images of an epoch, B = batch, C = channels, H = height, W = width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from hpsearch.config.augmentations import Augmentation, is_own, parse_augmentation
from hpsearch.datasets import colours, masks, mixing, policies, warps
from hpsearch.datasets.draws import Draws
from hpsearch.datasets.own_augmentation import own_augmentation
from hpsearch.datasets.pixels import Pixels

HFLIP_VIEW = "hflip view"
"""As hflip, where the flipped image is there already, behind the other along the channels, as features are."""


def draw_noise(kind: str, num: int, generator: torch.Generator, draws: Draws | None = None) -> Tensor:
    """The random numbers of one augmentation for `num` images, of shape [N, ...]: whatever `augment` takes.

    Those of a user's function, too, which is applied by itself (`own_augmentation`): it may change labels.
    """
    if kind == HFLIP_VIEW:
        return _flips(num, generator)
    found = parse_augmentation(kind)
    if found.kind.name in ("hflip", "vflip"):
        return _flips(num, generator)
    if found.kind.name == "crop":  # down, right
        return torch.randint(2 * found.whole + 1, (num, 2), generator=generator)
    assert draws is not None
    if is_own(kind):
        return own_augmentation(kind).draw(draws)
    return DRAWN[found.kind.name](found, draws)


def augment(kind: str, x_BCHW: Tensor, noise: Tensor, pixels: Pixels | None = None) -> Tensor:
    """The images after one augmentation, each with its own random numbers; the data may be normalized already.

    Args:
        kind: as in data.augment, or HFLIP_VIEW.
        x_BCHW: normalized, or pixel values where `pixels` are given.
        noise: those of `draw_noise` that belong to these images.
        pixels: what is known of them, for all kinds but flips and crops.
    """
    if kind == HFLIP_VIEW:
        plain, flipped = x_BCHW.chunk(2, 1)
        return torch.where(noise[:, None, None, None], flipped, plain)
    found = parse_augmentation(kind)
    match found.kind.name:
        case "hflip":
            return hflip(x_BCHW, noise)
        case "vflip":
            return vflip(x_BCHW, noise)
        case "crop":
            return crop(x_BCHW, noise, found.whole, None if pixels is None else pixels.mean)
    assert pixels is not None
    return APPLIED[found.kind.name](found, x_BCHW, noise, pixels)


def hflip(x_BCHW: Tensor, flip_B: Tensor) -> Tensor:
    """Left and right exchanged where `flip_B` says so."""
    return torch.where(flip_B[:, None, None, None], x_BCHW.flip(-1), x_BCHW)


def vflip(x_BCHW: Tensor, flip_B: Tensor) -> Tensor:
    """Top and bottom exchanged where `flip_B` says so."""
    return torch.where(flip_B[:, None, None, None], x_BCHW.flip(-2), x_BCHW)


def crop(x_BCHW: Tensor, offset_B2: Tensor, padding: int, fill_C11: Tensor | None = None) -> Tensor:
    """Windows of the old size into images padded with zeros, or `fill_C11`; `offset_B2` is their top and left edge.

    Offsets are in 0 ... 2 * padding; at `padding` the image stays as it is.
    """
    num, channels, height, width = x_BCHW.shape
    if fill_C11 is None:
        padded = F.pad(x_BCHW, (padding,) * 4)
    else:
        padded = fill_C11.expand(num, channels, height + 2 * padding, width + 2 * padding).clone()
        padded[:, :, padding : padding + height, padding : padding + width] = x_BCHW
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # B, C, top, left, H, W: a view
    batch_B = torch.arange(len(x_BCHW), device=x_BCHW.device)
    return windows[batch_B, :, offset_B2[:, 0], offset_B2[:, 1]]


def _flips(num: int, generator: torch.Generator) -> Tensor:
    return torch.rand(num, generator=generator) < 0.5


DRAWN: dict[str, Callable[[Augmentation, Draws], Tensor]] = {
    "scale": warps.draw_scale,
    "translate": warps.draw_translate,
    "rotate": warps.draw_rotate,
    "elastic": warps.draw_elastic,
    **dict.fromkeys(("brightness", "contrast", "saturation"), colours.draw_factor),
    "hue": colours.draw_hue,
    "pca": colours.draw_pca,
    "noise": colours.draw_noise,
    "cutout": masks.draw_cutout,
    "gridmask": masks.draw_gridmask,
    "mixup": mixing.draw_mixup,
    "cutmix": mixing.draw_cutmix,
    "autoaugment": policies.draw_autoaugment,
    "randaugment": policies.draw_randaugment,
    "trivialaugment": policies.draw_trivialaugment,
}

Applied = Callable[[Augmentation, Tensor, Tensor, Pixels], Tensor]
APPLIED: dict[str, Applied] = {
    "scale": warps.scale,
    "translate": warps.translate,
    "rotate": warps.rotate,
    "elastic": warps.elastic,
    "brightness": colours.brightness,
    "contrast": colours.contrast,
    "saturation": colours.saturation,
    "hue": colours.hue,
    "pca": colours.pca,
    "noise": colours.noise,
    "cutout": masks.cutout,
    "gridmask": masks.gridmask,
    "mixup": mixing.mixup,
    "cutmix": mixing.cutmix,
    **dict.fromkeys(("autoaugment", "randaugment", "trivialaugment"), policies.apply),
}
