"""Asynchronous successive halving (ASHA, Li et al. 2020), and budgets in epochs: who trains next, and until when.

Pure functions of how the trials stand. Rungs are epochs: `min_epochs`, then `reduction` times as many each, below the
`epochs` of a whole trial. Of the trials that have come to a rung so far, the best 1/reduction go on:

    stop      at the rung itself: the trial goes on at once, or ends. The first ones have few to be compared with, so
              of one to `reduction` trials the best goes on.
    promote   a trial waits at the rung until it is among the best 1/reduction, and goes on from its checkpoint. Who
              asks for work gets trials to promote, from the highest rung that has some, before new ones.

What counts at a rung is the value that a trial would have if it ended there: that of its best epoch. Two trials of one
value are ordered by their numbers, so that all workers order them alike.

A trial reserves its epochs up to where it is asked next. A budget is spent by what is recorded and by what is reserved,
so the sum is never above it, whichever worker dies: whoever takes a trial over has the reservation of the one before.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, Self

from hpsearch.analysis import attributes
from hpsearch.analysis.records import StageRecord
from hpsearch.config import StageConfig
from hpsearch.results import Direction, goodness
from hpsearch.storage import QueuedTrial


@dataclass(frozen=True)
class Halving:
    """The rules of one stage.

    Args:
        form: none, stop or promote.
        epochs: of a trial that goes through all of them.
        min_epochs: until the first rung.
        reduction: one in so many goes on.
        budget: epochs of all trials; None without one.
        direction: of what counts.
    """

    form: Literal["none", "stop", "promote"]
    epochs: int
    min_epochs: int = 1
    reduction: int = 3
    budget: int | None = None
    direction: Direction = "maximize"

    @classmethod
    def of(cls, settings: StageConfig, direction: Direction = "maximize") -> Self:
        """That of a stage."""
        return cls(
            settings.halving,
            settings.epochs,
            settings.min_epochs,
            settings.reduction,
            settings.epochs_budget,
            direction,
        )

    @classmethod
    def kept(cls, record: StageRecord, direction: Direction) -> Self | None:
        """That of a stage in the storage; None where it has neither rungs nor a budget in epochs."""
        kept = record.config_value(record.kind or "")
        if record.kind not in ("coarse", "fine") or not isinstance(kept, Mapping):
            return None
        form, budget, epochs = kept.get("halving", "none"), kept.get("epochs_budget"), kept.get("epochs")
        if (form == "none" and budget is None) or epochs is None:
            return None
        return cls(form, epochs, kept.get("min_epochs", 1), kept.get("reduction", 3), budget, direction)

    @property
    def rungs(self) -> tuple[int, ...]:
        """Epochs after which trials are compared, all below `epochs`."""
        found: list[int] = []
        epoch = self.min_epochs
        while self.form != "none" and epoch < self.epochs:
            found.append(epoch)
            epoch *= self.reduction
        return tuple(found)

    def next_stop(self, epoch: int) -> int:
        """Where a trial that has done so many epochs is asked next: the next rung, or its end."""
        return next((rung for rung in self.rungs if rung > epoch), self.epochs)

    def expected_epochs(self, num_trials: int) -> int:
        """Epochs of so many trials, where one in `reduction` goes on at each rung; or the budget.

        Where trials end at the rung, the first one there goes on; where they wait, of too few none is promoted.
        """
        if self.budget is not None:
            return self.budget
        total, done, left = 0, 0, num_trials
        for stop in (*self.rungs, self.epochs):
            total += left * (stop - done)
            done, left = stop, max(left // self.reduction, 0 if self.form == "promote" else 1)
        return total

    def expected_trials(self, num_trials: int) -> int:
        """Of so many, those for which the budget suffices, where one in `reduction` goes on at each rung."""
        if self.budget is None:
            return num_trials
        stops = (0, *self.rungs, self.epochs)
        epochs_each = sum((b - a) / float(self.reduction) ** rung for rung, (a, b) in enumerate(pairwise(stops)))
        return max(1, min(num_trials, math.ceil(self.budget / epochs_each)))

    def left(self, trials: Iterable[QueuedTrial]) -> float:
        """Epochs of the budget that nobody has trained or reserved; inf without a budget."""
        if self.budget is None:
            return math.inf
        return self.budget - sum(trial.reserved for trial in trials)

    def best_at(self, rung: int, trials: Iterable[QueuedTrial]) -> list[int]:
        """Numbers of the trials that go on from a rung, the best first, of those that have come to it so far."""
        come = {trial.number: self._value_at(rung, trial) for trial in trials if trial.done >= rung}
        num = len(come) // self.reduction
        if self.form == "stop":
            num = max(1, num)
        return sorted(come, key=lambda number: (-come[number], number))[:num]

    def choose(self, trials: Sequence[QueuedTrial], limit: int) -> dict[int, int]:
        """Who trains next, at most `limit` of one structure, by number: each with the epoch until which it may.

        First what others left behind, with their reservations; then who is promoted; then new trials.
        """
        left = self.left(trials)
        chosen: dict[int, int] = {}
        structure: str | None = None
        first = next((trial for trial in trials if trial.state == "new"), None)
        for trial in self._in_order(trials):
            if len(chosen) >= limit or (chosen and trial.structure != structure):
                continue
            if self.budget is not None and trial.state == "new" and first and trial.structure != first.structure:
                continue  # or a budget could be spent by the structure of those that are promoted alone
            if trial.state == "free" and trial.until is not None:
                until, cost = trial.until, 0
            else:
                cost = int(min(self.next_stop(trial.done) - trial.done, left))
                until = trial.done + cost
                if cost < 1:
                    continue
            chosen[trial.number], structure = until, trial.structure
            left -= cost
        return chosen

    def go_on(self, trials: Sequence[QueuedTrial], numbers: Collection[int]) -> dict[int, int]:
        """Which of these, all at their stops, go on at once, with the epochs until which they may."""
        left = self.left(trials)
        here = [trial for trial in trials if trial.number in numbers]
        best = {rung: set(self.best_at(rung, trials)) for rung in self.rungs}
        going: dict[int, int] = {}
        for trial in sorted(here, key=lambda each: (-self._value_at(each.done, each), each.number)):
            asked_at = trial.until if trial.until is not None else trial.done  # a program may have reported beyond it
            if asked_at in best and trial.number not in best[asked_at]:
                continue
            cost = int(min(self.next_stop(trial.done) - trial.done, left))
            if cost >= 1:
                going[trial.number] = trial.done + cost
                left -= cost
        return going

    def why_ended(self, epoch: int) -> str:
        """Why a trial that may not go on ends after this epoch."""
        return attributes.HALVED if epoch in self.rungs else attributes.SPENT

    def _in_order(self, trials: Sequence[QueuedTrial]) -> list[QueuedTrial]:
        by_number = {trial.number: trial for trial in trials}
        left_behind = [trial for trial in trials if trial.state == "free"]
        cut_short = [t for t in trials if t.state == "paused" and t.done not in self.rungs]  # by a budget
        promoted = [
            by_number[number]
            for rung in reversed(self.rungs)
            for number in self.best_at(rung, trials)
            if by_number[number].state == "paused" and by_number[number].done == rung
        ]
        return [*left_behind, *cut_short, *promoted, *(trial for trial in trials if trial.state == "new")]

    def _value_at(self, rung: int, trial: QueuedTrial) -> float:
        """Goodness of its best epoch up to there, or to the next that it reported: a program may report more seldom."""
        last = min((epoch for epoch in trial.values if epoch >= rung), default=rung)
        return max(
            (goodness(value, self.direction) for epoch, value in trial.values.items() if epoch <= last),
            default=-math.inf,
        )


def best_stopped(halving: Halving, trials: Sequence[QueuedTrial], attrs: Mapping[int, Mapping[str, Any]]) -> int | None:
    """Of a stage that is over, the best of those that were stopped; None where one that is complete came as far.

    Where all that went on explode, what was stopped before them is the best there is, and whoever looks for the best
    trial of a study looks among the complete ones alone. Who stopped it could not know, nor who was stopped after the
    explosions and is complete as the best of those that were left. A program may return less than it reported: what it
    reported is what the others were stopped by.

    Args:
        halving: the rules.
        trials: all of them.
        attrs: of those that are pruned, by number.
    """
    whole = [trial for trial in trials if trial.is_complete]
    values = [max(goodness(trial.value, halving.direction), trial.best(halving.direction)) for trial in whole]
    best = max(values, default=-math.inf)
    stopped = [
        (trial.best(halving.direction), -trial.number)
        for trial in trials
        if attrs.get(trial.number, {}).get(attributes.REASON) in (attributes.HALVED, attributes.SPENT)
    ]
    found = max(stopped, default=(-math.inf, 0))
    return -found[1] if math.isfinite(found[0]) and not found[0] <= best else None


def best_paused(halving: Halving, trials: Sequence[QueuedTrial]) -> int | None:
    """The trial that waits and has a better value than all that are complete; None if there is none.

    It ends complete itself: whoever looks for the best trial of a study looks among those alone.
    """
    waiting = [(trial.best(halving.direction), -trial.number) for trial in trials if trial.state == "paused"]
    complete = max(
        (goodness(trial.value, halving.direction) for trial in trials if trial.is_complete), default=-math.inf
    )
    found = max(waiting, default=(-math.inf, 0))
    return -found[1] if found[0] > complete else None
