"""What regularizes and updates the parameters of K trials: one interface, whatever the number of passes it takes.

Shapes: K = trials in the pack.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from typing_extensions import override

from hpsearch.training.cost import Penalty
from hpsearch.training.layout import Stacked
from hpsearch.training.optimizers import Optimizer
from hpsearch.training.vectors import Vectors, columns


@dataclass(frozen=True)
class Updated:
    """What an update changes and what it goes by: tensors of a `PackState`, all in place between two calls of `keep`.

    Not the state itself, which holds its updater: what refers to each other gives memory back late.
    """

    blocks: Stacked
    """Of all parameters, shapes [K, ...]."""
    weights: frozenset[str]
    """The blocks that are regularized, and decay."""
    optimizer: Optimizer
    rule: str
    """The optimizer's name in train.optimizer."""
    penalty: Penalty
    vectors: Vectors
    lr: Tensor
    """Of shape [K], as the next."""
    num_updates: Tensor
    """Of each trial, the update that is made included."""


class Updater(ABC):
    """Updates in place. For the trials that are in the pack now: make a new one after `PackState.keep`."""

    takes_bfloat16: ClassVar[bool] = False
    """Whether gradients may be in bfloat16, and rounded copies cost no pass of their own."""

    @abstractmethod
    def update(self, gradients: Stacked, frozen_K: Tensor | None, rounded: Mapping[str, Tensor] | None = None) -> None:
        """Regularize and update those parameters that have a gradient here.

        A frozen trial stays as it is to the bit, whatever its gradients are.

        Args:
            gradients: of the data loss, by block; may be used up.
            frozen_K: mask of the trials to leave alone, or None where it is known that there are none.
            rounded: copies in bfloat16 of some of these blocks, which are to follow them.
        """

    def squares(self) -> Stacked:
        """Sums of the squares of those blocks where updates leave them behind, of shape [K]."""
        return {}

    def set_coefficients(self, vectors: Vectors) -> None:  # noqa: B027 - most read them where they lie
        """Other trials have come; the tensors of `Updated` have their values already."""

    def weights_changed(self) -> None:  # noqa: B027 - most derive nothing from them
        """Something else has written to the weights."""


class StackedOperators(Updater):
    """By PyTorch's operators, each of which passes through a block for all trials at once."""

    def __init__(self, updated: Updated) -> None:
        self._updated = updated

    @override
    def update(self, gradients: Stacked, frozen_K: Tensor | None, rounded: Mapping[str, Tensor] | None = None) -> None:
        own = self._updated
        parameters = {name: own.blocks[name] for name in gradients}
        own.penalty.add_gradients({n: t for n, t in parameters.items() if n in own.weights}, gradients)
        lr_K = own.lr
        if frozen_K is not None:
            lr_K = lr_K.masked_fill(frozen_K, 0)
            for gradient in gradients.values():
                gradient.masked_fill_(columns(frozen_K, gradient), 0)
        own.optimizer.update(parameters, gradients, lr_K, own.num_updates, frozen_K)
        for name, copy in (rounded or {}).items():
            copy.copy_(own.blocks[name])
