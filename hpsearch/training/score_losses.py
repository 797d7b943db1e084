"""Losses of the scores themselves, beside cross-entropy, which is one of what softmax makes of them.

- squared: of an image the sum over the classes of (score - target)^2, with targets of 0 and 1, or what smoothing makes
  of them: C times `torch.nn.functional.mse_loss`.
- hinge: the sum over the other classes of max(0, 1 + their score - that of the own class), by Weston & Watkins 1999, as
  in CS231n: C times `torch.nn.functional.multi_margin_loss`.

Neither is divided by the number of classes, so that few and many of them take like learning rates.
Shapes: K = trials in the pack, B = batch, C = classes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import relu

from hpsearch.config.losses import Loss

MARGIN = 1.0  # by which the own class shall be ahead of each other one


def image_losses(loss: Loss, scores_KCB: Tensor, y_B: Tensor, smoothing_K: Tensor | None = None) -> Tensor:
    """Of each image, of shape [K, B], by operators through which autograd goes back.

    Args:
        loss: squared or hinge.
        scores_KCB: of any strides.
        y_B: labels.
        smoothing_K: mass moved off the true class; of squared error alone.
    """
    missing_KCB = _missing(loss, scores_KCB, y_B, smoothing_K)
    return (missing_KCB.square() if loss == "squared" else missing_KCB).sum(1)


def with_derivative(
    loss: Loss, scores_KCB: Tensor, y_B: Tensor, smoothing_K: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The same, and its derivative by the scores, of shape [K, C, B]."""
    missing_KCB = _missing(loss, scores_KCB, y_B, smoothing_K)
    if loss == "squared":
        return missing_KCB.square().sum(1), missing_KCB.mul_(2)
    loss_KB, counts_KCB = missing_KCB.sum(1), (missing_KCB > 0).to(missing_KCB.dtype)
    num_K1B = counts_KCB.sum(1, keepdim=True)
    return loss_KB, counts_KCB.sub_(_is_own(scores_KCB, y_B) * num_K1B)


def _missing(loss: Loss, scores_KCB: Tensor, y_B: Tensor, smoothing_K: Tensor | None) -> Tensor:
    """What each score is off its target, or short of its margin; the own class is short of none."""
    is_own_CB = _is_own(scores_KCB, y_B)
    if loss == "hinge":
        own_K1B = scores_KCB.gather(1, y_B.expand(len(scores_KCB), 1, -1))
        return relu((scores_KCB - own_K1B + MARGIN).masked_fill(is_own_CB, 0))
    target = is_own_CB.to(scores_KCB.dtype)
    if smoothing_K is not None:
        smoothing_K11 = smoothing_K.view(-1, 1, 1)
        target = (1 - smoothing_K11) * target + smoothing_K11 / scores_KCB.shape[1]
    return scores_KCB - target


def _is_own(scores_KCB: Tensor, y_B: Tensor) -> Tensor:
    """Of shape [C, B]."""
    return torch.arange(scores_KCB.shape[1], device=y_B.device).unsqueeze(1) == y_B
