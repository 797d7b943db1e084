"""Exponential moving averages of weights (Polyak & Juditsky 1992), beside those that train.

After update n of a trial, average = decay * average + (1 - decay) * weights, where decay is train.ema or n / (n + 9),
whichever is less: TensorFlow's warm-up, (1 + t) / (10 + t) after t updates. So an average begins with the initial
weights and has forgotten them after a few updates: of 50 updates, 0.999 alone would leave it 95% of them.

Floating buffers, such as the running averages of batch normalization, are averaged alike, as in timm's ModelEmaV3;
counters are the net's own. That needs no pass over the images, as torch.optim.swa_utils.update_bn does.

Shapes: K = trials in the pack.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hpsearch.training.layout import Stacked
from hpsearch.training.vectors import Vectors, columns

AVERAGES = "averages/"  # before their names, in `PackState.everything`
WARM_UP = 9.0  # updates after which the decay may be a half


class Averages:
    """Of K trials, in place, block by block; those of trials without averaging are their weights, to the bit.

    Args:
        parameters: blocks of shapes [K, ...], with which the averages begin.
        buffers: as well; those that are not floating are never averaged.
        vectors: with the decays.
        like: of the precision and on the device of the pack.
    """

    def __init__(self, parameters: Stacked, buffers: Stacked, vectors: Vectors, like: Tensor) -> None:
        self.parameter_blocks = {name: block.clone() for name, block in parameters.items()}
        self.buffer_blocks = {name: block.clone() for name, block in buffers.items() if block.is_floating_point()}
        self._gain_K = self._gain(vectors).to(like, copy=True)

    def follow(self, parameters: Stacked, buffers: Stacked, num_updates_K: Tensor, frozen_K: Tensor | None) -> None:
        """Take in the weights after an update.

        Args:
            parameters: blocks as the averages have them, of the trials' own numbers.
            buffers: as well.
            num_updates_K: of each trial, this one included.
            frozen_K: mask of the trials that made none, or None: there are none.
        """
        gain_K = torch.maximum(self._gain_K, WARM_UP / (num_updates_K.to(self._gain_K.dtype) + WARM_UP))
        if frozen_K is not None:
            gain_K = gain_K.masked_fill(frozen_K, 0)
        averages = [*self.parameter_blocks.values(), *self.buffer_blocks.values()]
        current = [*(parameters[n] for n in self.parameter_blocks), *(buffers[n] for n in self.buffer_blocks)]
        torch._foreach_lerp_(averages, current, [columns(gain_K, each) for each in averages])

    def begin_again(self, slots: Sequence[int], parameters: Stacked, buffers: Stacked) -> None:
        """Let those of some trials be their weights."""
        for own, given in ((self.parameter_blocks, parameters), (self.buffer_blocks, buffers)):
            for name, block in own.items():
                block[list(slots)] = given[name][list(slots)]

    def set_coefficients(self, vectors: Vectors) -> None:
        """Use these decays from the next update on, in the same memory."""
        self._gain_K.copy_(self._gain(vectors))

    def keep(self, slots: Sequence[int]) -> None:
        """Forget all other trials."""
        for blocks in (self.parameter_blocks, self.buffer_blocks):
            for name, block in blocks.items():
                blocks[name] = block[list(slots)]
        self._gain_K = self._gain_K[list(slots)]

    @staticmethod
    def _gain(vectors: Vectors) -> Tensor:
        return 1 - vectors.ema  # before it is rounded: 1 - 0.9999 loses four digits in float32
