"""Random flips and shifts of a batch, from random numbers that are drawn outside.

Shape suffixes: N = images of an epoch, B = batch, C = channels, H = height, W = width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

HFLIP_VIEW = "hflip view"
"""As hflip, where the flipped image is there already, behind the other along the channels, as features are."""


def draw_noise(kind: str, num: int, generator: torch.Generator) -> Tensor:
    """The random numbers of one augmentation for `num` images: bool N for hflip; int64 N,2 (down, right) for crop."""
    name, _, amount = kind.partition(":")
    if name in ("hflip", HFLIP_VIEW):
        return torch.rand(num, generator=generator) < 0.5
    return torch.randint(2 * int(amount) + 1, (num, 2), generator=generator)


def augment(kind: str, x_BCHW: Tensor, noise_B: Tensor) -> Tensor:
    """The images after one augmentation, each with its own random number; the data may be normalized already."""
    name, _, amount = kind.partition(":")
    if name == HFLIP_VIEW:
        plain, flipped = x_BCHW.chunk(2, 1)
        return torch.where(noise_B[:, None, None, None], flipped, plain)
    return hflip(x_BCHW, noise_B) if name == "hflip" else crop(x_BCHW, noise_B, int(amount))


def hflip(x_BCHW: Tensor, flip_B: Tensor) -> Tensor:
    """Left and right exchanged where `flip_B` says so."""
    return torch.where(flip_B[:, None, None, None], x_BCHW.flip(-1), x_BCHW)


def crop(x_BCHW: Tensor, offset_B2: Tensor, padding: int) -> Tensor:
    """Windows of the old size into images padded with zeros; `offset_B2` is each window's top and left edge.

    Offsets are in 0 ... 2 * padding; at `padding` the image stays as it is.
    """
    height, width = x_BCHW.shape[-2:]
    padded = F.pad(x_BCHW, (padding,) * 4)
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # B, C, top, left, H, W: a view
    batch_B = torch.arange(len(x_BCHW), device=x_BCHW.device)
    return windows[batch_B, :, offset_B2[:, 0], offset_B2[:, 1]]
