"""By how much one classifier is better than another on the same images, and how far chance in their choice moves that.

The interval is that of the paired bootstrap (Efron & Tibshirani 1993, ch. 13; Koehn 2004 for measures that are no means
over examples): images are drawn again with replacement, the same ones for both. It holds for any measure, where
McNemar's test is one of accuracy alone.

Shapes: K = 2 classifiers, N = images, C = classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hpsearch.config.metric import Metric
from hpsearch.search.ensemble_selection import Array
from hpsearch.training.metrics import balanced_accuracy, macro_f1, make_measure

NUM_DRAWS = 1000  # by them the ends of the interval are known to about 0.1 of its half width
FEWEST_DRAWS = 200
MOST_NUMBERS = 2e9  # probabilities copied in all, where a measure needs them: some seconds
SEED = 0  # of the draws, so that the same command says the same
SMALLEST = float(np.finfo(np.float64).tiny)

COUNTED = {"balanced_accuracy": balanced_accuracy, "macro_f1": macro_f1}
Values = Callable[[Tensor], list[float]]
"""Of rows of images, the measure of each classifier."""


@dataclass(frozen=True)
class Difference:
    """Of a measure, in its direction: positive where the first one is better. The interval is one of 95%."""

    gain: float
    low: float | None
    """None where the measure is no number on any draw."""
    high: float | None
    num_images: int

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {**asdict(self), "interval_kind": "95%, paired bootstrap over images"}


def log_probabilities(p: Array) -> Tensor:
    """What measures take for logits; a probability of 0 is the smallest number there is."""
    return torch.from_numpy(np.ascontiguousarray(p, np.float64)).clamp_min(SMALLEST).log()


def measured(metric: Metric, p_NC: Array, y_N: Array) -> float:
    """The measure of one classifier's probabilities; may be nan."""
    measure = make_measure(metric.name)
    measure.add(log_probabilities(p_NC).unsqueeze(0), torch.from_numpy(y_N))
    return measure.values()[0]


def paired_difference(metric: Metric, one_NC: Array, other_NC: Array, y_N: Array) -> Difference:
    """How much better the first one's probabilities are.

    Draws on which the measure is no number, as where all images are of one class, do not count.
    """
    gain = metric.goodness(measured(metric, one_NC, y_N)) - metric.goodness(measured(metric, other_NC, y_N))
    log_KNC, labels_N = log_probabilities(np.stack([one_NC, other_NC])), torch.from_numpy(y_N)
    values, num_draws = _values(metric, log_KNC, labels_N)
    generator, gains = np.random.default_rng(SEED), []
    for _ in range(num_draws):
        one, other = values(torch.from_numpy(generator.integers(0, len(y_N), len(y_N))))
        if math.isfinite(one) and math.isfinite(other):
            gains.append(metric.goodness(one) - metric.goodness(other))
    low, high = np.quantile(gains, [0.025, 0.975]).tolist() if gains else (None, None)
    return Difference(gain, low, high, len(y_N))


def _values(metric: Metric, log_KNC: Tensor, y_N: Tensor) -> tuple[Values, int]:
    """The measure on some of the images, by what the nets said of each of them once, and how many draws that allows."""
    predicted_KN = log_KNC.argmax(-1)
    if metric.name in ("accuracy", "loss"):
        each_KN = (predicted_KN == y_N).double() if metric.is_accuracy else _loss(log_KNC, y_N)
        return lambda rows_N: each_KN[:, rows_N].mean(1).tolist(), NUM_DRAWS
    if metric.name in COUNTED:
        of_counts, num_classes = COUNTED[metric.name], log_KNC.shape[-1]

        def counted(rows_N: Tensor) -> list[float]:
            y, predicted_K = y_N[rows_N], predicted_KN[:, rows_N]
            images_C = y.bincount(minlength=num_classes).double()
            hits_KC = torch.stack([y[own == y].bincount(minlength=num_classes) for own in predicted_K]).double()
            taken_KC = torch.stack([own.bincount(minlength=num_classes) for own in predicted_K]).double()
            found: list[float] = of_counts(images_C, hits_KC, taken_KC).tolist()
            return found

        return counted, NUM_DRAWS

    def of_all(rows_N: Tensor) -> list[float]:
        measure = make_measure(metric.name)
        try:
            measure.add(log_KNC[:, rows_N], y_N[rows_N])
            return measure.values()
        except Exception:  # a function of the user's, on images without one of its classes
            return [math.nan, math.nan]

    return of_all, int(max(FEWEST_DRAWS, min(NUM_DRAWS, MOST_NUMBERS / log_KNC.numel())))


def _loss(log_KNC: Tensor, y_N: Tensor) -> Tensor:
    """Of each image: its class's share of all probabilities, which may have been rounded to a sum beside 1."""
    own_KN = log_KNC.gather(2, y_N.expand(len(log_KNC), -1).unsqueeze(2)).squeeze(2)
    return log_KNC.logsumexp(2) - own_KN
