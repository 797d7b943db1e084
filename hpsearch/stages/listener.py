"""What a running stage tells whoever watches: the terminal, a test, a notebook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from hpsearch.analysis import attributes
from hpsearch.analysis.called_again import Called, best_value_of, calls_of
from hpsearch.analysis.study_trials import num_pruned, observe
from hpsearch.analysis.trial_records import trial_record
from hpsearch.config.metric import ACCURACY, Metric
from hpsearch.results import EpochResult
from hpsearch.stages.halving import Halving
from hpsearch.stages.sampler_knowledge import SamplerKnowledge
from hpsearch.storage import Outcome, TrialRow


@dataclass(frozen=True, slots=True)
class StageStarted:
    """A stage begins or goes on."""

    study: str
    num_trials: int | None
    """None where a budget in epochs has as many as fit."""
    num_finished: int
    num_pruned: int
    num_exploded: int
    num_epochs: int | None
    """Of each trial; None where it has none."""
    best_value: float | None
    engine: str
    width: int
    device: str
    learning: SamplerKnowledge | None = None
    """What an adaptive sampler knows when it proposes."""
    metric: Metric = ACCURACY
    """What the values of its trials are."""
    work: tuple[int, int] | None = None
    """Epochs that are done, and all of them, where they are not those of the trials times their number."""
    calls: tuple[Called, ...] = ()
    """The trials that have a value, with the calls that repeat them."""


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
    num_trials: int | None
    """None where a budget in epochs has as many as fit."""
    metric: Metric = ACCURACY
    """What the value is."""
    step_name: str = "epoch"
    """Of what the trial ended in: `epoch`, or `step` where it has no epochs."""
    again: int | None = None
    """The trial that it called again: its value is evidence about that one, and no best of its own."""
    returned: float | None = None
    """nan or inf, of a trial that exploded and had reported nothing."""


class Listener:
    """Does nothing; subclasses draw bars, print lines, collect."""

    follows_epochs: ClassVar[bool] = False
    """Whether `measured` is of use; where others train, epochs are read from the database for it."""

    def stage_started(self, event: StageStarted) -> None:
        """Before the first pack."""

    def epoch_finished(self, num_trials: int) -> None:
        """A pack of `num_trials` live trials has ended an epoch."""

    def measured(self, results: Sequence[EpochResult], *, earlier: bool = False) -> None:
        """What trials looked like after an epoch; `earlier`: in an attempt that they go on from now."""

    def trial_finished(self, event: TrialFinished) -> None:
        """A trial has ended, and its end is in the database."""

    def note(self, text: str) -> None:
        """Something worth a line that is no trial: waiting for a lease, a fallback."""


def standing(
    study: str,
    rows: Sequence[TrialRow],
    num_epochs: int | None,
    *,
    engine: str = "",
    width: int = 0,
    device: str = "",
    learning: SamplerKnowledge | None = None,
    metric: Metric = ACCURACY,
    halving: Halving | None = None,
) -> StageStarted:
    """How a stage of ours stands when work on it begins or goes on."""
    direction = metric.direction
    calls = calls_of(rows)
    done = sum(len(row.intermediate) for row in rows)
    return StageStarted(
        study=study,
        num_trials=shown_trials(len(rows), halving),
        num_finished=sum(row.state not in ("WAITING", "RUNNING") for row in rows),
        num_pruned=num_pruned(rows, direction),
        num_exploded=sum(observe(row, direction).outcome == "exploded" for row in rows),
        num_epochs=num_epochs,
        best_value=best_value_of(calls, direction),
        engine=engine,
        width=width,
        device=device,
        learning=learning,
        metric=metric,
        work=(done, halving.expected_epochs(len(rows))) if halving is not None else None,
        calls=tuple(calls),
    )


def shown_trials(num_trials: int, halving: Halving | None) -> int | None:
    """How many a stage has; None where nobody knows, as it has as many as fit into its epochs."""
    return None if halving is not None and halving.budget is not None else num_trials


def as_finished(
    outcome: Outcome,
    num_finished: int,
    num_trials: int | None,
    num_epochs: int,
    metric: Metric = ACCURACY,
    step_name: str = "epoch",
) -> TrialFinished:
    """The end of a trial of ours, as listeners hear of it; of so many epochs where it does not say where it ended."""
    record = trial_record(outcome)
    return TrialFinished(
        number=outcome.lease.number,
        state=outcome.state,
        value=outcome.value,
        params=outcome.lease.params,
        reason=record.reason,
        epoch=record.epoch or num_epochs,
        num_finished=num_finished,
        num_trials=num_trials,
        metric=metric,
        step_name=step_name,
        again=outcome.lease.attrs.get(attributes.AGAIN),
        returned=record.returned,
    )
