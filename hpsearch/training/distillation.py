"""Learning from a teacher beside the labels (Hinton, Vinyals & Dean 2015): what it adds to the loss, by trial.

With share w and temperature T, a trial's loss is 1 - w times that by the labels (see `data_loss`) and w times T^2 times
the Kullback-Leibler divergence of softmax(z / T), z the net's logits, from the teacher's softmax at the same T. Images
count as they do in the first part. The teacher was asked once, of images as they are (`teacher`).

Labels are rows of the training images here, of which both the label and what the teacher says are read; where images
are mixed, so are both.

Shapes: K = trials in the pack, N = training images, B = batch, C = classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from hpsearch.datasets.mixing import Labels, MixedLabels
from hpsearch.training.data_loss import DataLoss
from hpsearch.training.vectors import Vectors


@dataclass(frozen=True, eq=False)
class Taught:
    """The training images' labels, and the logarithms of the teacher's probabilities."""

    y_N: Tensor  # noqa: N815
    logq_NC: Tensor  # noqa: N815

    @cached_property
    def rows_N(self) -> Tensor:  # noqa: N802
        """What stands for the labels in batches."""
        return torch.arange(len(self.y_N), device=self.y_N.device)

    def labels(self, rows_B: Labels) -> Labels:
        """Of these images."""
        if isinstance(rows_B, MixedLabels):
            return MixedLabels(self.y_N[rows_B.first_B], self.y_N[rows_B.second_B], rows_B.share)
        return self.y_N[rows(rows_B)]


@dataclass(frozen=True)
class DistilledLoss:
    """As a `DataLoss`, of rows instead of labels.

    Args:
        by_labels: what the labels ask for.
        taught: labels and teacher.
        share: w, of shape [K]; None where it is 0 for all.
        temperature: T, of shape [K]; None where nobody has any use for it.
    """

    by_labels: DataLoss
    taught: Taught
    share: Tensor | None
    temperature: Tensor | None

    @classmethod
    def of(cls, by_labels: DataLoss, taught: Taught, vectors: Vectors, like: Tensor) -> DistilledLoss:
        """In the precision and on the device of `like`."""
        if not vectors.distill.any():
            return cls(by_labels, taught, None, None)
        share, temperature = (each.to(like, copy=True) for each in (vectors.distill, vectors.distill_temperature))
        return cls(by_labels, taught, share, temperature)

    @property
    def by_trial(self) -> tuple[Tensor | None, ...]:
        """What differs from trial to trial."""
        return *self.by_labels.by_trial, self.share, self.temperature

    def of_slot(self, slot: int) -> DistilledLoss:
        """That of one trial, K = 1: views."""
        own = (None if vector is None else vector[slot : slot + 1] for vector in (self.share, self.temperature))
        return DistilledLoss(self.by_labels.of_slot(slot), self.taught, *own)

    def __call__(self, logits_KBC: Tensor, rows_B: Labels) -> Tensor:
        """Shape [K], by operators through which autograd goes back."""
        hard_K = self.by_labels(logits_KBC, self.taught.labels(rows_B))
        if self.share is None:
            return hard_K
        soft_K, _ = self._soft(logits_KBC.movedim(2, 1), rows_B)
        return (1 - self.share) * hard_K + self.share * soft_K

    def weight(self, rows_B: Labels) -> Tensor | float:
        """What these images count together, in a mean over more of them."""
        return self.by_labels.weight(self.taught.labels(rows_B))

    def with_derivative(self, logits_KCB: Tensor, rows_B: Labels) -> tuple[Tensor, Tensor]:
        """The same, and its derivative by the logits, of shape [K, C, B]."""
        hard_K, delta = self.by_labels.with_derivative(logits_KCB, self.taught.labels(rows_B))
        if self.share is None:
            return hard_K, delta
        soft_K, soft_delta = self._soft(logits_KCB, rows_B)
        share_K11 = self.share.view(-1, 1, 1)
        delta = delta.mul_(1 - share_K11).add_(soft_delta.mul_(share_K11))
        return (1 - self.share) * hard_K + self.share * soft_K, delta

    def _soft(self, logits_KCB: Tensor, rows_B: Labels) -> tuple[Tensor, Tensor]:
        """What the teacher asks for, and its derivative."""
        if isinstance(rows_B, MixedLabels):
            share = rows_B.share.to(logits_KCB.dtype)
            (first_K, first), (second_K, second) = (
                self._soft(logits_KCB, each_B) for each_B in (rows_B.first_B, rows_B.second_B)
            )
            return share * first_K + (1 - share) * second_K, share * first + (1 - share) * second
        assert self.temperature is not None
        temperature_K11 = self.temperature.view(-1, 1, 1)
        logp_KCB = log_softmax(logits_KCB / temperature_K11, dim=1)
        images_B = rows(rows_B)
        logq_KCB = log_softmax(self.taught.logq_NC[images_B].T / temperature_K11, dim=1)
        q_KCB = logq_KCB.exp()
        classes = self.by_labels.class_weights
        weights_B = logits_KCB.new_ones(logits_KCB.shape[2]) if classes is None else classes[self.taught.y_N[images_B]]
        share_B = weights_B / weights_B.sum()
        divergence_KB = (q_KCB * (logq_KCB - logp_KCB)).sum(1)
        loss_K = self.temperature.square() * (divergence_KB * share_B).sum(1)
        return loss_K, temperature_K11 * (logp_KCB.detach().exp() - q_KCB) * share_B


def rows(labels_B: Labels) -> Tensor:
    """Of the training images; who changes labels has none, and is refused beside a teacher."""
    assert isinstance(labels_B, Tensor)
    return labels_B
