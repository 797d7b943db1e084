"""What hpsearch keeps with a trial, as typed values: how it ended.

Any program may have made it: what is missing, or of another type than ours, counts as not kept.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from hpsearch.analysis import attributes
from hpsearch.analysis.stored_values import measures_in, number_in, numbers_in, of_type
from hpsearch.results import Explosion, plain
from hpsearch.storage import Outcome, TrialRow


@dataclass(frozen=True)
class TrialRecord:
    """What hpsearch keeps with a trial, beside its values: how it ended."""

    reason: str | None = None
    """Why it ended before its time: exploded, stopped early, the pruner's name, or the error."""
    epoch: int | None = None
    """Where it stopped, if it did not go through all."""
    step: int | None = None
    cost: float | None = None
    """That stopped it; may be inf or nan."""
    first_cost: float | None = None
    best_epoch: int | None = None
    last_value: float | None = None
    """That of train.metric after the last epoch."""
    last_acc: float | None = None
    """The accuracy then, where that is another one; nan where there is none."""
    best_acc: float | None = None
    """The accuracy in the best epoch, where the metric is another one."""
    plain_value: float | None = None
    """That of train.metric in the best epoch of the weights themselves, where train.ema averages those that count."""
    measures: Mapping[str, float] | None = None
    """All that we measure, of its best epoch, by name, where all weights are kept."""
    weights: Path | None = None
    """Those of its best epoch, where all are kept."""
    traceback: str | None = None
    folds: tuple[float, ...] | None = None
    """The value in its best epoch on each fold of cross-validation, of which its value is the mean."""

    @classmethod
    def of_explosion(cls, explosion: Explosion) -> Self:
        """Of a trial that exploded."""
        return cls(attributes.EXPLODED, explosion.epoch, explosion.step, explosion.cost, explosion.first_cost)

    @property
    def exploded(self) -> bool:
        """Whether its cost ran away."""
        return self.reason == attributes.EXPLODED

    @property
    def returned(self) -> float | None:
        """nan or inf, which code of the user's returned that had reported nothing; None of all other trials."""
        return self.cost if self.exploded and self.epoch is None else None

    @property
    def explosion(self) -> tuple[int, int] | None:
        """Epoch and step of that."""
        return (self.epoch, self.step) if self.exploded and self.epoch is not None and self.step is not None else None

    @property
    def stopped_early(self) -> bool:
        """Whether train.patience ended it."""
        return self.reason == attributes.STOPPED_EARLY

    @property
    def halved(self) -> bool:
        """Whether it ended at a rung of successive halving, or as the epochs of its stage were spent."""
        return self.reason in (attributes.HALVED, attributes.SPENT)

    def as_attributes(self) -> dict[str, Any]:
        """As kept with the trial: what there is."""
        kept = {
            attributes.REASON: self.reason,
            attributes.EPOCH: self.epoch,
            attributes.STEP: self.step,
            attributes.COST: plain(self.cost),
            attributes.FIRST_COST: plain(self.first_cost),
            attributes.BEST_EPOCH: self.best_epoch,
            attributes.LAST_VALUE: self.last_value if self.last_acc is None else _known(self.last_acc),
            attributes.LAST_SCORE: plain(self.last_value) if self.last_acc is not None else None,
            attributes.BEST_ACC: self.best_acc,
            attributes.PLAIN_VALUE: plain(self.plain_value),
            attributes.MEASURES: dict(self.measures) if self.measures is not None else None,
            attributes.WEIGHTS: str(self.weights) if self.weights is not None else None,
            attributes.TRACEBACK: self.traceback,
            attributes.FOLDS: plain(list(self.folds)) if self.folds is not None else None,
        }
        return {name: value for name, value in kept.items() if value is not None}


def trial_record(trial: TrialRow | Outcome) -> TrialRecord:
    """What is kept with a trial, or will be."""
    kept = trial.attrs
    weights, last = of_type(str, kept.get(attributes.WEIGHTS)), kept.get(attributes.LAST_VALUE)
    return TrialRecord(
        reason=of_type(str, kept.get(attributes.REASON)),
        epoch=of_type(int, kept.get(attributes.EPOCH)),
        step=of_type(int, kept.get(attributes.STEP)),
        cost=number_in(kept.get(attributes.COST)),
        first_cost=number_in(kept.get(attributes.FIRST_COST)),
        best_epoch=of_type(int, kept.get(attributes.BEST_EPOCH)),
        last_value=number_in(kept.get(attributes.LAST_SCORE, last)),
        last_acc=number_in(last) if attributes.LAST_SCORE in kept else None,
        best_acc=number_in(kept.get(attributes.BEST_ACC)),
        plain_value=number_in(kept.get(attributes.PLAIN_VALUE)),
        measures=measures_in(kept.get(attributes.MEASURES)),
        weights=Path(weights) if weights is not None else None,
        traceback=of_type(str, kept.get(attributes.TRACEBACK)),
        folds=numbers_in(kept.get(attributes.FOLDS)),
    )


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
