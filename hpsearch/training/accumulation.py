"""Gradient accumulation: one update from N minibatches, as from a batch N times as large.

Each image counts alike, or by the weight of its class: losses and gradients of minibatches are means, so they are added
up times the weight of their images, and divided by that of all. The last update of an epoch is from what is left.

Shapes: K = trials in the pack.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from hpsearch.training.layout import Stacked
from hpsearch.training.vectors import columns


class Place(NamedTuple):
    """Where a minibatch is among those of its update."""

    begins: bool
    ends: bool


ALONE = Place(begins=True, ends=True)


def num_updates(num_batches: int, num_accumulated: int) -> int:
    """Of an epoch."""
    return -(-num_batches // num_accumulated)


class Accumulation:
    """The sums over the minibatches of an update, in place.

    Args:
        num: minibatches of an update, more than one.
        blocks: of the parameters, shapes [K, ...].
        like: of shape [K], in the precision of the pack.
    """

    def __init__(self, num: int, blocks: Stacked, like: Tensor) -> None:
        self._num = num
        self.place = ALONE
        """Of the next minibatch: to be set before it."""
        self.weight_K = torch.ones_like(like)
        """Of its images, together: to be set before `add`."""
        self._total_K = torch.zeros_like(like)
        self._loss_K = torch.zeros_like(like)
        self._gradients = {name: torch.zeros_like(block) for name, block in blocks.items()}

    def place_of(self, step: int, num_batches: int) -> Place:
        """Of a minibatch of an epoch of so many; both from 0."""
        return Place(step % self._num == 0, (step + 1) % self._num == 0 or step + 1 == num_batches)

    def add(self, loss_K: Tensor, gradients: Stacked) -> tuple[Tensor, Stacked]:
        """(loss_K, gradients) of the update: the means of all its images where the minibatch ends it.

        Before that they mean nothing. Uses up the gradients.
        """
        if self.place == ALONE:
            return loss_K, gradients
        sums = [self._loss_K, *(self._gradients[name] for name in gradients)]
        for own, given in zip(sums, (loss_K, *gradients.values()), strict=True):
            weight = columns(self.weight_K, own)
            if self.place.begins:  # whatever was left there, even nan, is gone
                torch.mul(given, weight, out=own)
            else:
                own.addcmul_(given, weight)
        self._total_K.copy_(self.weight_K if self.place.begins else self._total_K + self.weight_K)
        if self.place.ends:
            for own in sums:
                own.div_(columns(self._total_K, own))
        return self._loss_K, {name: self._gradients[name] for name in gradients}

    @property
    def tensors(self) -> list[Tensor]:
        """What a minibatch changes."""
        return [self._total_K, self._loss_K, *self._gradients.values()]

    def keep(self, slots: Sequence[int]) -> None:
        """Forget all other trials."""
        for name in ("weight_K", "_total_K", "_loss_K"):
            setattr(self, name, getattr(self, name)[list(slots)])
        for name, block in self._gradients.items():
            self._gradients[name] = block[list(slots)]
