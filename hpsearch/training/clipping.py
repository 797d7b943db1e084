"""Clipping of gradients (Pascanu et al. 2013), each trial's by its own norm, before an update.

Shapes: K = trials in the pack.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor
from typing_extensions import override

from hpsearch.training.cost import Penalty
from hpsearch.training.layout import Stacked
from hpsearch.training.updater import Updated, Updater
from hpsearch.training.vectors import Vectors, columns

EPS = 1e-6  # as in torch.nn.utils.clip_grad_norm_


class Clipping(Updater):
    """Scales gradients of the whole cost, penalties included, down to a norm; another updater does the rest.

    The norm is that over all parameters, so a call of `update` must have the gradients of all. Decay that is decoupled
    from the gradient, as of adamw, is clipped with none.

    Args:
        updated: what is updated.
        clip_norm_K: the longest norms; 0: any.
        make: of the other updater.
    """

    def __init__(self, updated: Updated, clip_norm_K: Tensor, make: Callable[[Updated], Updater]) -> None:
        self._updated = updated
        self._clip_norm_K = clip_norm_K
        self._then = make(replace(updated, penalty=Penalty(None, None)))

    @override
    def update(self, gradients: Stacked, frozen_K: Tensor | None, rounded: Mapping[str, Tensor] | None = None) -> None:
        own = self._updated
        own.penalty.add_gradients({n: own.blocks[n] for n in gradients if n in own.weights}, gradients)
        scale_K = self._scales(gradients)
        for gradient in gradients.values():
            gradient.mul_(columns(scale_K, gradient))
        self._then.update(gradients, frozen_K, rounded)  # which makes nothing of those of frozen trials

    @override
    def set_coefficients(self, vectors: Vectors) -> None:
        self._then.set_coefficients(vectors)

    @override
    def weights_changed(self) -> None:
        self._then.weights_changed()

    def _scales(self, gradients: Stacked) -> Tensor:
        norms = [torch.linalg.vector_norm(gradient.flatten(1), dim=1) for gradient in gradients.values()]
        norm_K = torch.linalg.vector_norm(torch.stack(norms), dim=0)
        scale_K = (self._clip_norm_K / (norm_K + EPS)).clamp(max=1)
        return torch.where(self._clip_norm_K > 0, scale_K, 1)
