"""What a fine stage gains by trials of fewer epochs, on curves with a known optimum: told, forgotten, or by the rule.

No training. A configuration has a value after each epoch: it rises towards an end, at a speed that depends on the
rate and on the optimizer, as convnets do: momentum slowly and high, adam fast and a little lower. A coarse stage of few
epochs is narrowed, a fine one of more goes on; beside them TPE with as many epochs, all in trials of full length.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.staged import Way, compare, propose, told_of
from hpsearch.config import Choice, FloatRange, Range, StageConfig
from hpsearch.space import Observation, draw_random, narrow
from hpsearch.stages.earlier_trials import MOST_OF_GP, EarlierTrial, bounded, comparable
from hpsearch.stages.sampler_knowledge import NUM_NEWEST

FEW, MANY = 5, 20  # epochs of a coarse trial, and of a fine one
LUCK = 0.006  # of a trial: standard deviation of where its curve ends
NOISE = 0.004  # of a measurement
CHANCE = 0.1
Epochs = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


@dataclass(frozen=True)
class Optimizer:
    """Where its best curve ends, after how many epochs 63% of it are reached there, and at which log10 of the rate."""

    end: float
    epochs: float
    rate: float


@dataclass(frozen=True)
class Curves:
    """A space of rate, regularization and perhaps choices, and the curve of each of its points."""

    optimizers: Mapping[str, Optimizer]
    slower: float = 0.3
    """Decades of epochs that a decade of the rate costs."""
    overfits: float = 0.0
    """What the last epoch has lost where there is no regularization."""
    batches: Mapping[int, tuple[float, float]] = field(default_factory=dict)
    """By size, what it adds to the end, and the factor of its epochs."""

    @property
    def space(self) -> dict[str, Range]:
        choices = {"optimizer": tuple(self.optimizers), "batch_size": tuple(self.batches)}
        return {
            "lr": FloatRange(1e-5, 1.0, log=True),
            "reg": FloatRange(1e-6, 1e-1, log=True),
            **{name: Choice(values) for name, values in choices.items() if len(values) > 1},
        }

    def curve(self, params: Mapping[str, Any], luck: float = 0.0) -> Epochs | None:
        """Without noise; None where it explodes."""
        of = self.optimizers[params.get("optimizer", next(iter(self.optimizers)))]
        more, factor = self.batches.get(params.get("batch_size", 0), (0.0, 1.0))
        lr, reg = math.log10(params["lr"]) - of.rate, math.log10(params["reg"]) + 3.5
        if lr > 1.2:
            return None
        end = CHANCE + (of.end + more - CHANCE) * math.exp(-((lr / 1.3) ** 2) - (reg / 3) ** 2) + luck
        epochs = min(30.0, max(0.5, of.epochs * factor * 10 ** (-self.slower * lr)))
        at = np.arange(1, MANY + 1)
        rising: Epochs = CHANCE + (end - CHANCE) * (1 - np.exp(-at / epochs))
        return rising - self.overfits * (at / MANY) / (1 + math.exp(2 * reg))


FAST = {"adam": Optimizer(0.745, 1.8, -3), "rmsprop": Optimizer(0.73, 1.8, -3)}
SURFACES = {
    "slow is best": Curves({"momentum": Optimizer(0.78, 3.2, -1), **FAST}),
    "fast is best": Curves({"momentum": Optimizer(0.74, 3.2, -1), **FAST, "adam": Optimizer(0.76, 1.8, -3)}),
    "one speed": Curves(
        {
            "momentum": Optimizer(0.77, 2.5, -1.2),
            "adam": Optimizer(0.76, 2.5, -3),
            "rmsprop": Optimizer(0.745, 2.5, -3),
            "adagrad": Optimizer(0.72, 2.5, -2),
        }
    ),
    "batches": Curves(
        {"momentum": Optimizer(0.77, 2.0, -1), "adam": Optimizer(0.755, 1.3, -3)},
        batches={16: (-0.01, 0.7), 64: (0.0, 1.2), 256: (0.008, 2.0)},
    ),
    "numbers": Curves({"momentum": Optimizer(0.77, 2.5, -1.5)}, slower=0.0),
    "slow rates": Curves({"momentum": Optimizer(0.77, 2.5, -2)}, slower=0.5),
    "overfitting": Curves({"momentum": Optimizer(0.77, 2.0, -1.5)}, overfits=0.15),
}


class Search:
    """What was tried of a surface, and the best trial of full length."""

    def __init__(self, surface: Curves, seed: int) -> None:
        self.surface, self._random = surface, np.random.default_rng(seed + 7777)
        self._best = (-math.inf, math.nan)

    def train(self, params: Mapping[str, Any], epochs: int) -> Epochs | None:
        """A curve as it is measured; None for an explosion."""
        luck, noise = float(self._random.normal(0, LUCK)), self._random.normal(0, NOISE, MANY)
        true, lucky = self.surface.curve(params), self.surface.curve(params, luck)
        if true is None or lucky is None:
            return None
        measured: Epochs = (lucky + noise)[:epochs]
        if epochs == MANY:
            self._best = max(self._best, (float(measured.max()), float(true.max())))
        return measured

    def _train_whole(self, params: Mapping[str, Any]) -> list[float] | None:
        curve = self.train(params, MANY)
        return None if curve is None else curve.tolist()

    def propose(
        self, space: Mapping[str, Range], trials: int, seed: int, earlier: list[EarlierTrial], sampler: str = "tpe"
    ) -> float:
        """Trials of full length, proposed one after the other; what the best is worth without luck and noise."""
        settings = StageConfig(trials=trials, sampler=sampler, seed=seed)
        propose(space, settings, earlier, self._train_whole)
        return self._best[1]


def staged(surface: Curves, seed: int, coarse: int, fine: int, told: str, sampler: str = "tpe") -> float:
    """A coarse stage of few epochs at random, and a fine one of more that is told all, nothing, or by the rule."""
    search, seen = Search(surface, seed), []
    for number, params in enumerate(draw_random(surface.space, coarse, seed)):
        assert params is not None
        curve = search.train(params, FEW)
        value, outcome = (None, "exploded") if curve is None else (float(curve.max()), "complete")
        seen.append(Observation(number, params, value, outcome))
    space = {change.param: change.new for change in narrow(surface.space, seen, "maximize")}
    earlier = [] if told == "nothing" else told_of(seen, FEW, space)
    if told == "by rule":
        earlier = comparable(earlier, space, MANY, sampler)
    most = MOST_OF_GP if sampler == "gp" else NUM_NEWEST
    return search.propose(space, fine, seed, bounded(earlier, "maximize", most), sampler)


def alone(surface: Curves, seed: int, coarse: int, fine: int) -> float:
    """TPE over the ranges as they are, with as many epochs."""
    return Search(surface, seed).propose(surface.space, (coarse * FEW + fine * MANY) // MANY, seed, [])


WAYS: dict[str, Way[Curves]] = {
    "tpe": alone,
    "forgetting": lambda *given: staged(*given, "nothing"),
    "told all": lambda *given: staged(*given, "all"),
    "by rule": lambda *given: staged(*given, "by rule"),
    "gp forgetting": lambda *given: staged(*given, "nothing", "gp"),
    "gp told all": lambda *given: staged(*given, "all", "gp"),
}


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks curves", description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=100, help="seeds 0 to 19 chose the rule")
    parser.add_argument("--coarse", type=int, default=100, help=f"trials of {FEW} epochs")
    parser.add_argument("--fine", type=int, default=50, help=f"trials of {MANY} epochs")
    compare(parser, arguments, SURFACES, WAYS)
