"""A stage with rungs: hpsearch's rules of successive halving, asked by one worker that trains one trial at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from benchmarks.search.problem import Run, Trial
from hpsearch.space import Observation
from hpsearch.stages.earlier_trials import EarlierTrial
from hpsearch.stages.halving import Halving, best_paused
from hpsearch.storage import QueuedTrial

Propose = Callable[[int], Mapping[str, Any]]
"""The hyperparameters of a new trial, by its number."""


@dataclass(eq=False)
class HalvedStage:
    """The trials of a stage that spends exactly its epochs.

    Args:
        run: that pays.
        form: whether a trial is stopped at a rung, or waits there to be promoted.
        budget: epochs.
        propose: what to try next.
    """

    run: Run
    form: Literal["stop", "promote"]
    budget: int
    propose: Propose

    def __post_init__(self) -> None:
        self._halving = Halving(self.form, self.run.problem.epochs, budget=self.budget)
        self._trials: list[Trial] = []
        self._standing: list[QueuedTrial] = [QueuedTrial(0, 0, "new")]  # the last one is always new

    def search(self) -> list[Observation]:
        """What became of the trials."""
        end = self.run.spent + self.budget
        while self.run.spent < end:
            [(number, until)] = self._halving.choose(self._standing, 1).items()
            if number == len(self._trials):
                self._trials.append(self.run.begin(self.propose(number)))
                self._standing.append(QueuedTrial(number + 1, number + 1, "new"))
            while until is not None:
                until = self._train(number, until)
        return self._observed()

    def earlier(self, study: str) -> list[EarlierTrial]:
        """What a later stage may be told, once it is over: each trial as one of as many epochs as it had."""
        return [EarlierTrial(study, stands.done, trial.params, trial.best) for trial, stands in self._begun()]

    def _begun(self) -> list[tuple[Trial, QueuedTrial]]:
        return list(zip(self._trials, self._standing, strict=False))  # the last one that stands there is new

    def _train(self, number: int, until: int) -> int | None:
        """Up to where it is asked next; the epoch until which it may go on at once, if it may."""
        trial = self._trials[number]
        while trial.epoch < until and not trial.exploded:
            trial.step()
        values = dict(enumerate(trial.curve, 1))
        if trial.exploded:
            values[trial.epoch + 1] = self.run.problem.exploded_value  # that epoch was trained, too
        stands = replace(self._standing[number], values=values, value=trial.best, until=until)
        if trial.exploded or trial.epoch == self._halving.epochs:
            self._standing[number] = replace(stands, state="ended", is_complete=not trial.exploded)
            return None
        if self.form == "promote":
            self._standing[number] = replace(stands, state="paused", until=None)
            return None
        self._standing[number] = replace(stands, state="held")
        going = self._halving.go_on(self._standing, [number]).get(number)
        if going is None:
            self._standing[number] = replace(stands, state="ended")
        return going

    def _observed(self) -> list[Observation]:
        waiting = best_paused(self._halving, self._standing)
        found = []
        for number, (trial, stands) in enumerate(self._begun()):
            if trial.exploded:
                found.append(Observation(number, dict(trial.params), None, "exploded"))
            elif stands.is_complete or number == waiting:
                found.append(Observation(number, dict(trial.params), trial.best, "complete"))
            else:
                found.append(Observation(number, dict(trial.params), trial.best, "pruned", halved=True))
        return found
