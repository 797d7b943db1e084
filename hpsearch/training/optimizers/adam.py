"""Adam and its relatives: averages of gradients and of their squares, with corrections for their beginning at zero."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from typing_extensions import override

from hpsearch.training.layout import Stacked
from hpsearch.training.optimizers.base import Optimizer, gains, unless_frozen
from hpsearch.training.rates import Rates
from hpsearch.training.vectors import Vectors, columns

ADAM_EPS = 1e-8  # as in Kingma & Ba 2014 and torch.optim
MOMENTUM_DECAY = 0.004  # of NAdam, as in torch.optim


class Adam(Optimizer):
    """Kingma & Ba 2014."""

    averages = ("exp_avg", "exp_avg_sq")
    exact = ("momentum", "beta2")

    @override
    def update(
        self, parameters: Stacked, gradients: Stacked, lr_K: Tensor, num_updates_K: Tensor, frozen_K: Tensor | None
    ) -> None:
        step_K, eps_K = corrected(-lr_K, self.coefficients["momentum"], self.coefficients["beta2"], num_updates_K)
        # Before the first update there is neither average nor eps: 0 / 0.
        step_K, eps_K = (unless_frozen(rate_K, frozen_K, value).to(lr_K) for rate_K, value in ((step_K, 0), (eps_K, 1)))
        gain1_K, gain2_K = gains(self.coefficients, frozen_K, lr_K)
        for name, parameter in parameters.items():
            self.decay(name, parameter, lr_K)
            average, square = self.state["exp_avg"][name], self.state["exp_avg_sq"][name]
            gradient = gradients[name]
            average.lerp_(gradient, columns(gain1_K, parameter))
            square.lerp_(gradient.square_(), columns(gain2_K, parameter))
            scale = torch.sqrt(square, out=gradient).add_(columns(eps_K, parameter))
            parameter.addcmul_(torch.div(average, scale, out=scale), columns(self.rates.of(name, step_K), parameter))

    def decay(self, name: str, parameter: Tensor, lr_K: Tensor) -> None:
        """What comes off a parameter before its gradient is looked at."""


class AdamW(Adam):
    """With decay that is decoupled from the gradient: Loshchilov & Hutter 2017.

    Args:
        parameters: as of all.
        vectors: as of all.
        rates: as of all.
        weights: the parameters that decay.
    """

    rounded = ("weight_decay",)

    def __init__(self, parameters: Stacked, vectors: Vectors, rates: Rates, weights: Iterable[str]) -> None:
        super().__init__(parameters, vectors, rates)
        self._weights = set(weights)

    @override
    def decay(self, name: str, parameter: Tensor, lr_K: Tensor) -> None:
        if name in self._weights:
            parameter.mul_(columns(1 - self.rates.of(name, lr_K) * self.coefficients["weight_decay"], parameter))


class NAdam(Adam):
    """Adam with Nesterov's direction: Dozat 2016."""

    def __init__(self, parameters: Stacked, vectors: Vectors, rates: Rates) -> None:
        super().__init__(parameters, vectors, rates)
        self.products = {"mu_product": torch.ones_like(self.coefficients["momentum"])}

    @override
    def update(
        self, parameters: Stacked, gradients: Stacked, lr_K: Tensor, num_updates_K: Tensor, frozen_K: Tensor | None
    ) -> None:
        mu_K, next_mu_K = (self._mu(num_updates_K + ahead) for ahead in (0, 1))
        product_K = self.products["mu_product"]
        product_K *= unless_frozen(mu_K, frozen_K, 1)
        root2_K = (1 - self.coefficients["beta2"] ** num_updates_K).sqrt()
        step_K = -lr_K * root2_K
        rates = step_K * (1 - mu_K) / (1 - product_K), step_K * next_mu_K / (1 - product_K * next_mu_K)
        by_gradient_K, by_average_K = (unless_frozen(rate_K, frozen_K, 0).to(lr_K) for rate_K in rates)
        eps_K = unless_frozen(ADAM_EPS * root2_K, frozen_K, 1).to(lr_K)
        gain1_K, gain2_K = gains(self.coefficients, frozen_K, lr_K)
        for name, parameter in parameters.items():
            average, square, gradient = self.state["exp_avg"][name], self.state["exp_avg_sq"][name], gradients[name]
            average.lerp_(gradient, columns(gain1_K, parameter))
            square.lerp_(gradient.square(), columns(gain2_K, parameter))
            scale = square.sqrt().add_(columns(eps_K, parameter))
            direction = gradient.mul_(columns(self.rates.of(name, by_gradient_K), parameter))
            direction.addcmul_(average, columns(self.rates.of(name, by_average_K), parameter))
            parameter.addcdiv_(direction, scale)

    def _mu(self, num_updates_K: Tensor) -> Tensor:
        """Share of the average in the direction, which grows to beta1."""
        # Of whole numbers, a power of a number would be in float32.
        share_K: Tensor = 1 - 0.5 * 0.96 ** (num_updates_K.to(self.precise) * MOMENTUM_DECAY)
        return self.coefficients["momentum"] * share_K


def corrected(lr_K: Tensor, beta1_K: Tensor, beta2_K: Tensor, num_updates_K: Tensor) -> tuple[Tensor, Tensor]:
    """(lr_K, eps_K) with which Adam's averages m and v need no correction, in the betas' precision."""
    # lr * m / c1 / (sqrt(v) / sqrt(c2) + eps) = (lr * sqrt(c2) / c1) * m / (sqrt(v) + eps * sqrt(c2))
    root2_K = (1 - beta2_K**num_updates_K).sqrt()
    return lr_K * root2_K / (1 - beta1_K**num_updates_K), ADAM_EPS * root2_K
