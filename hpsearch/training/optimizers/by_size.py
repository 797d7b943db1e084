"""Rules that divide by the size that gradients have had: RMSprop and Adagrad."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import override

from hpsearch.training.layout import Stacked
from hpsearch.training.optimizers.base import Optimizer, unless_frozen
from hpsearch.training.vectors import columns

# As in torch.optim.
RMSPROP_EPS = 1e-8
ADAGRAD_EPS = 1e-10


class RMSprop(Optimizer):
    """Tieleman & Hinton 2012, with momentum: v = mu * v + g / (sqrt(s) + eps), then w -= lr * v.

    s is the average of the squares, whose decay, torch's alpha, is beta2; it begins at zero without a correction.
    """

    averages = ("square_avg", "momentum_buffer")
    rounded = ("momentum",)
    exact = ("beta2",)

    @override
    def update(
        self, parameters: Stacked, gradients: Stacked, lr_K: Tensor, num_updates_K: Tensor, frozen_K: Tensor | None
    ) -> None:
        minus_lr_K = -lr_K
        momentum_K = unless_frozen(self.coefficients["momentum"], frozen_K, 1)
        gain_K = unless_frozen(1 - self.coefficients["beta2"], frozen_K, 0).to(lr_K)
        for name, parameter in parameters.items():
            gradient, square = gradients[name], self.state["square_avg"][name]
            square.lerp_(gradient.square(), columns(gain_K, parameter))
            direction = gradient.div_(square.sqrt().add_(RMSPROP_EPS))
            buffer = self.state["momentum_buffer"][name]
            torch.addcmul(direction, buffer, columns(momentum_K, parameter), out=buffer)
            parameter.addcmul_(buffer, columns(self.rates.of(name, minus_lr_K), parameter))


class Adagrad(Optimizer):
    """Duchi et al. 2011: w -= lr * g / (sqrt(s) + eps), where s is the sum of all squares."""

    averages = ("sum",)

    @override
    def update(
        self, parameters: Stacked, gradients: Stacked, lr_K: Tensor, num_updates_K: Tensor, frozen_K: Tensor | None
    ) -> None:
        minus_lr_K = -lr_K
        for name, parameter in parameters.items():
            gradient, total = gradients[name], self.state["sum"][name]
            total.addcmul_(gradient, gradient)
            direction = gradient.div_(total.sqrt().add_(ADAGRAD_EPS))
            parameter.addcmul_(direction, columns(self.rates.of(name, minus_lr_K), parameter))
