"""What the test set said of a trial: numbers by seed, their means and intervals, as they are shown and kept."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hpsearch.analysis.origins import Origin
from hpsearch.analysis.uses_of_test_images import TestImageUses
from hpsearch.config.metric import ACCURACY, Metric

Z_95 = 1.959964  # standard normal quantile of a two-sided interval of 95%
MAX_CLASSES_STORED = 20  # a larger confusion matrix would be more than a few kB


@dataclass(frozen=True, eq=False)
class FinalTest:
    """What the test set said. `confusion` counts images, summed over seeds: rows true, columns predicted."""

    study: str
    number: int
    params: Mapping[str, Any]
    val_acc: float | None
    epochs: int
    """Those that each seed could have."""
    trained_epochs: tuple[int, ...]
    """By seed."""
    measured_epochs: tuple[int | None, ...]
    """By seed, the one whose weights were measured; None where the training exploded."""
    train_on_val: bool
    num_train: int
    num_test: int
    class_names: tuple[str, ...]
    seeds: tuple[int, ...]
    accuracies: tuple[float | None, ...]
    """By seed; None where the training exploded."""
    confusion: np.ndarray[Any, np.dtype[np.int64]]
    uses: TestImageUses
    """Of these test images, this one included."""
    test_images: str = ""
    """Fingerprint of the test images as they were loaded."""
    metric: Metric = ACCURACY
    """By which the trial was chosen."""
    value: float | None = None
    """Of the trial, by that metric."""
    scores: tuple[float | None, ...] = ()
    """By seed, of the test images by that metric."""
    measures: Mapping[str, float] = field(default_factory=dict)
    """All that we measure, mean over seeds."""
    thresholds: tuple[float | None, ...] = ()
    """By seed, of two classes: found on the validation images with the weights that were measured; see
    `training.threshold`. None without images to find it on; empty where there is none to find.
    """
    scores_at_threshold: tuple[float | None, ...] = ()
    """By seed, of the test images by the metric, with these thresholds."""
    origin: Origin | None = None
    """Where the trial began, if with another one's state. What is measured was trained from its first epoch."""
    views: str | None = None
    """Of each test image, over which probabilities were averaged for the numbers below; all others are without."""
    view_accuracies: tuple[float | None, ...] = ()
    """As `accuracies`, with views."""
    view_scores: tuple[float | None, ...] = ()
    """As `scores`, with views."""

    @property
    def view_mean(self) -> float | None:
        """Test accuracy with views, over seeds; None without."""
        measured = [accuracy for accuracy in self.view_accuracies if accuracy is not None]
        return float(np.mean(measured)) if measured else None

    @property
    def view_mean_score(self) -> float | None:
        """Of the metric with views, over seeds; None without, and where it gave no number."""
        measured = [score for score in self.view_scores if score is not None]
        return float(np.mean(measured)) if measured else None

    @property
    def measured(self) -> list[float]:
        """The accuracies that there are."""
        return [accuracy for accuracy in self.accuracies if accuracy is not None]

    @property
    def mean(self) -> float:
        """Test accuracy, over seeds."""
        return float(np.mean(self.measured))

    @property
    def std(self) -> float | None:
        """Of the accuracy over seeds (n - 1); None for one."""
        return float(np.std(self.measured, ddof=1)) if len(self.measured) > 1 else None

    @property
    def interval(self) -> tuple[float, float]:
        """95% for the mean accuracy, Wilson; see `wilson_interval`."""
        return wilson_interval(self.mean, self.num_test)

    @property
    def view_interval(self) -> tuple[float, float] | None:
        """The same of the mean accuracy over views; None without them."""
        return wilson_interval(self.view_mean, self.num_test) if self.view_mean is not None else None

    @property
    def mean_score(self) -> float | None:
        """Of the metric, over seeds; None where it gave no number."""
        scores = self.measured_scores
        return float(np.mean(scores)) if scores else None

    @property
    def std_score(self) -> float | None:
        """Of the metric, over seeds (n - 1); None below two."""
        scores = self.measured_scores
        return float(np.std(scores, ddof=1)) if len(scores) > 1 else None

    @property
    def measured_scores(self) -> list[float]:
        """The scores that there are."""
        return [score for score in self.scores if score is not None]

    @property
    def mean_at_threshold(self) -> float | None:
        """Of the metric with thresholds, over seeds; None without any."""
        scores = [score for score in self.scores_at_threshold if score is not None]
        return float(np.mean(scores)) if scores else None

    @property
    def per_class(self) -> list[float | None]:
        """Accuracy on the images of each class; None where the test split has none."""
        correct_C, total_C = self.confusion.diagonal(), self.confusion.sum(1)
        return [int(c) / int(n) if n else None for c, n in zip(correct_C, total_C, strict=True)]

    def as_dict(self) -> dict[str, Any]:
        """The test as JSON."""
        [(family, family_use)] = self.uses.by_family.items()
        of_views = {
            "views": self.views,
            "view_accuracies": list(self.view_accuracies),
            "view_mean": self.view_mean,
            "view_interval": list(self.view_interval) if self.view_interval is not None else None,
            "view_scores": list(self.view_scores),
            "view_score": self.view_mean_score,
        }
        return {
            **(of_views if self.views is not None else {}),
            "study": self.study,
            "trial": self.number,
            "params": {k: list(v) if isinstance(v, tuple) else v for k, v in self.params.items()},
            "metric": self.metric.name,
            "value": self.value,
            "scores": list(self.scores),
            "score": self.mean_score,
            "score_std": self.std_score,
            "measures": dict(self.measures),
            "origin": self.origin.as_dict() if self.origin is not None else None,
            **self._of_thresholds(),
            "val_acc": self.val_acc,
            "epochs": self.epochs,
            "trained_epochs": list(self.trained_epochs),
            "measured_epochs": list(self.measured_epochs),
            "train_on_val": self.train_on_val,
            "num_train": self.num_train,
            "num_test": self.num_test,
            "seeds": list(self.seeds),
            "accuracies": list(self.accuracies),
            "mean": self.mean,
            "std": self.std,
            "interval": list(self.interval),
            "interval_kind": "95%, Wilson, over test images",
            "classes": list(self.class_names),
            "per_class": self.per_class,
            "confusion": self.confusion.tolist(),
            "use": self.uses.by_stage[self.study],
            "family": family,
            "family_use": family_use,
            "images_use": self.uses.num,
        }

    def _of_thresholds(self) -> dict[str, Any]:
        if self.mean_at_threshold is None:
            return {}
        by_seed = {"thresholds": list(self.thresholds), "scores_at_threshold": list(self.scores_at_threshold)}
        return {**by_seed, "score_at_threshold": self.mean_at_threshold}


def wilson_interval(accuracy: float, num_images: int) -> tuple[float, float]:
    """95% interval of an accuracy on so many images (Wilson 1927).

    It covers the choice of the test images alone. More seeds are measured on the same images, so they do not narrow
    it; how much they differ is said beside it.
    """
    z2 = Z_95**2
    center = (accuracy + z2 / (2 * num_images)) / (1 + z2 / num_images)
    spread = accuracy * (1 - accuracy) / num_images + z2 / (4 * num_images**2)
    half = Z_95 / (1 + z2 / num_images) * math.sqrt(spread)
    # At 0 and 1 the formula's ends are these exactly, but for rounding.
    low = 0.0 if accuracy == 0 else center - half
    high = 1.0 if accuracy == 1 else center + half
    return low, high
