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
    """One trial that has ended. A value of None, nan or inf is not usable."""

    number: int
    params: Mapping[str, Any]
    value: float | None
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Top:
    """The best trials (best first) of `num_ranked`; all finished, or all pruned where none finished."""

    trials: tuple[Observation, ...]
    num_ranked: int
    pruned: bool

    @property
    def best(self) -> Observation:
        """The best trial: of equal values, the one with the smallest number."""
        return self.trials[0]

    def __str__(self) -> str:
        kind = "pruned" if self.pruned else "finished"
        if self.num_ranked == 1:
            return f"the only {kind} trial"
        return f"the top {len(self.trials)} of {self.num_ranked}{' pruned' if self.pruned else ''}"


def rank(observations: Sequence[Observation], outcome: Outcome, direction: Direction) -> list[Observation]:
    """Trials of this outcome that have a finite value, best first."""
    usable = [o for o in observations if o.outcome == outcome and o.value is not None and math.isfinite(o.value)]
    return sorted(usable, key=lambda o: (_cost(o, direction), o.number))


def find_top(observations: Sequence[Observation], direction: Direction) -> Top | None:
    """The best eighth of the finished trials, at least three, and whoever equals the last of them.

    Pruned trials stand in where none finished. Exploded ones are never among the top: a value they carry was
    made up for the sampler. None where no trial has a usable value.
    """
    finished = rank(observations, "complete", direction)
    ranked = finished or rank(observations, "pruned", direction)
    if not ranked:
        return None
    size = min(len(ranked), max(MIN_TOP, math.ceil(TOP_SHARE * len(ranked))))
    worst = _cost(ranked[size - 1], direction)
    trials = tuple(o for o in ranked if _cost(o, direction) <= worst)
    return Top(trials, num_ranked=len(ranked), pruned=not finished)


def _cost(observation: Observation, direction: Direction) -> float:
    assert observation.value is not None
    return -observation.value if direction == "maximize" else observation.value
