"""The next training after one: which values somebody would change who has seen its curves. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from hpsearch.analysis.diagnosis import FAR, HEALTHY_RATIO
from hpsearch.config import StudyConfig
from hpsearch.results import EpochResult

MUCH, SOME = 10.0, 3.0  # times that a value is changed: where it was far off, and where the steps say which way
FIRST_REG = 1e-3  # where there was none
LARGEST_DECAY = 1.0  # lr x train.reg above which the penalty alone makes the weights swing apart
LARGEST_LR = 1.0  # above, it is the rate that is wrong
PENALIZED = 2.0  # times the loss on images: a cost above is mostly regularization


def remedy(verdict: str, epochs: Sequence[EpochResult], config: StudyConfig) -> Mapping[str, Any]:
    """Keys of the study file with the values to try next; none where nothing is wrong.

    Args:
        verdict: on the curves.
        epochs: the curves; may be empty of a trial that exploded.
        config: of the trial.
    """
    train = config.train
    match verdict:
        case "exploded" | "dead" | "lr too high":
            if train.lr * train.reg > LARGEST_DECAY and train.lr <= LARGEST_LR:
                return {"train.reg": _short(LARGEST_DECAY / MUCH / train.lr)}
            return {"train.lr": _short(train.lr / MUCH)}
        case "lr too low":
            return {"train.lr": _short(train.lr * MUCH)}
        case "overfitting":
            return {"train.reg": _short(train.reg * MUCH) if train.reg else FIRST_REG}
        case "underfitting":
            return _underfitting(epochs, config)
    return {}


def _underfitting(epochs: Sequence[EpochResult], config: StudyConfig) -> Mapping[str, Any]:
    train, last = config.train, epochs[-1]
    penalties = {key: value for key in ("reg", "l1") if (value := getattr(train, key)) > 0}
    if penalties and last.cost > PENALIZED * last.train_loss:
        return {f"train.{key}": _short(value / MUCH) for key, value in penalties.items()}
    ratio = median([epoch.update_ratio for epoch in epochs if math.isfinite(epoch.update_ratio)] or [HEALTHY_RATIO])
    if ratio < HEALTHY_RATIO:
        return {"train.lr": _short(train.lr * SOME)}
    if ratio > FAR * HEALTHY_RATIO:
        return {"train.lr": _short(train.lr / SOME)}
    return {"train.epochs": 2 * train.epochs}


def _short(value: float) -> float:
    """Two digits say all that is meant."""
    return float(f"{value:.2g}")
