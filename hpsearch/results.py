"""What searching and training say to each other: plain values, no Optuna and no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Direction = Literal["maximize", "minimize"]
EXPLODED_VALUE = 0.0  # of a trial that exploded, where accuracy counts; of others, see `training.metric_limits`


@dataclass(frozen=True, slots=True)
class TrialSpec:
    """One trial to train: its number in the study and its hyperparameters by canonical name (`lr`, `model.hidden`)."""

    number: int
    params: Mapping[str, Any] = field(default_factory=dict)


OPTIONAL = ("score", "plain_score")  # of an epoch's result: left out where they are None


@dataclass(frozen=True, slots=True)
class EpochResult:
    """What one trial looked like at the end of one epoch.

    `cost` is the mean over the epoch's minibatches of data loss + reg/2 * sum W^2 + l1 * sum |W|, before each
    update. The losses (nats, or those of another train.loss) and accuracies (shares) are measured in evaluation mode
    after the epoch: on the validation images, and on a fixed sample of the training images. `update_ratio` is
    |update| / |weights| of the epoch's last step; about 1e-3 is healthy (CS231n). `lr` is the rate used in this epoch.
    """

    number: int
    epoch: int  # the first one is 1
    cost: float
    train_loss: float
    train_acc: float
    val_loss: float
    val_acc: float
    update_ratio: float
    lr: float
    score: float | None = None
    """Of the validation images, by train.metric; nan where that gave no number, None where it is the accuracy."""
    plain_score: float | None = None
    """The same of the weights themselves, where train.ema averages those that are measured; else None."""

    @property
    def val_score(self) -> float:
        """What counts: the value of train.metric."""
        return self.val_acc if self.score is None else self.score

    @property
    def is_bare(self) -> bool:
        """Whether nothing is known but what counts."""
        return math.isnan(self.lr)

    @classmethod
    def of_value(cls, number: int, epoch: int, value: float) -> EpochResult:
        """Of a trial of which nothing is known but what counts."""
        none = math.nan
        return cls(number, epoch, none, none, none, none, none, none, none, value)

    def as_plain(self) -> dict[str, Any]:
        """As JSON, see `plain`."""
        return {name: value for name, value in plain(asdict(self)).items() if name not in OPTIONAL or value is not None}

    def as_point(self) -> dict[str, Any]:
        """As a point of its trial's curves, for people and programs that look at them; may hold nan and inf."""
        point = asdict(self)
        del point["number"], point["score"], point["plain_score"]
        point.pop("folds", None)
        return {**point, "val_score": self.val_score}

    @classmethod
    def of_plain(cls, values: Mapping[str, Any]) -> EpochResult:
        """From what `as_plain` gave."""
        read: dict[str, Any] = {n: float(value) if isinstance(value, str) else value for n, value in values.items()}
        if "folds" in read:
            return FoldedResult(**{**read, "folds": list(map(float, read["folds"]))})
        return cls(**read)


@dataclass(frozen=True, slots=True)
class FoldedResult(EpochResult):
    """The same of a trial that trains on each fold of cross-validation: all is the mean over them, but for `folds`."""

    folds: Sequence[float] = ()
    """What counts, on each."""


def plain(value: Any) -> Any:
    """JSON has no nan and inf: they become text, wherever they are in lists and dicts."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def goodness(value: float | None, direction: Direction) -> float:
    """A value of a measure such that more is better: as it is, or its negative; -inf for none and for nan."""
    if value is None or math.isnan(value):
        return -math.inf
    return value if direction == "maximize" else -value


def best_epoch(results: Sequence[EpochResult], direction: Direction = "maximize") -> EpochResult:
    """Of one trial's results, at least one: that with the best val_score, the earliest among equals.

    Its val_score is the trial's value, and its weights are those that are kept.
    """
    return max(results, key=lambda result: (goodness(result.val_score, direction), -result.epoch))


@dataclass(frozen=True, slots=True)
class Explosion:
    """A trial was stopped: its cost was not finite, or more than 3 times its first cost (at least ln C).

    The weights are those before the update of `step`: the update that would have followed was not made.
    """

    number: int
    epoch: int  # the epoch in which it happened; the first one is 1
    step: int  # steps since the start of the trial; the first one is 0
    cost: float  # may be inf or nan
    first_cost: float
