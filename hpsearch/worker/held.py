"""A trial in a worker's hands."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hpsearch.config.metric import ACCURACY, Metric
from hpsearch.results import EpochResult, best_epoch
from hpsearch.storage import Lease

if TYPE_CHECKING:
    from hpsearch.training.checkpoints import Checkpoint


@dataclass
class HeldTrial:
    """A trial in this worker's hands."""

    lease: Lease
    results: list[EpochResult] = field(default_factory=list)
    checkpoint: Checkpoint | None = None
    noted: dict[str, Any] = field(default_factory=dict)
    """What the user's code keeps with it."""
    metric: Metric = ACCURACY
    """What counts."""

    @property
    def best(self) -> EpochResult:
        """Its best epoch, the earliest among equals."""
        return best_epoch(self.results, self.metric.direction)

    @property
    def value(self) -> float:
        """That of its best epoch; nan where the metric has never given a number."""
        return self.best.val_score
