"""A trial in a worker's hands."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hpsearch.config.metric import ACCURACY, Metric
from hpsearch.results import EpochResult, best_epoch
from hpsearch.storage import Lease, earlier_attempts

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
    until: int | None = None
    """The epoch after which it asks whether it may go on; None where it trains to its end."""
    ends_here: bool = False
    """Whether it ends where it stands, with its value."""
    metric: Metric = ACCURACY
    """What counts."""

    @property
    def attempts(self) -> int:
        """Since it began, or was promoted, this one included."""
        return self.lease.attempt - earlier_attempts(self.lease.attrs)

    @property
    def is_promoted(self) -> bool:
        """Whether it goes on from the rung at which it waited, and nobody has begun with that before."""
        return earlier_attempts(self.lease.attrs) > 0 and self.attempts == 1

    @property
    def best(self) -> EpochResult:
        """Its best epoch, the earliest among equals."""
        return best_epoch(self.results, self.metric.direction)

    @property
    def value(self) -> float:
        """That of its best epoch; nan where the metric has never given a number."""
        return self.best.val_score
