"""Update rules over the stacked parameters of K trials, with coefficients of their own for each trial.

The arithmetic is that of `torch.optim`, whose optimizers take no tensor of learning rates. A frozen trial stays as
it is to the bit: its gradients come as zeros (not NaN, which no factor turns to zero), its lr_K is zero, and its
decay rates count as one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor
from typing_extensions import override

from hpsearch.training.layout import Stacked
from hpsearch.training.rates import Rates
from hpsearch.training.vectors import Vectors, columns

ADAM_EPS = 1e-8  # as in Kingma & Ba 2014 and torch.optim


class Optimizer(ABC):
    """One update rule and its state."""

    rates: Rates
    state: dict[str, Stacked]  # by torch.optim's name of the average: momentum_buffer, exp_avg, exp_avg_sq

    @abstractmethod
    def update(
        self, parameters: Stacked, gradients: Stacked, lr_K: Tensor, num_updates_K: Tensor, frozen_K: Tensor | None
    ) -> None:
        """Make one update of the parameters in place; the gradients may be used up.

        Args:
            parameters: shapes [K, ...].
            gradients: shapes [K, ...], zero where frozen.
            lr_K: in the parameters' precision, zero where frozen.
            num_updates_K: of each trial, this one included.
            frozen_K: mask of the trials to leave alone, or None where it is known that there are none.
        """

    def set_coefficients(self, vectors: Vectors) -> None:
        """Use these from the next update on, in the same memory."""
        self.rates.set_coefficients(vectors)

    def keep(self, slots: Sequence[int]) -> None:
        """Forget all other trials."""
        self.rates.keep(slots)


class SGD(Optimizer):
    """w -= lr * g."""

    def __init__(self, rates: Rates) -> None:
        self.rates = rates
        self.state = {}

    @override
    def update(
        self, parameters: Stacked, gradients: Stacked, lr_K: Tensor, num_updates_K: Tensor, frozen_K: Tensor | None
    ) -> None:
        minus_lr_K = -lr_K
        for name, parameter in parameters.items():
            parameter.addcmul_(gradients[name], columns(self.rates.of(name, minus_lr_K), parameter))


class Momentum(Optimizer):
    """v = mu * v + g, then w -= lr * v; Nesterov's: w -= lr * (g + mu * v)."""

    def __init__(self, parameters: Stacked, momentum_K: Tensor, rates: Rates, *, nesterov: bool) -> None:
        self.rates = rates
        self._nesterov = nesterov
        self._momentum_K = momentum_K.to(next(iter(parameters.values())), copy=True)
        self.state = {"momentum_buffer": _zeros(parameters)}

    @override
    def update(
        self, parameters: Stacked, gradients: Stacked, lr_K: Tensor, num_updates_K: Tensor, frozen_K: Tensor | None
    ) -> None:
        minus_lr_K = -lr_K
        momentum_K = _unless_frozen(self._momentum_K, frozen_K, 1)
        for name, parameter in parameters.items():
            gradient, buffer = gradients[name], self.state["momentum_buffer"][name]
            momentum = columns(momentum_K, parameter)
            torch.addcmul(gradient, buffer, momentum, out=buffer)
            direction = torch.addcmul(gradient, buffer, momentum, out=gradient) if self._nesterov else buffer
            parameter.addcmul_(direction, columns(self.rates.of(name, minus_lr_K), parameter))

    @override
    def set_coefficients(self, vectors: Vectors) -> None:
        super().set_coefficients(vectors)
        self._momentum_K.copy_(vectors.momentum)

    @override
    def keep(self, slots: Sequence[int]) -> None:
        super().keep(slots)
        self._momentum_K = self._momentum_K[list(slots)]
        _keep(self.state, slots)


