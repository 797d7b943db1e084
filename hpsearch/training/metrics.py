"""What `train.metric` gives for all trials of a pack at once, from their logits on the validation images.

Images come in chunks. Measures that need counts alone keep these; those that need all probabilities keep them for as
many trials as fit into a bounded memory, and the images are gone through again for the others. Each measure is that of
scikit-learn on the same probabilities, with what it leaves open settled so:

- classes without an image among the labels are left out of means over classes;
- where a trial's logits are not finite numbers, so that no class is the likeliest, its value is nan;
- what is not defined is nan: auroc where all images are of one class.

Shapes: K = trials, B = images of a chunk, N = all images, C = classes.
"""

from __future__ import annotations

import math
import numbers
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from hpsearch.config import usercode
from hpsearch.config.losses import CROSS_ENTROPY, Loss
from hpsearch.config.metric import METRICS, Metric
from hpsearch.training.data_loss import measured_loss

CPU_SCORES = 2**26  # most probabilities kept at a time: 256 MiB in float32
GPU_SCORES = 2**28
TOP = 5  # of top5

Function = Callable[[np.ndarray[Any, Any], np.ndarray[Any, Any]], Any]
"""A user's: of scores N,C (probabilities, float) and labels N (int64)."""


class Measure(ABC):
    """One measure of K trials, over chunks of the images."""

    @abstractmethod
    def add(self, logits_KBC: Tensor, y_B: Tensor) -> None:
        """The next images."""

    @abstractmethod
    def values(self) -> list[float]:
        """One per trial, over all images so far; nan where it is not defined, or the logits are no numbers."""


