"""The optimizer that a study file names."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from hpsearch.training.layout import Stacked
from hpsearch.training.optimizers.adam import Adam, AdamW, NAdam
from hpsearch.training.optimizers.base import Optimizer
from hpsearch.training.optimizers.by_size import Adagrad, RMSprop
from hpsearch.training.optimizers.lion import Lion
from hpsearch.training.optimizers.sgd import SGD, Momentum, Nesterov
from hpsearch.training.rates import Rates
from hpsearch.training.vectors import Vectors

IN_ONE_PASS = ("sgd", "momentum", "nesterov", "adam", "adamw")
"""Those that kernels are there for which pass once through memory; the others take PyTorch's operators."""

RULES: dict[str, Callable[[Stacked, Vectors, Rates], Optimizer]] = {
    "sgd": SGD,
    "momentum": Momentum,
    "nesterov": Nesterov,
    "adam": Adam,
    "nadam": NAdam,
    "rmsprop": RMSprop,
    "adagrad": Adagrad,
}
DECAYING: dict[str, Callable[[Stacked, Vectors, Rates, Iterable[str]], Optimizer]] = {"adamw": AdamW, "lion": Lion}


def make_optimizer(
    name: str, parameters: Stacked, weights: Iterable[str], vectors: Vectors, rates: Rates | None = None
) -> Optimizer:
    """The optimizer that `train.optimizer` names, with fresh state; `weights` are the parameters that decay.

    Without `rates`, all of them have the rate of the head.
    """
    rates = rates or Rates({}, vectors, vectors.lr)
    if name in DECAYING:
        return DECAYING[name](parameters, vectors, rates, weights)
    return RULES[name](parameters, vectors, rates)
