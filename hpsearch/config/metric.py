"""The measure that decides, `train.metric`: its direction, and the names it has in all that is shown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from hpsearch.config import usercode
from hpsearch.config.data_sources import is_user_code
from hpsearch.config.losses import CROSS_ENTROPY, Loss, known_loss
from hpsearch.results import Direction, goodness
from hpsearch.wording import value_text

LABELS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "auroc": "AUROC",
    "top5": "top-5 accuracy",
    "loss": "loss",
}
METRICS = tuple(LABELS)
FOREIGN = "value"  # what another program's study calls by no name that we know


@dataclass(frozen=True, slots=True)
class Metric:
    """What a trial's value is. Of a user's function, the direction is that which the function or the study says."""

    name: str = "accuracy"
    """As train.metric has it; `value` for studies of other programs."""
    direction: Direction = "maximize"
    is_own: bool = False
    """Whether it is what an objective of the user's gives: nothing is known of it but its name."""
    loss: Loss = CROSS_ENTROPY
    """What trials make small, `train.loss`, which the curves of losses are of, and the metric of that name."""

    @property
    def short(self) -> str:
        """`acc`, `loss`, `macro_f1`; of `mymeasures:kappa`, `kappa`."""
        return "acc" if self.name == "accuracy" else self.name.partition(":")[2] or self.name

    @property
    def column(self) -> str:
        """Of validation images, as columns and axes have it: `val_acc`."""
        return self.name if self._is_bare else f"val_{self.short}"

    @property
    def test_column(self) -> str:
        """Of test images."""
        return f"test_{self.short}"

    @property
    def label(self) -> str:
        """In words: `validation macro F1`."""
        return self.name if self._is_bare else f"validation {LABELS.get(self.name, self.short)}"

    @property
    def is_accuracy(self) -> bool:
        """Whether values are shares of images, of which a standard error and the luck of guessing are known."""
        return self.name == "accuracy" and not self.is_own

    @property
    def is_apart(self) -> bool:
        """Whether it is drawn beside accuracy and loss, which always are."""
        return self.name not in ("accuracy", "loss") and not self._is_bare

    @property
    def is_share(self) -> bool:
        """Whether values lie between 0 and 1, the best one."""
        return self.name in METRICS and self.name != "loss" and not self.is_own

    @property
    def _is_bare(self) -> bool:
        """Whether it has its name alone: nobody knows of which images it is, or whether of any."""
        return self.is_own or self.name == FOREIGN

    def text(self, number: float) -> str:
        """A value, or a difference of values, with the digits that matter."""
        return f"{number:.4f}" if self.is_share else value_text(number)

    def goodness(self, value: float | None) -> float:
        """More is better; -inf for none and for nan."""
        return goodness(value, self.direction)

    def better(self, one: float | None, other: float | None) -> float | None:
        """The better of two values; None where neither is a number."""
        best = max((one, other), key=self.goodness)
        return None if best is None or math.isnan(best) else best

    def best(self, values: Iterable[float], default: float | None = None) -> float | None:
        """The best of some values."""
        return max(values, key=self.goodness, default=default)


ACCURACY = Metric()


def measures_text(measures: Mapping[str, float]) -> str:
    """`accuracy 0.9701 · macro F1 0.5120`."""
    return " · ".join(f"{LABELS.get(name, name)} {value:.4f}" for name, value in measures.items())


def known_metric(name: Any, direction: Direction, loss: Any = None) -> Metric:
    """The metric of a study in the storage, by the names in its config, None or nothing sensible: the default."""
    name = name if isinstance(name, str) and name else ACCURACY.name
    return Metric(name, direction, loss=known_loss(loss))


def metric_of(name: str) -> Metric:
    """The metric that a study file names. A user's function is imported, as it says whether less is better.

    Raises:
        RefusedError: the function is not trusted; nothing has been imported.
        UserCodeError: it cannot be imported.
    """
    if not is_user_code(name):
        return Metric(name, "minimize" if name == "loss" else "maximize")
    return Metric(name, "minimize" if getattr(usercode.load(name), "minimize", False) is True else "maximize")
