"""What a finished, pruned or exploded trial tells about the space, and which trials are the top."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Direction: TypeAlias = Literal["maximize", "minimize"]
Outcome: TypeAlias = Literal["complete", "pruned", "exploded"]

TOP_SHARE = 1 / 8  # of the finished trials
MIN_TOP = 3  # trials: the spread of fewer says little


@dataclass(frozen=True, slots=True)
class Observation:
    """One trial that has ended. A value of None, nan or inf is not usable.

    `halved`: it ended at a rung of successive halving, or when the epochs of its stage were spent; its value is then
    that of its best epoch so far. It is complete all the same where it is the best of its stage.
    """

    number: int
    params: Mapping[str, Any]
    value: float | None
    outcome: Outcome
    halved: bool = False


@dataclass(frozen=True, slots=True)
class Top:
    """The best trials (best first) of `ranked`; finished ones and halved ones, or all pruned where none finished."""

    trials: tuple[Observation, ...]
    ranked: tuple[Observation, ...]
    pruned: bool

    @property
    def num_ranked(self) -> int:
        """How many trials they are the best of."""
        return len(self.ranked)

    @property
    def all_halved(self) -> bool:
        """Whether rungs, or the end of the stage's epochs, stopped each of them: none came to its last epoch."""
        return all(trial.halved for trial in self.ranked)

    @property
    def best(self) -> Observation:
        """The best trial: of equal values, the one with the smallest number."""
        return self.trials[0]

    def __str__(self) -> str:
        if self.all_halved:
            return f"the {self._count} stopped at a rung" if self.num_ranked > 1 else "the only trial stopped at a rung"
        halved = not self.pruned and any(trial.halved for trial in self.ranked)
        kind = "pruned" if self.pruned else "finished or halved" if halved else "finished"
        if self.num_ranked == 1:
            return f"the only {kind} trial"
        return f"the {self._count}{'' if kind == 'finished' else f' {kind}'}"

    @property
    def _count(self) -> str:
        return f"top {len(self.trials)} of {self.num_ranked}"


def rank(observations: Sequence[Observation], outcome: Outcome, direction: Direction) -> list[Observation]:
    """Trials of this outcome that have a finite value, best first."""
    return _ordered([o for o in observations if o.outcome == outcome], direction)


def find_top(observations: Sequence[Observation], direction: Direction) -> Top | None:
    """The best eighth of the finished trials, at least three, and whoever equals the last of them.

    Halved trials are ranked among the finished ones, as few finish of a stage with rungs. They are ranked by value
    alone: one whose best epoch so far is as good as that of a trial with more epochs is as good at each rung of both.

    Other pruned trials stand in where none finished. Exploded ones are never among the top: a value they carry was
    made up for the sampler. None where no trial has a usable value.
    """
    finished = rank(observations, "complete", direction)
    ranked = _ordered([o for o in observations if o.outcome == "complete" or o.halved], direction) if finished else []
    ranked = ranked or rank(observations, "pruned", direction)
    if not ranked:
        return None
    size = min(len(ranked), max(MIN_TOP, math.ceil(TOP_SHARE * len(ranked))))
    worst = _cost(ranked[size - 1], direction)
    trials = tuple(o for o in ranked if _cost(o, direction) <= worst)
    return Top(trials, tuple(ranked), pruned=not finished)


def _ordered(observations: Sequence[Observation], direction: Direction) -> list[Observation]:
    usable = [o for o in observations if o.value is not None and math.isfinite(o.value)]
    return sorted(usable, key=lambda o: (_cost(o, direction), o.number))


def _cost(observation: Observation, direction: Direction) -> float:
    assert observation.value is not None
    return -observation.value if direction == "maximize" else observation.value
