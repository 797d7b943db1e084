"""Layers that PyTorch has only in a form that cannot differ from trial to trial.

All draw one noise for the trials of a pack, compared with the rate of each: what a low rate drops a higher one drops,
too. A rate is a hyperparameter, not a result of training, so it is left out of `state_dict`; it is that of `key` in
[model], times `share`.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional


class Dropout(nn.Module):
    """Inverted dropout whose rate is a buffer, so that every trial of a pack can have its own.

    The noise is one uniform number per unit, compared with the rate: trials of different rates share it, and the
    units that a low rate drops are among those that a higher one drops. `F.dropout` takes a Python float only.
    """

    key: ClassVar[str] = "dropout"
    share = 1.0
    rate: Tensor  # 0-dim; share of units dropped

    def __init__(self, rate: float) -> None:
        super().__init__()
        register_rate(self, rate)

    def forward(self, x: Tensor) -> Tensor:
        """Drop units in training mode; the identity in evaluation mode."""
        if not self.training:
            return x
        return x * kept(x, x.shape, self.rate)

    def extra_repr(self) -> str:
        """The rate, for `print(module)`."""
        return f"rate={self.rate.tolist()}"


class DropConnect(nn.Linear):
    """A fully connected layer that drops weights, by one noise for all images of a step (Wan et al. 2013).

    Those that are kept are as much larger, as in inverted dropout, so that nothing is to be done in evaluation mode;
    biases are not dropped. A mask for each image, as in the paper, would take B times the weights.
    """

    key: ClassVar[str] = "dropconnect"
    share = 1.0
    rate: Tensor  # 0-dim; share of weights dropped

    def __init__(self, num_inputs: int, num_outputs: int, *, bias: bool, rate: float) -> None:
        super().__init__(num_inputs, num_outputs, bias=bias)
        register_rate(self, rate)

    def forward(self, x: Tensor) -> Tensor:
        """As nn.Linear, without the dropped weights in training mode."""
        if not self.training:
            return super().forward(x)
        return functional.linear(x, self.weight * kept(self.weight, self.weight.shape, self.rate), self.bias)


class StochasticDepth(nn.Module):
    """Behind a residual branch: leaves it out for some images (Huang et al. 2016), inverted as dropout is.

    Args:
        rate: of the last branch of the net.
        share: of it, for this branch: l / L for the l-th of L, the paper's linear decay.
    """

    key: ClassVar[str] = "stochastic_depth"
    rate: Tensor  # 0-dim; share of images

    def __init__(self, rate: float, share: float) -> None:
        super().__init__()
        self.share = share
        register_rate(self, rate * share)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Images without what the branch has for them, in training mode; the identity in evaluation mode."""
        if not self.training:
            return x_BCHW
        return x_BCHW * kept(x_BCHW, (len(x_BCHW), 1, 1, 1), self.rate)

    def extra_repr(self) -> str:
        """The rate, for `print(module)`."""
        return f"rate={self.rate.tolist()}"


NOISY = (Dropout, DropConnect, StochasticDepth)
NOISES = tuple(layer.key for layer in NOISY)
"""Keys of [model] that are rates of a noise: where all trials have 0 there, its layers are left out."""


def register_rate(module: nn.Module, rate: float) -> None:
    """Give a layer its rate, which packs replace by one for each trial."""
    # float64 until the whole net is cast: 0.1 rounded to float32 would stay rounded after .double()
    module.register_buffer("rate", torch.tensor(rate, dtype=torch.float64), persistent=False)


def kept(x: Tensor, shape: tuple[int, ...], rate: Tensor) -> Tensor:
    """Factors of this shape for x: 0 for a share `rate` of them, and 1 / (1 - rate) for the others."""
    precise = torch.promote_types(x.dtype, torch.float32)  # x may be in bfloat16, whose noise would be another
    above = torch.rand(shape, device=x.device, dtype=precise) >= rate
    return (above / (1 - rate)).to(x.dtype)
