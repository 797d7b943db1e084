"""What a training step makes small beside the penalties: the loss of train.loss, and what may be made of it by trial.

In cross-entropy, classes c of an image b with label y have the targets t_c: 1 - smoothing for y, and smoothing / C for
each of all. Its loss is the sum over c of w_c * t_c * (1 - p_c)^gamma * -log p_c, and that of a batch their sum over
that of the w_y, as in `torch.nn.CrossEntropyLoss` where gamma is 0. In the others (`score_losses`), that of an image
times w_y takes its place. Where images have two labels, mixed, the loss of the batch is that by its first labels and
that by its second ones, each times its share. Where they have shares q of all classes, in cross-entropy alone, these
stand in the place of the 1 of y, and of w_y, the sum over c of q_c * w_c.

Shapes: K = trials in the pack, B = batch, C = classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from hpsearch.config.losses import CROSS_ENTROPY, Loss
from hpsearch.datasets.mixing import Labels, MixedLabels, SoftLabels
from hpsearch.training import score_losses
from hpsearch.training.cost import data_loss
from hpsearch.training.vectors import Vectors, unless_zero


@dataclass(frozen=True)
class DataLoss:
    """Of the trials of a pack; None where nobody has any use for it.

    Args:
        smoothing: mass moved off the true class (Szegedy et al. 2015), of shape [K].
        gamma: of the focal loss (Lin et al. 2017), of shape [K].
        class_weights: w, of shape [C].
        loss: what is made small; hinge has no use for smoothing, and gamma is of cross-entropy alone.
    """

    smoothing: Tensor | None
    gamma: Tensor | None
    class_weights: Tensor | None
    loss: Loss = CROSS_ENTROPY

    @classmethod
    def of(cls, vectors: Vectors, class_weights: Tensor | None, like: Tensor, loss: Loss = CROSS_ENTROPY) -> DataLoss:
        """In the precision and on the device of `like`."""
        smoothing = None if loss == "hinge" else unless_zero(vectors.label_smoothing, like)
        gamma = unless_zero(vectors.focal, like) if loss == CROSS_ENTROPY else None
        return cls(smoothing, gamma, None if class_weights is None else class_weights.to(like), loss)

    @property
    def by_trial(self) -> tuple[Tensor | None, ...]:
        """What differs from trial to trial."""
        return self.smoothing, self.gamma

    def of_slot(self, slot: int) -> DataLoss:
        """That of one trial, K = 1: views."""
        smoothing, gamma = (None if vector is None else vector[slot : slot + 1] for vector in self.by_trial)
        return DataLoss(smoothing, gamma, self.class_weights, self.loss)

    def __call__(self, logits_KBC: Tensor, y_B: Labels) -> Tensor:
        """Shape [K], by operators through which autograd goes back."""
        if isinstance(y_B, MixedLabels):
            share = y_B.share.to(logits_KBC.dtype)
            return share * self(logits_KBC, y_B.first_B) + (1 - share) * self(logits_KBC, y_B.second_B)
        if isinstance(y_B, SoftLabels):
            return self._of_shares(log_softmax(logits_KBC, dim=2), y_B)
        if self.loss != CROSS_ENTROPY:
            loss_KB = score_losses.image_losses(self.loss, logits_KBC.transpose(1, 2), y_B, self.smoothing)
            _, weights_B, total = self._weights(loss_KB, y_B)
            return (loss_KB * weights_B).sum(1) / total
        if self.gamma is None and self.class_weights is None:
            return data_loss(logits_KBC, y_B, self.smoothing)
        # Classes first: see `data_loss`.
        logp_CKB = log_softmax(logits_KBC.movedim(2, 0).contiguous(), dim=0)
        loss_CKB = -logp_CKB
        if self.gamma is not None:
            loss_CKB = loss_CKB * _unsure(logp_CKB).pow(self.gamma.view(1, -1, 1))
        own_KB = loss_CKB.gather(0, y_B.expand(1, logp_CKB.shape[1], -1)).squeeze(0)
        weights_C, weights_B, total = self._weights(logp_CKB, y_B)
        own_K = (own_KB * weights_B).sum(1) / total
        if self.smoothing is None:
            return own_K
        all_K = (loss_CKB * weights_C.view(-1, 1, 1)).sum((0, 2)) / (total * len(loss_CKB))
        return (1 - self.smoothing) * own_K + self.smoothing * all_K

    def weight(self, y_B: Labels) -> Tensor | float:
        """What these images count together, in a mean over more of them."""
        if isinstance(y_B, MixedLabels):
            first, second = self.weight(y_B.first_B), self.weight(y_B.second_B)
            return y_B.share * first + (1 - y_B.share) * second
        if self.class_weights is None:
            return float(len(y_B))
        if isinstance(y_B, SoftLabels):
            return (y_B.rows_BC.to(self.class_weights) * self.class_weights).sum()
        return self.class_weights[y_B].sum()

    def with_derivative(self, logits_KCB: Tensor, y_B: Labels) -> tuple[Tensor, Tensor]:
        """The same, and its derivative by the logits, of shape [K, C, B]."""
        if isinstance(y_B, MixedLabels):
            share = y_B.share.to(logits_KCB.dtype)
            both = (self.with_derivative(logits_KCB, each_B) for each_B in (y_B.first_B, y_B.second_B))
            (loss_K, delta), (other_K, other) = both
            return share * loss_K + (1 - share) * other_K, delta.mul_(share).add_(other.mul_(1 - share))
        if isinstance(y_B, SoftLabels):
            logp_KCB = log_softmax(logits_KCB, dim=1)
            return self._weighed(logp_KCB, y_B, self._smoothed(y_B.rows_BC.to(logp_KCB.dtype).t()))
        if self.loss != CROSS_ENTROPY:
            loss_KB, delta_KCB = score_losses.with_derivative(self.loss, logits_KCB, y_B, self.smoothing)
            _, weights_B, total = self._weights(loss_KB, y_B)
            return (loss_KB * weights_B).sum(1) / total, delta_KCB.mul_(weights_B / total)
        num_trials, num_classes, num_images = logits_KCB.shape
        logp_KCB = log_softmax(logits_KCB, dim=1)
        is_own_CB = torch.arange(num_classes, device=y_B.device).unsqueeze(1) == y_B
        target = is_own_CB.to(logp_KCB.dtype)
        target = self._smoothed(target)
        if self.gamma is not None or self.class_weights is not None:
            return self._weighed(logp_KCB, y_B, target)
        loss_K = -logp_KCB.gather(1, y_B.expand(num_trials, 1, -1)).squeeze(1).mean(1)
        if self.smoothing is not None:
            loss_K = (1 - self.smoothing) * loss_K - self.smoothing * logp_KCB.mean((1, 2))
        return loss_K, logp_KCB.exp_().sub_(target).div_(num_images)

    def _smoothed(self, target_CB: Tensor) -> Tensor:
        """t: of shape [C, B], or where trials differ, [K, C, B]."""
        if self.smoothing is None:
            return target_CB
        smoothing_K11 = self.smoothing.view(-1, 1, 1)
        return (1 - smoothing_K11) * target_CB + smoothing_K11 / len(target_CB)

    def _of_shares(self, logp_KBC: Tensor, y_B: SoftLabels) -> Tensor:
        weights_C, _, total = self._weights(logp_KBC, y_B)
        target = self._smoothed(y_B.rows_BC.to(logp_KBC.dtype).t()).transpose(-2, -1)
        loss_KBC = -logp_KBC
        if self.gamma is not None:
            loss_KBC = loss_KBC * _unsure(logp_KBC).pow(self.gamma.view(-1, 1, 1))
        return (target * weights_C * loss_KBC).sum((1, 2)) / total

    def _weighed(self, logp_KCB: Tensor, y_B: Tensor | SoftLabels, target: Tensor) -> tuple[Tensor, Tensor]:
        """Of f(p) = (1 - p)^gamma * -log p, p * f'(p) is gamma * p * (1 - p)^(gamma - 1) * log p - (1 - p)^gamma."""
        weights_C, _, total = self._weights(logp_KCB, y_B)
        share = target * weights_C.view(-1, 1)
        p_KCB = logp_KCB.exp()
        loss_KCB, back_KCB = -logp_KCB, torch.full_like(logp_KCB, -1.0)
        if self.gamma is not None:
            gamma_K11 = self.gamma.view(-1, 1, 1)
            unsure_KCB = _unsure(logp_KCB)
            factor_KCB = unsure_KCB.pow(gamma_K11)
            loss_KCB = loss_KCB * factor_KCB
            back_KCB = gamma_K11 * p_KCB * unsure_KCB.pow(gamma_K11 - 1) * logp_KCB
            back_KCB = torch.where(unsure_KCB > _least(logp_KCB), back_KCB, 0) - factor_KCB
        back_KCB = share * back_KCB
        loss_K = (share * loss_KCB).sum((1, 2)) / total
        return loss_K, (back_KCB - p_KCB * back_KCB.sum(1, keepdim=True)).div_(total)

    def _weights(self, like: Tensor, y_B: Tensor | SoftLabels) -> tuple[Tensor, Tensor, Tensor]:
        """Those of the classes and of the images, and the sum of these."""
        if self.class_weights is None:
            ones_B = like.new_ones(len(y_B))
            return like.new_ones(1), ones_B, ones_B.sum()
        if isinstance(y_B, SoftLabels):
            weights_B = (y_B.rows_BC.to(self.class_weights) * self.class_weights).sum(1)
        else:
            weights_B = self.class_weights[y_B]
        return self.class_weights, weights_B, weights_B.sum()


def measured_loss(loss: Loss, logits_KBC: Tensor, y_B: Tensor) -> Tensor:
    """As curves have it: without smoothing, gamma and weights of classes; the mean over the images, of shape [K]."""
    if loss == CROSS_ENTROPY:
        return data_loss(logits_KBC, y_B)
    return score_losses.image_losses(loss, logits_KBC.transpose(1, 2), y_B).mean(1)


def balanced_weights(y_N: Tensor, num_classes: int) -> Tensor:
    """N / (classes that have images * images of the class), of shape [C], float64; 0 for a class without images."""
    num_C = torch.bincount(y_N, minlength=num_classes).double()
    present_C = num_C > 0
    return torch.where(present_C, len(y_N) / (present_C.sum() * num_C.clamp(min=1)), 0)


def _unsure(logp: Tensor) -> Tensor:
    """1 - p; a power of 0 may have no derivative."""
    return (-torch.expm1(logp)).clamp(min=_least(logp))


def _least(like: Tensor) -> float:
    return torch.finfo(like.dtype).eps
