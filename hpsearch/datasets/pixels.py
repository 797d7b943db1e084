"""Images between how they are stored, pixel values from 0 (black) to 1 (white), and what nets take; and their colours.

Shape suffixes: N = images, B = batch, C = channels, H = height, W = width, M = pixels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hpsearch.datasets.images import Array
from hpsearch.datasets.normalization import Normalization
from hpsearch.datasets.normalizer import Like


@dataclass(frozen=True, eq=False)
class Colours:
    """Of the training images, in the units in which they are normalized; arrays are float64."""

    black: float
    """0 of images stored as bytes; of others, which have no white, their least value."""
    white: float
    """data.scale of images stored as bytes; of others their greatest value."""
    mean_C: Array  # noqa: N815
    covariance_CC: Array  # noqa: N815
    """Of the channels, over all pixels."""


def colours_of(parts: Iterable[Tensor], normalization: Normalization, *, normalized: bool) -> Colours:
    """In one pass over the training images, a few at a time: as they are stored, or normalized already."""
    num, low, high = 0, np.inf, -np.inf
    total_C: Array = np.zeros(1)
    products_CC: Array = np.zeros(1)
    shift_C: Array | None = None
    for part in parts:
        x_BCHW = part.cpu().double().numpy()
        x_BCHW = x_BCHW * normalization.std + normalization.mean if normalized else x_BCHW * normalization.factor
        low, high = min(low, float(x_BCHW.min())), max(high, float(x_BCHW.max()))
        pixels_CM = x_BCHW.transpose(1, 0, 2, 3).reshape(x_BCHW.shape[1], -1)
        if shift_C is None:
            shift_C = pixels_CM[:, 0]
        pixels_CM = pixels_CM - shift_C[:, None]  # so that nothing is lost where colours differ by little
        num += pixels_CM.shape[1]
        total_C = total_C + pixels_CM.sum(1)
        products_CC = products_CC + pixels_CM @ pixels_CM.T
    assert shift_C is not None
    off_C = total_C / num
    covariance_CC = products_CC / num - np.outer(off_C, off_C)
    if normalization.from_bytes:
        low, high = 0.0, 255 * normalization.factor
    return Colours(low, high, shift_C + off_C, covariance_CC)


class Pixels:
    """Pixel values in the precision and on the device of `like`.

    Attributes:
        mean: the mean colour, of shape [C, 1, 1].
        axes: the main directions of the colours as columns, each as long as their standard deviation there: [C, C].
    """

    def __init__(self, normalization: Normalization, colours: Colours, like: Like) -> None:
        def tensor(array: Array) -> Tensor:
            return torch.from_numpy(np.asarray(array)).to(like.dtype).to(like.device)

        range_ = (colours.white - colours.black) or 1.0
        variances_C, axes_CC = np.linalg.eigh(colours.covariance_CC)
        # An axis has no sign of its own, and one that differs between libraries would give other images.
        axes_CC = axes_CC * np.where(axes_CC.sum(0) < 0, -1.0, 1.0)
        self.mean = tensor(((colours.mean_C - colours.black) / range_)[:, None, None])
        self.axes = tensor(axes_CC * np.sqrt(variances_C.clip(0)) / range_)
        self._dtype = like.dtype
        self._std, self._offset = (
            tensor(normalization.std / range_),
            tensor((normalization.mean - colours.black) / range_),
        )

    def of_stored(self, x_BCHW: Tensor) -> Tensor:
        """Of bytes."""
        return x_BCHW.to(self._dtype).div_(255)

    def of_normalized(self, x_BCHW: Tensor) -> Tensor:
        """Of images as nets take them."""
        return x_BCHW * self._std + self._offset

    def normalized(self, x_BCHW: Tensor) -> Tensor:
        """As nets take them."""
        return (x_BCHW - self._offset) / self._std
