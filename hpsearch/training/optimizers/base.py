"""What all update rules over the stacked parameters of K trials share; each trial has coefficients of its own.

The arithmetic is that of `torch.optim`, whose optimizers take no tensor of learning rates. A frozen trial stays as
it is to the bit: its gradients come as zeros (not NaN, which no factor turns to zero), its lr_K is zero, and its
decay rates count as one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor

from hpsearch.training.layout import Stacked
from hpsearch.training.rates import Rates
from hpsearch.training.vectors import Vectors


class Optimizer(ABC):
    """One update rule and its state.

    Args:
        parameters: by block, shapes [K, ...].
        vectors: of the trials.
        rates: of the parts of a net.
    """

    averages: tuple[str, ...] = ()
    """What it keeps of each parameter, by torch.optim's names; zero at first."""
    exact: tuple[str, ...] = ()
    """Its coefficients by their keys in [train], of which float32 would lose digits, as of 1 - beta**t."""
    rounded: tuple[str, ...] = ()
    """Those in the precision of the parameters."""

    def __init__(self, parameters: Stacked, vectors: Vectors, rates: Rates) -> None:
        self.rates = rates
        self.state = {key: {n: torch.zeros_like(t) for n, t in parameters.items()} for key in self.averages}
        like = next(iter(parameters.values()))
        # Apple's GPUs have nothing wider than float32.
        self.precise = torch.float32 if like.device.type == "mps" else torch.float64
        self.coefficients: dict[str, Tensor] = {
            **{key: getattr(vectors, key).to(like.device, self.precise, copy=True) for key in self.exact},
            **{key: getattr(vectors, key).to(like, copy=True) for key in self.rounded},
        }
        self.products: dict[str, Tensor] = {}
        """What else updates change, of shape [K]."""

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
        for key, own_K in self.coefficients.items():
            own_K.copy_(getattr(vectors, key))

    def keep(self, slots: Sequence[int]) -> None:
        """Forget all other trials."""
        self.rates.keep(slots)
        stacks: Collection[dict[str, Tensor]] = (self.coefficients, self.products, *self.state.values())
        for stacked in stacks:
            for name, tensor in stacked.items():
                stacked[name] = tensor[list(slots)]


def unless_frozen(vector_K: Tensor, frozen_K: Tensor | None, value: float) -> Tensor:
    """The vector, with this value for trials that are to stay as they are."""
    return vector_K if frozen_K is None else vector_K.masked_fill(frozen_K, value)


def gains(coefficients: Mapping[str, Tensor], frozen_K: Tensor | None, like: Tensor) -> tuple[Tensor, Tensor]:
    """1 - beta1 and 1 - beta2 in the precision of `like`; 0 for frozen trials, whose averages stay."""
    beta1_K, beta2_K = coefficients["momentum"], coefficients["beta2"]
    return unless_frozen(1 - beta1_K, frozen_K, 0).to(like), unless_frozen(1 - beta2_K, frozen_K, 0).to(like)