class Counted(Measure):
    """Of what was taken for what: of each class, its images, those that were recognized, those taken for it."""

    def __init__(self, of_counts: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        self._of_counts = of_counts
        self._counts: tuple[Tensor, Tensor, Tensor] | None = None
        self._finite_K = torch.ones(0, dtype=torch.bool)

    @override
    def add(self, logits_KBC: Tensor, y_B: Tensor) -> None:
        num_trials, _, num_classes = logits_KBC.shape
        if self._counts is None:
            zeros_KC = torch.zeros(num_trials, num_classes, dtype=torch.int64, device=y_B.device)
            self._counts = zeros_KC[0].clone(), zeros_KC, zeros_KC.clone()
            self._finite_K = torch.ones(num_trials, dtype=torch.bool, device=y_B.device)
        images_C, hits_KC, taken_KC = self._counts
        predicted_KB = logits_KBC.argmax(-1)
        one_KB = torch.ones_like(predicted_KB)
        images_C.scatter_add_(0, y_B, one_KB[0])
        hits_KC.scatter_add_(1, predicted_KB, (predicted_KB == y_B).to(torch.int64))
        taken_KC.scatter_add_(1, predicted_KB, one_KB)
        self._finite_K &= logits_KBC.isfinite().all(-1).all(-1)

    @override
    def values(self) -> list[float]:
        assert self._counts is not None
        images_C, hits_KC, taken_KC = (counts.cpu().double() for counts in self._counts)  # not every device has doubles
        value_K = self._of_counts(images_C, hits_KC, taken_KC)
        found: list[float] = value_K.where(self._finite_K.cpu(), math.nan).tolist()
        return found


def accuracy(images_C: Tensor, hits_KC: Tensor, _taken_KC: Tensor) -> Tensor:
    """The share of images that were recognized, shape [K]."""
    return hits_KC.sum(1) / images_C.sum()


def balanced_accuracy(images_C: Tensor, hits_KC: Tensor, _taken_KC: Tensor) -> Tensor:
    """The mean over classes of the share of their images that were recognized, shape [K]."""
    present_C = images_C > 0
    return (hits_KC[:, present_C] / images_C[present_C]).mean(1)


def macro_f1(images_C: Tensor, hits_KC: Tensor, taken_KC: Tensor) -> Tensor:
    """The mean over classes of F1, 2 * hits / (images + taken for it), shape [K]."""
    present_C = images_C > 0
    return (2 * hits_KC[:, present_C] / (images_C[present_C] + taken_KC[:, present_C])).mean(1)


class Summed(Measure):
    """The mean over images of something that each image gives by itself."""

    def __init__(self, of_images: Callable[[Tensor, Tensor], Tensor]) -> None:
        self._of_images = of_images
        self._sum_K: Tensor | float = 0.0
        self._num_images = 0

    @override
    def add(self, logits_KBC: Tensor, y_B: Tensor) -> None:
        self._sum_K = self._sum_K + self._of_images(logits_KBC, y_B)
        self._num_images += len(y_B)

    @override
    def values(self) -> list[float]:
        assert isinstance(self._sum_K, Tensor)
        found: list[float] = (self._sum_K.cpu().double() / self._num_images).tolist()
        return found


def loss_sum(logits_KBC: Tensor, y_B: Tensor, loss: Loss = CROSS_ENTROPY) -> Tensor:
    """That of train.loss, cross-entropy in nats, the sum over the images, shape [K]."""
    return measured_loss(loss, logits_KBC, y_B) * len(y_B)


def top5_sum(logits_KBC: Tensor, y_B: Tensor) -> Tensor:
    """Images whose class is among the five likeliest; of equals the later class is, as in scikit-learn. Shape [K]."""
    own_KB1 = logits_KBC.gather(2, y_B.view(1, -1, 1).expand(len(logits_KBC), -1, 1))
    later_BC = torch.arange(logits_KBC.shape[-1], device=y_B.device) > y_B.unsqueeze(1)
    before_KB = ((logits_KBC > own_KB1) | ((logits_KBC == own_KB1) & later_BC)).sum(-1)
    sum_K = (before_KB < TOP).sum(-1).to(logits_KBC.dtype)
    return sum_K.where(logits_KBC.isfinite().all(-1).all(-1), math.nan)


class Scored(Measure):
    """Of all probabilities of some of the trials: those in `slots`."""

    def __init__(self, slots: Sequence[int] | None = None) -> None:
        self._slots = list(slots) if slots is not None else None
        self._parts: list[Tensor] = []
        self._labels: list[Tensor] = []

    @override
    def add(self, logits_KBC: Tensor, y_B: Tensor) -> None:
        picked = logits_KBC if self._slots is None else logits_KBC[self._slots]
        self._parts.append(picked.softmax(-1))
        self._labels.append(y_B)

    @override
    def values(self) -> list[float]:
        y_N = torch.cat(self._labels)
        scores_KNC = torch.cat(self._parts, dim=1)
        self._parts.clear()
        finite_K = scores_KNC.isfinite().all(-1).all(-1).tolist()
        found = self.of_scores(scores_KNC, y_N, finite_K)
        return [value if finite else math.nan for value, finite in zip(found, finite_K, strict=True)]

    @abstractmethod
    def of_scores(self, scores_KNC: Tensor, y_N: Tensor, finite_K: Sequence[bool]) -> list[float]:
        """One value per trial; that of a trial without finite scores does not count."""


class Auroc(Scored):
    """The mean over classes of the area under the ROC curve of each against the rest."""

    @override
    def of_scores(self, scores_KNC: Tensor, y_N: Tensor, finite_K: Sequence[bool]) -> list[float]:
        found: list[float] = auroc(scores_KNC, y_N).tolist()
        return found


def auroc(scores_KNC: Tensor, y_N: Tensor) -> Tensor:
    """Macro AUROC, one against the rest, shape [K]: how often an image of a class has a higher score than another one.

    Equal scores count half (Mann & Whitney 1947), which is what the trapezoids of the curve amount to.
    """
    areas = []
    for label in y_N.bincount().nonzero().flatten().tolist():
        own_N = y_N == label
        own_KP = scores_KNC[:, own_N, label].contiguous()
        other_KQ = scores_KNC[:, ~own_N, label].sort(dim=1).values
        if not other_KQ.shape[1]:
            break
        below_K = torch.searchsorted(other_KQ, own_KP).sum(1)
        not_above_K = torch.searchsorted(other_KQ, own_KP, right=True).sum(1)
        areas.append((below_K + not_above_K).cpu().double() / (2 * own_KP.shape[1] * other_KQ.shape[1]))
    if not areas:
        return torch.full((len(scores_KNC),), math.nan, dtype=torch.float64)
    return torch.stack(areas).mean(0)


class Called(Scored):
    """What a user's function returns for each trial."""

    def __init__(self, name: str, slots: Sequence[int] | None = None) -> None:
        super().__init__(slots)
        self._function = usercode.load(name)

    @override
    def of_scores(self, scores_KNC: Tensor, y_N: Tensor, finite_K: Sequence[bool]) -> list[float]:
        labels = y_N.cpu().numpy()
        found = []
        for scores_NC, finite in zip(scores_KNC.cpu().numpy(), finite_K, strict=True):
            found.append(call(self._function, scores_NC, labels) if finite else math.nan)
        return found


def call(function: Function, scores_NC: np.ndarray[Any, Any], labels_N: np.ndarray[Any, Any]) -> float:
    """What the user's function says of copies, which it may change; nan for what is not finite.

    Raises:
        TypeError: it returns no number.
        Exception: whatever it raises, as a net may.
    """
    value = function(scores_NC.copy(), labels_N.copy())
    array = isinstance(value, np.ndarray | Tensor) and math.prod(value.shape) == 1
    if not array and not isinstance(value, numbers.Real):
        raise TypeError(f"it returned {type(value).__name__}, which is no number; allowed: a float")
    found = float(value)
    return found if math.isfinite(found) else math.nan


KINDS: Mapping[str, Callable[[], Measure]] = {
    "accuracy": lambda: Counted(accuracy),
    "balanced_accuracy": lambda: Counted(balanced_accuracy),
    "macro_f1": lambda: Counted(macro_f1),
    "auroc": Auroc,
    "top5": lambda: Summed(top5_sum),
    "loss": lambda: Summed(loss_sum),
}


def make_measure(name: str, slots: Sequence[int] | None = None, loss: Loss = CROSS_ENTROPY) -> Measure:
    """That of train.metric = name.

    Args:
        name: of METRICS, or a user's function.
        slots: the trials whose probabilities are kept, for measures that need them; None: of all.
        loss: what `loss` is of; of probabilities, cross-entropy.
    """
    if name == "loss":
        return Summed(partial(loss_sum, loss=loss))
    if name == "auroc":
        return Auroc(slots)
    return KINDS[name]() if name in KINDS else Called(name, slots)


def passes(
    metric: Metric, slots: Sequence[int], num_slots: int, num_scores: int, device: str
) -> list[tuple[Sequence[int], Measure]]:
    """The measures that go through the images one after the other, each with the slots that it gives values of.

    None where an evaluation has the value anyway.

    Args:
        metric: what is to be measured.
        slots: of trials.
        num_slots: of the pack; counts are kept of all of them.
        num_scores: of one trial, images times classes.
        device: its type.
    """
    if metric.name in ("accuracy", "loss"):
        return []
    if metric.name in KINDS and metric.name != "auroc":
        return [(range(num_slots), make_measure(metric.name))]
    num = max(1, (CPU_SCORES if device == "cpu" else GPU_SCORES) // num_scores)
    parts = [slots[first : first + num] for first in range(0, len(slots), num)]
    return [(part, make_measure(metric.name, part)) for part in parts]


def all_measures(logits_NC: Tensor, y_N: Tensor, loss: Loss = CROSS_ENTROPY) -> dict[str, float]:
    """All measures of ours for one trained net; those that are not defined are left out."""
    found = {}
    for name in METRICS:
        if name == "top5" and logits_NC.shape[-1] <= TOP:
            continue
        measure = make_measure(name, loss=loss)
        measure.add(logits_NC.unsqueeze(0), y_N)
        [value] = measure.values()
        if math.isfinite(value):
            found[name] = value
    return found


def score_of(name: str, logits_NC: Tensor, y_N: Tensor, loss: Loss = CROSS_ENTROPY) -> float:
    """One measure of one trained net; may be nan."""
    measure = make_measure(name, loss=loss)
    measure.add(logits_NC.unsqueeze(0), y_N)
    return measure.values()[0]
