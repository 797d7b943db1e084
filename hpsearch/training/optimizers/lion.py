"""Lion: updates by sign alone."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor
from typing_extensions import override

from hpsearch.training.layout import Stacked
from hpsearch.training.optimizers.base import Optimizer, gains
from hpsearch.training.rates import Rates
from hpsearch.training.vectors import Vectors, columns


class Lion(Optimizer):
    """Chen et al. 2023: w -= lr * (sign(beta1 * m + (1 - beta1) * g) + decay * w); m = beta2 * m + (1 - beta2) * g.

    Args:
        parameters: as of all.
        vectors: as of all.
        rates: as of all.
        weights: the parameters that decay.
    """

    averages = ("exp_avg",)
    exact = ("momentum", "beta2")
    rounded = ("weight_decay",)

    def __init__(self, parameters: Stacked, vectors: Vectors, rates: Rates, weights: Iterable[str]) -> None:
        super().__init__(parameters, vectors, rates)
        self._weights = set(weights)

    @override
    def update(
        self, parameters: Stacked, gradients: Stacked, lr_K: Tensor, num_updates_K: Tensor, frozen_K: Tensor | None
    ) -> None:
        gain1_K, gain2_K = gains(self.coefficients, frozen_K, lr_K)
        for name, parameter in parameters.items():
            own_lr_K, gradient, average = self.rates.of(name, lr_K), gradients[name], self.state["exp_avg"][name]
            if name in self._weights:
                parameter.mul_(columns(1 - own_lr_K * self.coefficients["weight_decay"], parameter))
            direction = average.lerp(gradient, columns(gain1_K, parameter)).sign_()
            parameter.addcmul_(direction, columns(-own_lr_K, parameter))
            average.lerp_(gradient, columns(gain2_K, parameter))