class Adam(Optimizer):
    """Kingma & Ba 2014; with weight_decay_K, decoupled from the gradient, Loshchilov & Hutter 2017 (AdamW)."""

    def __init__(
        self,
        parameters: Stacked,
        beta1_K: Tensor,
        beta2_K: Tensor,
        rates: Rates,
        *,
        weight_decay_K: Tensor | None = None,
        weights: Iterable[str] = (),
    ) -> None:
        self.rates = rates
        like = next(iter(parameters.values()))
        # 1 - beta2**t loses half its digits in float32; Apple's GPUs have nothing wider.
        precise = torch.float32 if like.device.type == "mps" else torch.float64
        self._beta1_K, self._beta2_K = (beta_K.to(like.device, precise, copy=True) for beta_K in (beta1_K, beta2_K))
        self._weight_decay_K = None if weight_decay_K is None else weight_decay_K.to(like, copy=True)
        self._weights = set(weights)
        self.state = {"exp_avg": _zeros(parameters), "exp_avg_sq": _zeros(parameters)}

    @override
    def update(
        self, parameters: Stacked, gradients: Stacked, lr_K: Tensor, num_updates_K: Tensor, frozen_K: Tensor | None
    ) -> None:
        step_K, eps_K = corrected(-lr_K, self._beta1_K, self._beta2_K, num_updates_K)
        # Before the first update there is neither average nor eps: 0 / 0.
        step_K, eps_K = (
            _unless_frozen(rate_K, frozen_K, value).to(lr_K) for rate_K, value in ((step_K, 0), (eps_K, 1))
        )
        gain1_K, gain2_K = (
            _unless_frozen(1 - beta_K, frozen_K, 0).to(lr_K) for beta_K in (self._beta1_K, self._beta2_K)
        )
        for name, parameter in parameters.items():
            if self._weight_decay_K is not None and name in self._weights:
                parameter.mul_(columns(1 - self.rates.of(name, lr_K) * self._weight_decay_K, parameter))
            average, square = self.state["exp_avg"][name], self.state["exp_avg_sq"][name]
            gradient = gradients[name]
            average.lerp_(gradient, columns(gain1_K, parameter))
            square.lerp_(gradient.square_(), columns(gain2_K, parameter))
            scale = torch.sqrt(square, out=gradient).add_(columns(eps_K, parameter))
            parameter.addcmul_(torch.div(average, scale, out=scale), columns(self.rates.of(name, step_K), parameter))

    @override
    def set_coefficients(self, vectors: Vectors) -> None:
        super().set_coefficients(vectors)
        self._beta1_K.copy_(vectors.momentum)
        self._beta2_K.copy_(vectors.beta2)
        if self._weight_decay_K is not None:
            self._weight_decay_K.copy_(vectors.weight_decay)

    @override
    def keep(self, slots: Sequence[int]) -> None:
        super().keep(slots)
        self._beta1_K, self._beta2_K = self._beta1_K[list(slots)], self._beta2_K[list(slots)]
        if self._weight_decay_K is not None:
            self._weight_decay_K = self._weight_decay_K[list(slots)]
        _keep(self.state, slots)


def corrected(lr_K: Tensor, beta1_K: Tensor, beta2_K: Tensor, num_updates_K: Tensor) -> tuple[Tensor, Tensor]:
    """(lr_K, eps_K) with which Adam's averages m and v need no correction, in the betas' precision."""
    # lr * m / c1 / (sqrt(v) / sqrt(c2) + eps) = (lr * sqrt(c2) / c1) * m / (sqrt(v) + eps * sqrt(c2))
    root2_K = (1 - beta2_K**num_updates_K).sqrt()
    return lr_K * root2_K / (1 - beta1_K**num_updates_K), ADAM_EPS * root2_K


def make_optimizer(
    name: str, parameters: Stacked, weights: Iterable[str], vectors: Vectors, rates: Rates | None = None
) -> Optimizer:
    """The optimizer that `train.optimizer` names, with fresh state; `weights` are the parameters that decay.

    Without `rates`, all of them have the rate of the head.
    """
    rates = rates or Rates({}, vectors, vectors.lr)
    make: dict[str, Callable[[], Optimizer]] = {
        "sgd": lambda: SGD(rates),
        "momentum": lambda: Momentum(parameters, vectors.momentum, rates, nesterov=False),
        "nesterov": lambda: Momentum(parameters, vectors.momentum, rates, nesterov=True),
        "adam": lambda: Adam(parameters, vectors.momentum, vectors.beta2, rates),
        "adamw": lambda: Adam(
            parameters, vectors.momentum, vectors.beta2, rates, weight_decay_K=vectors.weight_decay, weights=weights
        ),
    }
    return make[name]()


def _zeros(parameters: Mapping[str, Tensor]) -> Stacked:
    return {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}


def _keep(state: dict[str, Stacked], slots: Sequence[int]) -> None:
    for stacked in state.values():
        for name, tensor in stacked.items():
            stacked[name] = tensor[list(slots)]


def _unless_frozen(vector_K: Tensor, frozen_K: Tensor | None, value: float) -> Tensor:
    return vector_K if frozen_K is None else vector_K.masked_fill(frozen_K, value)
