"""The cost of a trial: data loss + reg/2 * sum W^2 + l1 * sum |W|.

Shapes: K = trials in the pack, B = batch, C = classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from hpsearch.training.vectors import Vectors, columns


def data_loss(logits_KBC: Tensor, y_B: Tensor, smoothing_K: Tensor | None = None) -> Tensor:
    """Cross-entropy in nats, mean over the batch, of shape [K]; labels smoothed as in Szegedy et al. 2015."""
    num_trials = len(logits_KBC)
    # Classes first: on a CPU, softmax over a short last dimension is 20 times slower (10 classes, torch 2.15).
    logits_CKB = logits_KBC.movedim(2, 0).contiguous()
    logp_CKB = log_softmax(logits_CKB, dim=0)
    nll_K = -logp_CKB.gather(0, y_B.expand(1, num_trials, -1)).squeeze(0).mean(1)
    if smoothing_K is None:
        return nll_K
    return (1 - smoothing_K) * nll_K - smoothing_K * logp_CKB.mean((0, 2))


@dataclass(frozen=True)
class Penalty:
    """L2 and L1 regularization of the weights; shape [K], or None where no trial of the pack has any."""

    reg: Tensor | None
    l1: Tensor | None

    @classmethod
    def of(cls, vectors: Vectors, like: Tensor) -> Penalty:
        """With the strengths in the precision and on the device of `like`."""
        return cls(*(vector.to(like, copy=True) if vector.any() else None for vector in (vectors.reg, vectors.l1)))

    def cost(self, weights: Mapping[str, Tensor], squares: Mapping[str, Tensor] | None = None) -> Tensor | float:
        """What it adds to the cost, of shape [K].

        Args:
            weights: of shape [K, ...].
            squares: sums of the squares of some of them, of shape [K], where they are known.
        """
        total: Tensor | float = 0.0
        for name, weight in weights.items():
            flat = weight.flatten(1)
            if self.reg is not None:
                known_K = (squares or {}).get(name)
                square_K = torch.linalg.vector_norm(flat, dim=1).square() if known_K is None else known_K
                total = total + self.reg / 2 * square_K
            if self.l1 is not None:
                total = total + self.l1 * torch.linalg.vector_norm(flat, ord=1, dim=1)
        return total

    def add_gradients(self, weights: Mapping[str, Tensor], gradients: Mapping[str, Tensor]) -> None:
        """Add reg * W + l1 * sign(W) to the gradients of the weights, in place."""
        for name, weight in weights.items():
            if self.reg is not None:
                gradients[name].addcmul_(weight, columns(self.reg, weight))
            if self.l1 is not None:
                gradients[name].addcmul_(weight.sign(), columns(self.l1, weight))
