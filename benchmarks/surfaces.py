"""What a search finds on surfaces with a known optimum: stages of hpsearch beside Optuna's TPE with as many trials.

No training: a surface gives a value for a point, with noise; a way to search is judged by the value without noise of
the trial that it names the best. Ranges are logarithmic; the optimum lies inside them, on an end, or outside.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna

from benchmarks.staged import Way, compare, propose, told_of
from hpsearch.config import FloatRange, StageConfig
from hpsearch.space import Observation, draw_random, narrow

NOISE = 0.01
Point = Sequence[float]  # decimal logarithms
Space = Mapping[str, FloatRange]


@dataclass(frozen=True)
class Surface:
    """Ranges of decimal logarithms, and the value of a point; None where it explodes."""

    ranges: Mapping[str, tuple[float, float]]
    value: Callable[[Point], float | None]
    optimum: float = 0.9
    """The highest value, inside the ranges or not."""

    @property
    def space(self) -> dict[str, FloatRange]:
        return {name: FloatRange(10.0**low, 10.0**high, log=True) for name, (low, high) in self.ranges.items()}

    def at(self, params: Mapping[str, float]) -> float | None:
        return self.value([math.log10(params[name]) for name in self.ranges])


def bowl(center: Point, widths: Point) -> Callable[[Point], float]:
    """0.9 at its centre, 0.3 far from it; widths in decades."""

    def value(point: Point) -> float:
        squares = sum(((x - c) / w) ** 2 for x, c, w in zip(point, center, widths, strict=True))
        return 0.3 + 0.6 * math.exp(-squares)

    return value


def cliff(point: Point) -> float | None:
    """Rises with the rate up to where it explodes, which is lower where there is much regularization."""
    lr, reg = point
    edge = -2.2 - 0.15 * max(0.0, reg + 1)
    if lr > edge:
        return None
    return 0.55 * math.exp(-(((lr - edge + 0.15) / 1.2) ** 2)) + 0.1 - 0.02 * abs(reg + 3)


def ridge(point: Point) -> float:
    """What matters is the product of the two."""
    lr, reg = point
    return 0.8 * math.exp(-(((lr + reg + 6) / 0.8) ** 2)) * math.exp(-(((lr - reg) / 5) ** 2)) + 0.1


def two_peaks(point: Point) -> float:
    """A wide one of 0.85 and a narrow one of 0.95."""
    wide = 0.75 * math.exp(-sum(((x - c) / 1.2) ** 2 for x, c in zip(point, (-4.5, -1.0), strict=True)))
    narrow_ = 0.85 * math.exp(-sum(((x - c) / 0.35) ** 2 for x, c in zip(point, (-1.5, -4.5), strict=True)))
    return max(wide, narrow_) + 0.1


TWO = {"lr": (-6.0, -1.0), "reg": (-5.0, 1.0)}
SIX = {f"p{i}": (-5.0, 0.0) for i in range(6)}
SURFACES = {
    "inside": Surface(TWO, bowl((-3, -3), (1, 3))),
    "narrow": Surface(TWO, bowl((-2.7, -2), (0.4, 1))),
    "edge": Surface(TWO, bowl((-1, -4), (0.8, 2))),
    "outside": Surface(TWO, bowl((-0.2, -3), (0.8, 3))),
    "cliff": Surface(TWO, cliff, 0.65),
    "ridge": Surface(TWO, ridge),
    "two peaks": Surface(TWO, two_peaks, 0.95),
    "6 dims": Surface(SIX, bowl((-2, -3, -1, -4, -2.5, -1.5), (1, 1.5, 2, 4, 6, 8))),
}


class Search:
    """What has been tried of a surface, with its noise, and what is the best."""

    def __init__(self, surface: Surface, seed: int) -> None:
        self.surface, self._noise = surface, np.random.default_rng(seed)
        self.seen: list[Observation] = []
        self._best = (-math.inf, math.nan)

    def try_(self, params: Mapping[str, Any]) -> float | None:
        """The value as it is measured; None for an explosion."""
        true = self.surface.at(params)
        measured = None if true is None else true + float(self._noise.normal(0, NOISE))
        outcome = "exploded" if measured is None else "complete"
        self.seen.append(Observation(len(self.seen), dict(params), measured, outcome))
        if true is not None and measured is not None:
            self._best = max(self._best, (measured, true))
        return measured

    @property
    def found(self) -> float:
        """The value without noise of the best trial."""
        return self._best[1]


def staged(surface: Surface, seed: int, coarse: int, fine: int, sampler: str, *, forget: bool) -> float:
    """A coarse stage at random, and a fine one that narrows it."""
    search = Search(surface, seed)
    for params in draw_random(surface.space, coarse, seed):
        assert params is not None
        search.try_(params)
    space = {change.param: change.new for change in narrow(surface.space, search.seen, "maximize")}
    earlier = [] if forget else told_of(search.seen, 1, space)

    def train(params: Mapping[str, Any]) -> list[float] | None:
        measured = search.try_(params)
        return None if measured is None else [measured]

    propose(space, StageConfig(trials=fine, sampler=sampler, seed=seed), earlier, train)
    return search.found


def alone(surface: Surface, seed: int, trials: int) -> float:
    """Optuna's TPE, multivariate, over the ranges as they are."""
    search = Search(surface, seed)
    sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for _ in range(trials):
        trial = study.ask()
        params = {n: trial.suggest_float(n, r.low, r.high, log=True) for n, r in surface.space.items()}
        if (measured := search.try_(params)) is not None:
            study.tell(trial, measured)
        else:
            trial.report(0.0, 1)
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    return search.found


WAYS: dict[str, Way[Surface]] = {
    "optuna-tpe": lambda surface, seed, coarse, fine: alone(surface, seed, coarse + fine),
    "tpe-forgetting": lambda *given: staged(*given, "tpe", forget=True),
    "tpe": lambda *given: staged(*given, "tpe", forget=False),
    "gp-forgetting": lambda *given: staged(*given, "gp", forget=True),
    "gp": lambda *given: staged(*given, "gp", forget=False),
}


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks surfaces", description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--coarse", type=int, default=40, help="trials")
    parser.add_argument("--fine", type=int, default=20, help="trials; what is beside it has both together")
    compare(parser, arguments, SURFACES, WAYS)
