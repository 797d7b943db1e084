"""What guessing gives on the validation images of a study, and how far luck alone carries the best of many trials."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise

from hpsearch.config.losses import guessing_loss
from hpsearch.config.metric import Metric
from hpsearch.storage import TrialRow

TELLING = 0.05  # accuracy: a guess is told from better ones by images that leave it no larger an error


@dataclass(frozen=True)
class KeptImages:
    """What a study keeps of its images; None what is not known, as all of it is for studies of other programs."""

    num_classes: int | None = None
    num_val: int | None = None
    largest_share: float | None = None
    """Of the validation images, how many are of the most frequent class."""
    shape: tuple[int, int, int] | None = None
    """Channels, height, width."""
    fingerprint: str | None = None
    has_test: bool | None = None
    """Whether there is a test split beside them."""
    num_train: int | None = None

    @property
    def chance(self) -> float | None:
        """The accuracy of a net that always says the most frequent class."""
        if self.largest_share is not None:
            return self.largest_share
        return 1 / self.num_classes if self.num_classes else None

    @property
    def error(self) -> float | None:
        """The standard error of that accuracy, had the validation images been drawn anew."""
        return standard_error(self.chance, self.num_val) if self.chance is not None and self.num_val else None

    def luck(self, num_trials: int) -> float | None:
        """The accuracy that the best of so many trials which all guess reaches about: p + sqrt(2 ln N) errors."""
        if self.chance is None or self.error is None:
            return None
        return self.chance + math.sqrt(2 * math.log(max(num_trials, 1))) * self.error

    def is_luck(self, accuracy: float, num_trials: int) -> bool:
        """Whether guessing explains the best accuracy of so many trials; never where the images are too few to say."""
        luck, error = self.luck(num_trials), self.error
        return luck is not None and error is not None and error <= TELLING and accuracy <= luck


def guessing(metric: Metric, images: KeptImages) -> float | None:
    """What about a net that knows nothing gives; None where that is not known, as of a user's metric."""
    if metric.is_accuracy:
        return images.chance
    if not (num_classes := images.num_classes):
        return None
    known = {
        "balanced_accuracy": 1 / num_classes,
        "macro_f1": 1 / num_classes,
        "auroc": 0.5,
        "top5": min(1.0, 5 / num_classes),
        "loss": guessing_loss(metric.loss, num_classes),
    }
    return known.get(metric.name)


def standard_error(accuracy: float, num_images: int) -> float:
    """Of an accuracy measured on so many images, as if they were drawn anew: sqrt(p (1 - p) / n)."""
    return math.sqrt(accuracy * (1 - accuracy) / num_images)


def most_errors(num_images: int) -> float:
    """The share of errors that 95 in 100 draws of so many images would have shown, where none was seen: 3 / n."""
    return min(1.0, 3 / num_images)


def counted(images: KeptImages, trials: Iterable[TrialRow]) -> KeptImages:
    """With the number of validation images, which older studies do not keep: it shows in the trials."""
    if images.num_classes is None or images.num_val:
        return images
    return replace(images, num_val=num_images_of(v for trial in trials for v in trial.intermediate.values()))


def num_images_of(accuracies: Iterable[float]) -> int | None:
    """How many images these accuracies were measured on: they are whole numbers of images, one is their least step."""
    seen = sorted({value for value in accuracies if math.isfinite(value)})
    steps = [high - low for low, high in pairwise(seen) if high - low > 1e-6]
    return max(1, round(1 / min(steps))) if steps else None
