"""What a step makes of vector hyperparameters: its penalties, its loss, its warm-up and the norms that it clips to.

Shapes: K = trials in the pack, C = classes.
"""

from __future__ import annotations

from torch import Tensor

from hpsearch.config import TrainConfig
from hpsearch.training.cost import Penalty
from hpsearch.training.data_loss import DataLoss
from hpsearch.training.distillation import DistilledLoss, Taught
from hpsearch.training.own_step import OwnStep
from hpsearch.training.schedules import has_step_factors
from hpsearch.training.vectors import Vectors, unless_zero


class Coefficients:
    """Of K trials. What none of them has is None, so that a step leaves out its operations.

    Args:
        train: the structural values of the trials.
        vectors: the others.
        like: any tensor of the precision and on the device in which to train.
        class_weights: of shape [C], where images do not count alike.
        taught: where there is a teacher.
    """

    def __init__(
        self,
        train: TrainConfig,
        vectors: Vectors,
        like: Tensor,
        class_weights: Tensor | None = None,
        taught: Taught | None = None,
    ) -> None:
        self._train, self._like = train, like
        self._class_weights, self._taught = class_weights, taught
        self.own_step: OwnStep | None = None
        """What gives the losses in place of `loss`; None where there is none."""
        self.penalty: Penalty
        self.loss: DataLoss | DistilledLoss
        self.warmup_K: Tensor | None
        """Epochs; None where all steps of an epoch have the same rate."""
        self.clip_norm_K: Tensor | None
        self.make(vectors)

    def make(self, vectors: Vectors) -> None:
        """Those of these trials, however many, in new memory."""
        like = self._like
        self.penalty = Penalty.of(vectors, like)
        self.loss = DataLoss.of(vectors, self._class_weights, like, self._train.loss)
        if self._taught is not None:
            self.loss = DistilledLoss.of(self.loss, self._taught, vectors, like)
        numbers_KM = vectors.step_options
        if self.own_step is not None and len(self.own_step.numbers_KM) == len(numbers_KM):
            self.own_step.numbers_KM.copy_(numbers_KM)  # in place, as recorded steps read it
        elif self._train.step is not None:
            self.own_step = OwnStep(self._train, vectors, self._class_weights, like)
        warmup_K = vectors.warmup
        self.warmup_K = warmup_K.to(like, copy=True) if has_step_factors(self._train, warmup_K) else None
        self.clip_norm_K = unless_zero(vectors.clip_norm, like)

    def replace(self, vectors: Vectors) -> bool:
        """Those of as many trials, in the same memory, unless other operations follow from them: whether they do."""
        before, old = (self.penalty, self.loss, self.warmup_K, self.clip_norm_K), self._by_trial
        self.make(vectors)
        new = self._by_trial
        if [each is None for each in old] != [each is None for each in new]:
            return True
        for own_K, new_K in zip(old, new, strict=True):
            if own_K is not None and new_K is not None:
                own_K.copy_(new_K)
        self.penalty, self.loss, self.warmup_K, self.clip_norm_K = before
        return False

    @property
    def _by_trial(self) -> tuple[Tensor | None, ...]:
        return self.penalty.reg, self.penalty.l1, *self.loss.by_trial, self.warmup_K, self.clip_norm_K
