"""Subtracting means and dividing by standard deviations, both of the training part alone.

Shape suffixes: N = images, C = channels, H = height, W = width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from hpsearch.datasets.images import Array

CHUNK = 512  # images turned into float64 in one go
CHUNK_BYTES = 2**26  # at most, unless a single image has more


class Part(Protocol):
    """Images to be had a few at a time; an array is one."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of numbers."""

    @property
    def shape(self) -> tuple[int, ...]:
        """N,C,H,W."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: slice, /) -> Array:
        """These images."""


@dataclass(frozen=True, eq=False)
class Normalization:
    """(x * factor - mean) / std; mean and std are float64, C,H,W or C,1,1.

    `factor` is scale / 255 for images stored as bytes. Images stored as floats are taken as they are: 1.
    """

    mean: Array
    std: Array
    factor: float
    from_bytes: bool

    def apply(self, x_NCHW: Array, dtype: type[np.floating] = np.float64) -> Array:
        """Normalized images in `dtype`, as a new array."""
        assert (x_NCHW.dtype == np.uint8) == self.from_bytes
        result: Array = x_NCHW.astype(dtype)
        result *= dtype(self.factor)
        result -= self.mean.astype(dtype)
        result /= self.std.astype(dtype)
        return result


def of_channels(mean: Sequence[float], std: Sequence[float], x_NCHW: Part, scale: float = 1.0) -> Normalization:
    """With mean and std of channels of pixels from 0 to 1; for images of other channels, with their averages."""
    num_channels, from_bytes = x_NCHW.shape[1], x_NCHW.dtype == np.uint8
    factor = scale / 255 if from_bytes else 1.0
    white = scale if from_bytes else 1.0
    both = [np.asarray(numbers, np.float64) for numbers in (mean, std)]
    if len(mean) != num_channels:
        both = [np.full(num_channels, numbers.mean()) for numbers in both]
    center, spread = (numbers.reshape(-1, 1, 1) * white for numbers in both)
    return Normalization(center, spread, factor, bool(from_bytes))


def fit(kind: str, x_NCHW: Part, scale: float = 1.0) -> Normalization:
    """The normalization that data.normalize names, from the images of the training part.

    pixel subtracts the mean image; feature also divides by each pixel's std; channel takes mean and std per channel;
    none does nothing. Where the std is 0, nothing is divided.
    """
    from_bytes = x_NCHW.dtype == np.uint8
    factor = scale / 255 if from_bytes else 1.0
    axes = {"pixel": (0,), "feature": (0,), "channel": (0, 2, 3)}.get(kind)
    channels = x_NCHW.shape[1]
    mean, std = np.zeros((channels, 1, 1)), np.ones((channels, 1, 1))
    if axes:
        mean, std = _moments(x_NCHW, axes, with_std=kind != "pixel")
        mean = mean * factor
        std = np.where(std > 0, std * factor, 1.0)
    return Normalization(mean, std, factor, from_bytes)


def _moments(x_NCHW: Part, axes: tuple[int, ...], *, with_std: bool) -> tuple[Array, Array]:
    """Mean and std over `axes`, in float64; std is exactly 0 where all values are equal, and where not asked for.

    Two passes over the differences from one of the values, so that neither rounding nor cancellation makes a
    constant pixel look like one that varies.
    """
    shift = x_NCHW[:1][:, :, :1, :1] if len(axes) == 3 else x_NCHW[:1]
    shift = shift.astype(np.float64)
    num = np.prod([x_NCHW.shape[axis] for axis in axes])
    mean = sum(chunk.sum(axes) for chunk in _chunks(x_NCHW, shift)) / num
    mean = mean.reshape(shift.shape[1:])
    std = np.zeros_like(mean)
    if with_std:
        squares = sum(np.square(chunk).sum(axes) for chunk in _chunks(x_NCHW, shift + mean))
        std = np.sqrt(squares.reshape(mean.shape) / num)
    return shift[0] + mean, std


def _chunks(x_NCHW: Part, minus: Array) -> Iterator[Array]:
    for part in parts(x_NCHW):
        yield part - minus


def parts(x_NCHW: Part) -> Iterator[Array]:
    """All of the images, as many at a time as may be turned into float64."""
    size = max(1, min(CHUNK, CHUNK_BYTES // (8 * math.prod(x_NCHW.shape[1:]))))
    return (x_NCHW[start : start + size] for start in range(0, len(x_NCHW), size))
