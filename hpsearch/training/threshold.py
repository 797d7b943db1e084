"""From which probability on an image counts as the second of two classes: found on validation images, used on others.

The likelier class, a threshold of 0.5, is the best choice where probabilities are right and all mistakes cost the same.
Where a measure weighs classes otherwise, or a net is too sure, another one may be better (Provost & Fawcett 2001).
Shapes: N = images, T = thresholds.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from hpsearch.errors import DataError
from hpsearch.training.metrics import accuracy, balanced_accuracy, macro_f1

HALF = 0.5
OF_COUNTS: Mapping[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "macro_f1": macro_f1,
}
"""Measures of what is taken for what. AUROC and loss look at probabilities alone; a user's function gets these and
decides by itself what it takes for what.
"""
KEY = "threshold"  # in the metadata of a file of weights
ROUNDING_OF_ODDS = 1e-4  # relative: how far another batch size or machine moves the odds of an image, and some more
ROUNDING_NEAR_ONE = 5e-7  # of a probability in float32

Floats = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
Labels = np.ndarray[tuple[int, ...], np.dtype[np.int64]]


@dataclass(frozen=True)
class Threshold:
    """An image counts as the second class if its probability of it is above `value`."""

    value: float
    metric: str
    """Which is the highest so, on validation images."""
    score: float
    """What it is there: somewhat too high, as it was looked for."""
    score_at_half: float
    """What it is there for the likelier class."""

    def metadata(self) -> dict[str, str]:
        """For a file of weights."""
        return {KEY: json.dumps(asdict(self))}

    @classmethod
    def read(cls, metadata: Mapping[str, str]) -> Self | None:
        """From what `metadata` gave; None where none is kept.

        Raises:
            DataError: it is not what that gives.
        """
        if KEY not in metadata:
            return None
        try:
            kept = json.loads(metadata[KEY])
            numbers = {name: float(kept[name]) for name in ("value", "score", "score_at_half")}
            return cls(metric=str(kept["metric"]), **numbers)
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"what is kept of the threshold cannot be read: {error!r}") from None


def find_threshold(metric: str, logits_NC: Tensor, y_N: Tensor) -> Threshold | None:
    """That of a trained net, from what it says of validation images; None where there is none to find.

    Args:
        metric: train.metric.
        logits_NC: of the net.
        y_N: true classes.
    """
    if metric not in OF_COUNTS or logits_NC.shape[-1] != 2:
        return None
    p_N, labels_N = second_class(logits_NC), y_N.cpu().numpy()
    value = best_threshold(p_N, labels_N, metric)
    if value is None:
        return None
    score, at_half = scores_at(p_N, labels_N, np.array([value, HALF]), metric).tolist()
    return Threshold(value, metric, score, at_half)


def second_class(logits_NC: Tensor) -> Floats:
    """Its probability, of each image."""
    found: Floats = logits_NC.detach().cpu().double().softmax(1)[:, 1].numpy()
    return found


def best_threshold(p_N: Floats, labels_N: Labels, metric: str) -> float | None:
    """The threshold in [0, 1] at which the metric is the highest; among equals the nearest to 0.5, then the lower one.

    Looked at are 0.5, 1, and the middle between each two consecutive ones of 0, the distinct probabilities, and 1: more
    thresholds classify no image otherwise. Probabilities that differ by rounding alone are not distinct: a threshold
    between them would call an image this in a batch and that by itself. One, but for 0.5, that puts all images in one
    class is none: where a class is rare it may score highest, and would never name it. None where a class is missing,
    of which nothing can be learnt then, or where a probability is no number.

    Args:
        p_N: of the second class.
        labels_N: 0 or 1.
        metric: of OF_COUNTS.
    """
    if len(np.unique(labels_N)) < 2 or not np.isfinite(p_N).all():
        return None
    t_T = candidates(p_N)
    above_T = len(p_N) - np.searchsorted(np.sort(p_N), t_T, side="right")
    t_T = t_T[((above_T > 0) & (above_T < len(p_N))) | (t_T == HALF)]
    score_T = scores_at(p_N, labels_N, t_T, metric)
    best_T = t_T[score_T >= score_T.max() - 1e-12]  # sums in another order round otherwise
    return float(min(best_T, key=lambda t: (abs(t - HALF), t)))


def candidates(p_N: Floats) -> Floats:
    """The thresholds that are looked at, ascending."""
    points = np.unique(np.concatenate([[0.0, 1.0], p_N]))
    low, high = points[:-1], points[1:]
    distinct = high - low > ROUNDING_OF_ODDS * low * (1 - low) + ROUNDING_NEAR_ONE * low
    low, high = low[distinct], high[distinct]
    middle = low + (high - low) / 2
    return np.unique(np.append(np.where(middle < high, middle, low), [HALF, 1.0]))


def scores_at(p_N: Floats, labels_N: Labels, t_T: Floats, metric: str) -> Floats:
    """The metric at each threshold."""
    below, own = (np.sort(p_N[labels_N == label]) for label in (0, 1))
    hits_0, missed_1 = (np.searchsorted(p, t_T, side="right") for p in (below, own))
    hits_1 = len(own) - missed_1
    taken_1 = hits_1 + len(below) - hits_0
    images_C = torch.tensor([len(below), len(own)], dtype=torch.float64)
    hits_TC, taken_TC = (
        torch.from_numpy(np.stack(pair, axis=1)).double() for pair in ((hits_0, hits_1), (len(p_N) - taken_1, taken_1))
    )
    found: Floats = OF_COUNTS[metric](images_C, hits_TC, taken_TC).numpy()
    return found


def score_at(threshold: float, metric: str, logits_NC: Tensor, y_N: Tensor) -> float:
    """The metric of other images at a threshold that was found before; may be nan."""
    p_N = second_class(logits_NC)
    if not np.isfinite(p_N).all():
        return math.nan
    return float(scores_at(p_N, y_N.cpu().numpy(), np.array([threshold]), metric)[0])
