"""Rates of a net's parts: train.body_lr and train.layer_decay as factors of lr, by block of parameters.

The head trains with lr, the last stage with lr * body_lr * layer_decay, the one before with layer_decay once more, as
in Howard & Ruder 2018 and Bao et al. 2021. Shapes: K = trials in the pack.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from hpsearch.training.vectors import Vectors


class Rates:
    """The factor of each block that is not the head's; in place from one update to the next.

    Args:
        depths: of blocks: 0 is the head, 1 the last stage; a block that is not here has the rate of the head.
        vectors: of the trials.
        like: any tensor of the precision and on the device of the rates.
    """

    def __init__(self, depths: Mapping[str, int], vectors: Vectors, like: Tensor) -> None:
        self._depths = {block: depth for block, depth in depths.items() if depth > 0}
        self._factors = {d: _factor(d, vectors).to(like, copy=True) for d in {*self._depths.values()}}

    def of(self, block: str, rate_K: Tensor) -> Tensor:
        """What this block makes of the rate that the head trains with."""
        depth = self._depths.get(block)
        return rate_K if depth is None else rate_K * self._factors[depth]

    def set_coefficients(self, vectors: Vectors) -> None:
        """Other trials have come."""
        for depth, factor_K in self._factors.items():
            factor_K.copy_(_factor(depth, vectors))

    def keep(self, slots: Sequence[int]) -> None:
        """Forget all other trials."""
        self._factors = {depth: factor_K[list(slots)] for depth, factor_K in self._factors.items()}


def differ(vectors: Vectors) -> bool:
    """Whether some trial has parts with rates of their own."""
    return bool((vectors.body_lr != 1).any() or (vectors.layer_decay != 1).any())


def _factor(depth: int, vectors: Vectors) -> Tensor:
    return vectors.body_lr * vectors.layer_decay**depth
