"""Scaling of the loss, so that gradients are numbers that float16 has (Micikevicius et al. 2017), for each trial apart.

The rule is that of torch.amp.GradScaler: the scale begins at 2^16; where a gradient is not finite, there is no update,
and the scale is halved; after 2,000 updates without, it is doubled. Nothing is read back from the device.

Shapes: K = trials in the pack.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hpsearch.training.layout import Stacked
from hpsearch.training.vectors import columns

FIRST_SCALE = 2.0**16
GROWTH, BACKOFF = 2.0, 0.5
GROWTH_UPDATES = 2000  # without a gradient that is not finite, after which the scale grows


class LossScaling:
    """The scales of K trials, in place.

    Args:
        like: of shape [K], in the precision and on the device of the pack.
    """

    def __init__(self, like: Tensor) -> None:
        self.scale_K = torch.full_like(like, FIRST_SCALE)
        """By which losses are multiplied before gradients are taken."""
        self._good_K = torch.zeros_like(like, dtype=torch.int64)  # updates since the scale changed

    def unscale(self, gradients: Stacked, active_K: Tensor) -> Tensor:
        """Divide the gradients by the scales with which they were taken, in place, and choose the next scales.

        Args:
            gradients: by block, shapes [K, ...].
            active_K: mask of the trials that are trained; nothing changes for others.

        Returns:
            The mask of the active trials whose gradients are all finite: those that may make their update.
        """
        finite_K = torch.ones_like(active_K)
        for gradient in gradients.values():  # the largest of them is nan where one is
            finite_K &= torch.linalg.vector_norm(gradient.flatten(1), ord=torch.inf, dim=1).isfinite()
        inverse_K = self.scale_K.reciprocal()
        for gradient in gradients.values():
            gradient.mul_(columns(inverse_K, gradient))
        good_K = (self._good_K + 1).masked_fill(~finite_K, 0)
        grows_K = good_K == GROWTH_UPDATES
        scale_K = torch.where(grows_K, self.scale_K * GROWTH, self.scale_K)
        scale_K = torch.where(finite_K, scale_K, self.scale_K * BACKOFF)
        self.scale_K.copy_(torch.where(active_K & scale_K.isfinite(), scale_K, self.scale_K))
        self._good_K.copy_(torch.where(active_K, good_K.masked_fill(grows_K, 0), self._good_K))
        return active_K & finite_K

    def everything(self) -> dict[str, Tensor]:
        """What has to be kept to go on, by name."""
        return {"scale": self.scale_K, "good_updates": self._good_K}

    def keep(self, slots: Sequence[int]) -> None:
        """Forget all other trials."""
        self.scale_K, self._good_K = self.scale_K[list(slots)], self._good_K[list(slots)]
