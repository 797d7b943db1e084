"""How the trials of a pack end: complete, stopped, exploded or without a value, and who has to know of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hpsearch.analysis.trial_records import TrialRecord
from hpsearch.config.metric import Metric
from hpsearch.results import Explosion, FoldedResult
from hpsearch.stages.proposals import Mirror
from hpsearch.storage import Outcome
from hpsearch.worker.held import HeldTrial
from hpsearch.worker.writer import Writer


@dataclass(frozen=True)
class Kept:
    """What was kept of a trial that completed."""

    path: Path
    """With its weights."""
    measures: Mapping[str, float]
    """Of its best epoch, by name."""


class PackEndings:
    """Ends trials, and tells the writer, and what sampler and pruner see; out of the pack they are taken elsewhere.

    Args:
        held: the trials in hand by number; those that are over are taken out.
        metric: what their values are.
        keep: called with trials that complete, while they are in the pack; gives what is kept with some.
        writer: of their outcomes.
        mirror: what sampler and pruner see; None if nothing is proposed.
        exploded_value: what a trial that explodes has instead of a value.
    """

    def __init__(
        self,
        held: dict[int, HeldTrial],
        metric: Metric,
        keep: Callable[[Mapping[int, HeldTrial]], Mapping[int, Kept]],
        writer: Writer,
        mirror: Mirror | None,
        exploded_value: float,
    ) -> None:
        self._held, self._metric, self._keep = held, metric, keep
        self._writer, self._mirror, self._exploded_value = writer, mirror, exploded_value

    def exploded(self, explosions: Sequence[Explosion]) -> None:
        """End those that are in hand."""
        outcomes = []
        for explosion in explosions:
            if (trial := self._held.get(explosion.number)) is None:
                continue
            attrs = TrialRecord.of_explosion(explosion).as_attributes()
            last = (explosion.epoch, self._exploded_value)
            outcomes.append(Outcome(trial.lease, "PRUNED", self._exploded_value, attrs, last))
            if self._mirror:
                self._mirror.report(explosion.number, *last)
                self._mirror.finish(explosion.number, None, exploded=True)
        self._end(outcomes)

    def stopped(self, numbers: Sequence[int], why: Mapping[int, str], best: float) -> None:
        """End trials before their time. One that is better than all that are COMPLETE ends COMPLETE itself.

        Optuna, and all that shows its studies, looks for the best trial among those alone; `best` is the goodness of
        theirs.
        """
        if not numbers:
            return
        goodness = self._metric.goodness
        first = max(numbers, key=lambda number: (goodness(self._held[number].value), -number))
        if goodness(self._held[first].value) > best:
            self.complete({first: self._held[first]}, why[first])
            numbers = [number for number in numbers if number != first]
        outcomes = []
        for number in numbers:
            trial = self._held[number]
            attrs = ending_of(trial, why[number]).as_attributes()
            outcomes.append(Outcome(trial.lease, "PRUNED", _number(trial.value), attrs))
            if self._mirror:
                self._mirror.finish(number, None)
        self._end(outcomes)

    def complete(self, trials: Mapping[int, HeldTrial], reason: str | None = None) -> None:
        """End trials with the value of their best epoch; `reason` is why they did not go through all of them.

        One for which the metric has never given a number has no value, so it fails.
        """
        valued = {number: trial for number, trial in trials.items() if _number(trial.value) is not None}
        kept, outcomes = self._keep(valued), []
        for number, trial in trials.items():
            ending = ending_of(trial, reason)
            if number not in valued:
                why = f"{trial.metric.name} gave no number in any epoch"
                said = replace(ending, reason=why, best_epoch=None, best_acc=None, folds=None)
                outcomes.append(Outcome(trial.lease, "FAIL", None, said.as_attributes()))
                if self._mirror:
                    self._mirror.fail(number)
                continue
            if (of_trial := kept.get(number)) is not None:
                ending = replace(ending, weights=of_trial.path, measures=of_trial.measures)
            outcomes.append(Outcome(trial.lease, "COMPLETE", trial.value, ending.as_attributes()))
            if self._mirror:
                self._mirror.finish(number, trial.value)
        self._end(outcomes)

    def _end(self, outcomes: Sequence[Outcome]) -> None:
        """They are out of this worker's hands."""
        self._writer.finish(outcomes)
        for outcome in outcomes:
            del self._held[outcome.lease.number]


def ending_of(trial: HeldTrial, reason: str | None) -> TrialRecord:
    """What a trial that has a value keeps; `reason` is why it has not gone through all epochs."""
    last = trial.results[-1]
    return TrialRecord(
        reason,
        epoch=last.epoch if reason is not None else None,
        best_epoch=trial.best.epoch,
        last_value=last.val_score,
        last_acc=None if trial.metric.is_accuracy else last.val_acc,
        best_acc=None if trial.metric.is_accuracy else trial.best.val_acc,
        plain_value=trial.best.plain_score,
        folds=tuple(trial.best.folds) if isinstance(trial.best, FoldedResult) else None,
    )


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
