"""Where the tensors of K trials lie: each by itself, or many in one block, which an update passes over at once.

A block is a tensor of shape [K, ...]. Of one that holds a single tensor, that is its shape; one that holds several is
[K, P], and they are views of it. Sixty kernels of a ResNet's update are two then, whatever the number of trials.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Stacked = dict[str, Tensor]  # by name of the tensor; shapes [K, ...]
Kind = Literal["single", "joined", "joined, channels last"]

WEIGHTS = "all weights"  # the block of those that are regularized
ALIGNED = (16, 4, 1)  # numbers: a tensor whose size is a multiple of one comes before others, so that it begins at one


@dataclass(frozen=True)
class Place:
    """Where a tensor lies in a block of several."""

    start: int
    shape: tuple[int, ...]
    channels_last: bool

    def view(self, block: Tensor) -> Tensor:
        """The tensor, of shape [K, *shape]."""
        flat = block[:, self.start : self.start + torch.Size(self.shape).numel()]
        if not self.channels_last:
            return flat.view(-1, *self.shape)
        outputs, inputs, height, width = self.shape
        return flat.view(-1, outputs, height, width, inputs).permute(0, 1, 4, 2, 3)


class Layout:
    """Names of tensors to their blocks and back.

    Args:
        shapes: of one trial's tensors, by name.
        blocks: the name of the block of each; a tensor whose block is called as it is has it for itself.
        channels_last: whether filters lie in that order in a block of several, as convolutions take them.
    """

    def __init__(
        self, shapes: Mapping[str, tuple[int, ...]], blocks: Mapping[str, str], *, channels_last: bool = False
    ) -> None:
        self._blocks = dict(blocks)
        self._places: dict[str, Place] = {}
        ends: dict[str, int] = {}
        sizes = {name: torch.Size(shape).numel() for name, shape in shapes.items()}
        for name in sorted(shapes, key=lambda name: next(i for i, a in enumerate(ALIGNED) if sizes[name] % a == 0)):
            if (block := self._blocks[name]) == name:
                continue
            shape = tuple(shapes[name])
            start = ends.get(block, 0)
            self._places[name] = Place(start, shape, channels_last and len(shape) == 4)
            ends[block] = start + sizes[name]
        self._sizes = ends

    def block(self, name: str) -> str:
        """Where a tensor is."""
        return self._blocks[name]

    def joined(self, stacked: Stacked) -> Stacked:
        """The blocks with copies of these tensors; those that have a block for themselves are it."""
        blocks: Stacked = {}
        for name, tensor in stacked.items():
            block = self._blocks[name]
            if block == name:
                blocks[name] = tensor
                continue
            if block not in blocks:
                blocks[block] = tensor.new_empty(len(tensor), self._sizes[block])
            self._places[name].view(blocks[block]).copy_(tensor)
        return blocks

    def parted(self, blocks: Stacked) -> Stacked:
        """The tensors that these blocks hold, as views, in the order of their names."""
        return {
            name: blocks[block] if block == name else self._places[name].view(blocks[block])
            for name, block in self._blocks.items()
            if block in blocks
        }


def layout_of(
    stacked: Stacked, weights: Collection[str], kind: Kind, depths: Mapping[str, int] | None = None
) -> Layout:
    """Every tensor by itself, or together: the weights, which are regularized, and all others by their type.

    With `depths`, only those of one depth lie together: they have rates of their own.
    """
    shapes = {name: tuple(tensor.shape[1:]) for name, tensor in stacked.items()}
    if kind == "single":
        return Layout(shapes, {name: name for name in stacked})
    blocks = {name: WEIGHTS if name in weights else f"others in {t.dtype}" for name, t in stacked.items()}
    if depths:
        blocks = {name: f"{block} at depth {depths.get(name, 0)}" for name, block in blocks.items()}
    return Layout(shapes, blocks, channels_last=kind == "joined, channels last")
