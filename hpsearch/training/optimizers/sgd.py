"""Gradient descent, plain and with momentum."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import override

from hpsearch.training.layout import Stacked
from hpsearch.training.optimizers.base import Optimizer, unless_frozen
from hpsearch.training.vectors import columns


class SGD(Optimizer):
    """w -= lr * g."""

    @override
    def update(
        self, parameters: Stacked, gradients: Stacked, lr_K: Tensor, num_updates_K: Tensor, frozen_K: Tensor | None
    ) -> None:
        minus_lr_K = -lr_K
        for name, parameter in parameters.items():
            parameter.addcmul_(gradients[name], columns(self.rates.of(name, minus_lr_K), parameter))


class Momentum(Optimizer):
    """v = mu * v + g, then w -= lr * v; Nesterov's: w -= lr * (g + mu * v)."""

    averages = ("momentum_buffer",)
    rounded = ("momentum",)
    nesterov = False

    @override
    def update(
        self, parameters: Stacked, gradients: Stacked, lr_K: Tensor, num_updates_K: Tensor, frozen_K: Tensor | None
    ) -> None:
        minus_lr_K = -lr_K
        momentum_K = unless_frozen(self.coefficients["momentum"], frozen_K, 1)
        for name, parameter in parameters.items():
            gradient, buffer = gradients[name], self.state["momentum_buffer"][name]
            momentum = columns(momentum_K, parameter)
            torch.addcmul(gradient, buffer, momentum, out=buffer)
            direction = torch.addcmul(gradient, buffer, momentum, out=gradient) if self.nesterov else buffer
            parameter.addcmul_(direction, columns(self.rates.of(name, minus_lr_K), parameter))


class Nesterov(Momentum):
    """With Nesterov's direction."""

    nesterov = True
