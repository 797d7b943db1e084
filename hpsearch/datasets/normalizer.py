"""`Normalization.apply` for tensors, on their device.

Shape suffixes: N = images, C = channels, H = height, W = width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from hpsearch.datasets.normalization import Normalization

Normalizer = Callable[[Tensor], Tensor]


class Like(Protocol):
    """What has a precision and a device."""

    @property
    def dtype(self) -> torch.dtype:
        """Of numbers."""

    @property
    def device(self) -> torch.device:
        """Where they are."""


def normalizer(normalization: Normalization, like: Like) -> Normalizer:
    """`normalization.apply` in the precision and on the device of `like`; in place, unless the images are bytes."""
    mean, std = (
        torch.from_numpy(part).to(like.dtype).to(like.device) for part in (normalization.mean, normalization.std)
    )
    scaled, divided = normalization.factor != 1, bool((std != 1).any())

    def normalize(x_NCHW: Tensor) -> Tensor:
        x_NCHW = x_NCHW.to(like.dtype)
        if scaled:
            x_NCHW.mul_(normalization.factor)
        x_NCHW.sub_(mean)
        return x_NCHW.div_(std) if divided else x_NCHW

    return normalize
