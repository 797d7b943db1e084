"""What a sampler that learns from finished trials knows when it proposes one, and what not yet: to be told beforehand.

Trials train in packs and workers do not wait for each other, so a proposal is made while others are still running: the
sampler knows of them, but not how they will end. The more there are, the closer it comes to random search.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from hpsearch.config.schema import LEARNING_SAMPLERS

if TYPE_CHECKING:
    from hpsearch.config import StageConfig

NUM_BEST = 25  # trials of which TPE makes its picture of the best, at most
NUM_UNTOLD = 20  # trials that failed of which a Gaussian process knows, the newest
NUM_NEWEST = 500  # of those that it learns from beside them, see `windowed_storage`


@dataclass(frozen=True, slots=True)
class SamplerKnowledge:
    """What a stage with an adaptive sampler learns from.

    Attributes:
        sampler: its name.
        batch: proposals made one after the other, with no trial ended in between: the width of a pack.
        lag: trials that may be running when a proposal is made, at most; None where other workers are not known of.
        best: trials that it learns from however old they are; None: from all.
        newest: trials that it learns from beside those; None: from all.
        earlier: trials of stages before that it learns from as well, by study.
    """

    sampler: str
    batch: int
    lag: int | None
    best: int | None = None
    newest: int | None = None
    earlier: Mapping[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        """As in `tpe proposes 17 at a time, up to 33 not yet finished; it learns from all that are`."""
        lag = {None: ", more in other workers", 0: ""}.get(self.lag, f", up to {self.lag} not yet finished")
        source = "all that are" if self.lag else "all that have ended"
        if self.newest is not None:
            source = f"the best {self.best} and the newest {self.newest:,}"
        if self.sampler == "cmaes":
            source = "its last generation"
        before = "".join(f", and from {count:,} of {study}" for study, count in self.earlier.items())
        return f"{self.sampler} proposes {self.batch} at a time{lag}; it learns from {source}{before}"

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON."""
        return {**asdict(self), "earlier": dict(self.earlier)}


def knowledge_of(
    settings: StageConfig, width: int, workers: int | None, earlier: Mapping[str, int] | None = None
) -> SamplerKnowledge | None:
    """What the sampler of a stage learns from; None if it learns from nothing.

    Args:
        settings: of the stage.
        width: of its packs.
        workers: that propose; None if only this one is known of.
        earlier: trials of stages before that it learns from, by study.
    """
    if settings.sampler not in LEARNING_SAMPLERS:
        return None
    lag = None if workers is None else max(0, min(width * workers, settings.trials) - 1)
    if settings.trials <= NUM_NEWEST:
        return SamplerKnowledge(settings.sampler, width, lag, earlier=earlier or {})
    return SamplerKnowledge(settings.sampler, width, lag, NUM_BEST, NUM_NEWEST, earlier or {})


def stored_knowledge(attr: Mapping[str, Any] | None) -> SamplerKnowledge | None:
    """What `as_dict` was written to the study."""
    return SamplerKnowledge(**attr) if attr is not None else None
