"""What a running stage tells whoever watches: the terminal, a test, a notebook."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hpsearch.search.learning import Learning


@dataclass(frozen=True, slots=True)
class StageStarted:
    """A stage begins or goes on."""

    study: str
    num_trials: int
    num_finished: int
    num_pruned: int
    num_exploded: int
    num_epochs: int
    best_value: float | None
    engine: str
    width: int
    device: str
    learning: Learning | None = None
    """What an adaptive sampler knows when it proposes."""


@dataclass(frozen=True, slots=True)
class TrialFinished:
    """One trial ended, and how the stage stands now."""

    number: int
    state: str
    value: float | None
    params: Mapping[str, Any]
    reason: str | None
    epoch: int
    num_finished: int
    num_trials: int


class Listener:
    """Does nothing; subclasses draw bars, print lines, collect."""

    def stage_started(self, event: StageStarted) -> None:
        """Before the first pack."""

    def epoch_finished(self, num_trials: int) -> None:
        """A pack of `num_trials` live trials has ended an epoch."""

    def trial_finished(self, event: TrialFinished) -> None:
        """A trial has ended, and its end is in the database."""

    def note(self, text: str) -> None:
        """Something worth a line that is no trial: waiting for a lease, a fallback."""
