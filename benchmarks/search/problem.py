"""What is searched, and the account of one search: each epoch is paid for, and what would be chosen is written down.

A problem answers for a trial epoch by epoch. A surface has one epoch. What a search is judged by is not the value that
it measured but the true one of the trial that it would choose: without noise, trained to the last epoch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from hpsearch.config import Choice, Range
from hpsearch.config.conditions import Conditions
from hpsearch.space.scale import from_unit

NOISE_STREAM = 71  # so that noise has nothing to do with what a way draws from the same seed


class Answers(Protocol):
    """The values of a problem."""

    def measured(self, params: Mapping[str, Any], epoch: int, rng: np.random.Generator) -> float | None:
        """After this epoch, from 1 on; None where the trial explodes in it."""

    def true(self, params: Mapping[str, Any]) -> float | None:
        """Without noise, at its best epoch; None where it explodes before it has a value."""


@dataclass(frozen=True)
class Problem:
    """More is better.

    Attributes:
        name: of the surface or table.
        space: ranges that searches start with.
        answers: its values.
        optimum: the highest true value there is, inside the ranges or not.
        group: "inside" where the ranges hold the optimum, "outside" where they do not, "table" for real trainings,
            "published" for those of others.
        epochs: of a whole trial.
        exploded_value: what samplers are told that cannot be told of an explosion.
    """

    name: str
    space: Mapping[str, Range]
    answers: Answers
    optimum: float
    group: str = "inside"
    epochs: int = 1
    exploded_value: float = 0.0

    @cached_property
    def conditions(self) -> Conditions:
        clauses = {name: range_.when for name, range_ in self.space.items() if range_.when}
        return Conditions(clauses, {name: _usual(self.space[name]) for name in clauses})


def _usual(range_: Range) -> Any:
    """Of a hyperparameter, where it is not searched: the middle of its range."""
    return range_.values[0] if isinstance(range_, Choice) else from_unit(range_, 0.5)


class BudgetSpentError(Exception):
    """No epoch is left."""


@dataclass(eq=False)
class Run:
    """One search of a problem.

    Attributes:
        budget: epochs that may be paid for.
        changes: epochs paid for, and the regret of what would be chosen from then on.
    """

    problem: Problem
    seed: int
    budget: int
    spent: int = 0
    changes: list[tuple[int, float]] = field(default_factory=list)
    _trials: list[Trial] = field(default_factory=list)
    _chosen: Trial | None = None

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng([self.seed, NOISE_STREAM])

    @property
    def num_trials(self) -> int:
        """That were begun."""
        return len(self._trials)

    @property
    def left(self) -> int:
        """Epochs."""
        return self.budget - self.spent

    def begin(self, params: Mapping[str, Any]) -> Trial:
        """A trial that has not been trained yet; of its hyperparameters those that apply."""
        self._trials.append(Trial(self, self.problem.conditions.restricted(params)))
        return self._trials[-1]

    def pay(self, trial: Trial) -> float | None:
        """One more epoch of a trial; what is measured after it, None if it exploded.

        Raises:
            BudgetSpentError: no epoch is left.
        """
        if self.spent >= self.budget:
            raise BudgetSpentError
        self.spent += 1
        return self.problem.answers.measured(trial.params, trial.epoch + 1, self._rng)

    def call_again(self, trial: Trial) -> float | None:
        """The value of a trial of one epoch, measured anew; None if it exploded.

        From the first such call on, the trial with the best mean of those that were called again is chosen.

        Raises:
            BudgetSpentError: no epoch is left.
        """
        if self.spent >= self.budget:
            raise BudgetSpentError
        self.spent += 1
        value = self.problem.answers.measured(trial.params, 1, self._rng)
        trial.again.append(value)
        called = [each for each in self._trials if each.again]
        self._write_down(max(called, key=lambda each: each.mean_of_calls))
        return value

    def choose(self, changed: Trial) -> None:
        """The trial of the highest value, after one has got another; one that has exploded is never chosen."""
        if any(trial.again for trial in self._trials):
            return
        if changed.exploded and changed is self._chosen:
            ended = [trial for trial in self._trials if trial.best is not None]
            self._write_down(max(ended, key=lambda trial: trial.best or 0.0, default=None))
        elif changed.best is not None and (self._chosen is None or changed.best > (self._chosen.best or -math.inf)):
            self._write_down(changed)

    def _write_down(self, chosen: Trial | None) -> None:
        self._chosen = chosen
        true = None if self._chosen is None else self.problem.answers.true(self._chosen.params)
        regret = self.problem.optimum - (self.problem.exploded_value if true is None else true)
        if not self.changes or self.changes[-1][1] != regret:
            self.changes.append((self.spent, regret))


@dataclass(eq=False)
class Trial:
    """A trial in training. `curve` has the value after each epoch, `again` those of calls of it again."""

    run: Run
    params: dict[str, Any]
    curve: list[float] = field(default_factory=list)
    exploded: bool = False
    again: list[float | None] = field(default_factory=list)

    @property
    def epoch(self) -> int:
        """The last one that it was trained."""
        return len(self.curve)

    @property
    def best(self) -> float | None:
        """The best value so far; None where it exploded: such a trial has none."""
        return None if self.exploded or not self.curve else max(self.curve)

    @property
    def mean_of_calls(self) -> float:
        """Of its value and those that were measured anew; -inf where it exploded."""
        values = [self.best, *self.again]
        return -math.inf if None in values else float(np.mean(values))  # type: ignore[arg-type]

    def step(self) -> float | None:
        """One more epoch; None where it explodes."""
        value = self.run.pay(self)
        if value is None:
            self.exploded = True
        else:
            self.curve.append(value)
        self.run.choose(self)
        return value

    def train(self, epochs: int | None = None) -> float | None:
        """Until so many epochs in all, or to the last; its best value, None where it exploded."""
        for _ in range(self.epoch, epochs or self.run.problem.epochs):
            if self.step() is None:
                break
        return self.best
