"""Fixup (Zhang et al. 2019): residual nets that train without normalization, by their initial weights and scalars.

The last layer of each branch and of the net begins at 0, the others of a branch of m layers at He's times
L^(-1 / (2m - 2)) for L branches; scalars, of which biases begin at 0 and factors at 1, take a normalization's place.
Shapes: B = batch, C = channels, H, W = image height and width.
"""

from __future__ import annotations

import torch
from torch import nn


class Shift(nn.Module):
    """One bias for all channels."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x and the bias."""
        return x + self.bias


class FixupBlock(nn.Module):
    """A residual block with scalars around its convolutions, and none of its normalizations."""

    relu: nn.Module
    downsample: nn.Module | None
    drop: nn.Module | None

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        convs = [each for name, each in block.named_children() if name.startswith("conv")]
        for place, conv in enumerate(convs, start=1):
            self.add_module(f"conv{place}", conv)
            self.register_parameter(f"before{place}", nn.Parameter(torch.zeros(1)))
            self.register_parameter(f"after{place}", nn.Parameter(torch.zeros(1)))
        self.scale = nn.Parameter(torch.ones(1))
        self.num_convs = len(convs)
        for name in ("downsample", "relu", "drop"):
            self.add_module(name, getattr(block, name, None))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The branch plus the shortcut."""
        out = x = x + self._scalar("before1")
        for place in range(1, self.num_convs + 1):
            if place > 1:
                out = self.relu(out) + self._scalar(f"before{place}")
            out = self.get_submodule(f"conv{place}")(out)
            out = (out * self.scale if place == self.num_convs else out) + self._scalar(f"after{place}")
        out = out if self.drop is None else self.drop(out)
        joined: torch.Tensor = self.relu(out + (x if self.downsample is None else self.downsample(x)))
        return joined

    def _scalar(self, name: str) -> torch.Tensor:
        scalar: torch.Tensor = getattr(self, name)
        return scalar


def with_scalars(net: nn.Module) -> None:
    """Give a residual net without normalizations its scalars, in place."""
    for name, stage in net.named_children():
        if name.startswith("layer"):
            for place, block in stage.named_children():
                stage.add_module(place, FixupBlock(block))
    net.add_module("bn1", Shift())
    net.add_module("avgpool", nn.Sequential(net.get_submodule("avgpool"), Shift()))


@torch.no_grad()
def scale_branches(net: nn.Module) -> None:
    """Turn He's initial weights of a net with scalars into those of Fixup, in place."""
    blocks = [module for module in net.modules() if isinstance(module, FixupBlock)]
    for block in blocks:
        weights = [block.get_parameter(f"conv{place}.weight") for place in range(1, block.num_convs + 1)]
        for weight in weights[:-1]:
            weight.mul_(len(blocks) ** (-1 / (2 * len(weights) - 2)))
        weights[-1].zero_()
        block.scale.fill_(1.0)
    net.get_parameter("fc.weight").zero_()
