"""What the random numbers of an augmentation are drawn for and from: an epoch's images, in batches, on the CPU."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Draws:
    """The images of an epoch by their places, and the generator.

    Args:
        num: places.
        shape: channels, height, width.
        bounds: of each batch, its first place and that behind its last.
        generator: on the CPU; each kind draws from it in turn.
    """

    num: int
    shape: tuple[int, int, int]
    bounds: tuple[tuple[int, int], ...]
    generator: torch.Generator

    @property
    def height(self) -> int:
        """Of an image, in pixels."""
        return self.shape[1]

    @property
    def width(self) -> int:
        """Of an image, in pixels."""
        return self.shape[2]

    def uniform(self, *size: int) -> Tensor:
        """Float64 in [0, 1), of shape [N, *size]."""
        return torch.rand(self.num, *size, generator=self.generator, dtype=torch.float64)

    def signed(self, *size: int) -> Tensor:
        """Float64 in [-1, 1), of shape [N, *size]."""
        return 2 * self.uniform(*size) - 1

    def normal(self, *size: int) -> Tensor:
        """Float64, mean 0 and standard deviation 1, of shape [N, *size]."""
        return torch.randn(self.num, *size, generator=self.generator, dtype=torch.float64)

    def whole(self, below: int, *size: int) -> Tensor:
        """Int64 in 0 ... below - 1, of shape [N, *size]."""
        return torch.randint(below, (self.num, *size), generator=self.generator)

    def numpy(self) -> np.random.Generator:
        """For what torch draws from no generator of one's own."""
        return np.random.default_rng(int(torch.randint(2**63 - 1, (), generator=self.generator)))
