"""Surfaces with a known optimum: inside of the ranges, at their end, or outside; with noise, choices, conditions.

The first eight are those of `benchmarks.surfaces`. Numbers are looked at as decimal logarithms where their range is
logarithmic.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.search.problem import Problem
from benchmarks.surfaces import SURFACES as LOGARITHMIC
from benchmarks.surfaces import TWO, Surface, bowl
from hpsearch.config import FloatRange, IntRange, Range
from hpsearch.config.ranges import parse_range

Point = Mapping[str, Any]


@dataclass(frozen=True)
class Formula:
    """A function of the point, and noise of a standard deviation."""

    space: Mapping[str, Range]
    value: Callable[[Point], float | None]
    noise: float

    def true(self, params: Mapping[str, Any]) -> float | None:
        return self.value({name: _in_scale(self.space[name], value) for name, value in params.items()})

    def measured(self, params: Mapping[str, Any], epoch: int, rng: np.random.Generator) -> float | None:
        noise = float(rng.normal(0, self.noise)) if self.noise else 0.0
        true = self.true(params)
        return None if true is None else true + noise


def _in_scale(range_: Range, value: Any) -> Any:
    return math.log10(value) if isinstance(range_, FloatRange | IntRange) and range_.log else value


def _problem(
    name: str,
    forms: Mapping[str, Mapping[str, Any]],
    value: Callable[[Point], float | None],
    *,
    optimum: float = 0.9,
    group: str = "inside",
    noise: float = 0.01,
) -> Problem:
    space = {param: parse_range(param, dict(form)) for param, form in forms.items()}
    return Problem(name, space, Formula(space, value, noise), optimum, group)


def _logs(**ends: tuple[float, float]) -> dict[str, dict[str, Any]]:
    """Logarithmic ranges, by their ends' decimal logarithms."""
    return {name: {"log": [10.0**low, 10.0**high]} for name, (low, high) in ends.items()}


def _logarithmic(name: str, surface: Surface, **more: Any) -> Problem:
    """One of `benchmarks.surfaces`; more: what differs from it."""

    def value(point: Point) -> float | None:
        return surface.value([point[param] for param in surface.ranges])

    return _problem(name, _logs(**surface.ranges), value, optimum=surface.optimum, **more)


def _bowl(center: Mapping[str, float], widths: Mapping[str, float]) -> Callable[[Point], float]:
    """0.9 at its centre, 0.3 far from it."""
    of = bowl(tuple(center.values()), tuple(widths[name] for name in center))
    return lambda point: of([point[name] for name in center])


BEST_RATES = {"sgd": (-1.5, 0.82), "adam": (-3.0, 0.9), "rmsprop": (-3.6, 0.86)}  # decimal logarithm, value there


def _optimizers(point: Point) -> float:
    """Each has a rate of its own; the best one's valley is no wider than the others'."""
    rate, top = BEST_RATES[point["optimizer"]]
    off = ((point["lr"] - rate) / 0.9) ** 2 + ((point["reg"] + 3) / 3) ** 2
    return 0.3 + (top - 0.3) * math.exp(-off)


def _conditional(point: Point) -> float:
    """With momentum, which the best one alone has, the rate that is right falls as momentum rises."""
    if point["optimizer"] == "momentum":
        off = ((point["lr"] + math.log10(1 / (1 - point["momentum"])) + 1.0) / 0.7) ** 2
        return 0.3 + 0.6 * math.exp(-off - ((point["momentum"] - 0.9) / 0.25) ** 2)
    rate, top = {"adam": (-3.0, 0.86), "sgd": (-0.8, 0.84)}[point["optimizer"]]
    return 0.3 + (top - 0.3) * math.exp(-(((point["lr"] - rate) / 0.7) ** 2))


def _mixed(point: Point) -> float:
    """Whole numbers, a share, a rate and a choice at once."""
    off = ((point["lr"] + 2.5) / 0.8) ** 2 + ((point["units"] - math.log10(180)) / 0.6) ** 2
    off += ((point["depth"] - 4) / 2.5) ** 2 + ((point["dropout"] - 0.25) / 0.3) ** 2
    return 0.3 + {"relu": 0.57, "gelu": 0.6, "tanh": 0.45}[point["activation"]] * math.exp(-off)


def _cliff_6(point: Point) -> float | None:
    """The best rate is next to where trials explode, which many values move."""
    edge = -2.0 - 0.3 * max(0.0, point["p0"] + 2) - 0.2 * max(0.0, point["p1"] + 3)
    if point["lr"] > edge:
        return None
    off = ((point["lr"] - edge + 0.2) / 1.0) ** 2 + ((point["p2"] + 2) / 2) ** 2 + ((point["p3"] + 3.5) / 3) ** 2
    return 0.3 + 0.6 * math.exp(-off)


def _ridge_4(point: Point) -> float:
    """The sum of two counts, and the difference of two others, each pair along a line."""
    off = ((point["lr"] + point["batch"] + 4) / 0.6) ** 2 + ((point["reg"] - point["decay"] + 1) / 1.0) ** 2
    off += ((point["lr"] + 2.5) / 4) ** 2 + ((point["reg"] + 3) / 5) ** 2
    return 0.3 + 0.6 * math.exp(-off)


def _ridge_4_aside(point: Point) -> float:
    """The same, away from the middle of the ranges, which is where CMA-ES begins and where the other one is best."""
    off = ((point["lr"] + point["batch"] + 3) / 0.6) ** 2 + ((point["reg"] - point["decay"] + 2.4) / 1.0) ** 2
    off += ((point["lr"] + 3.2) / 4) ** 2 + ((point["reg"] + 4) / 5) ** 2
    return 0.3 + 0.6 * math.exp(-off)


def _three_peaks(point: Point) -> float:
    """0.8 wide, 0.85 less so, 0.9 narrow, each far from the others."""
    peaks = (((-4.8, -4.0), 1.3, 0.5), ((-3.0, 0.0), 0.8, 0.55), ((-1.6, -3.2), 0.5, 0.6))
    return 0.3 + max(
        height * math.exp(-((point["lr"] - x) ** 2 + (point["reg"] - y) ** 2) / width**2)
        for (x, y), width, height in peaks
    )


def _many(num: int, relevant: int) -> tuple[dict[str, dict[str, Any]], Callable[[Point], float]]:
    """So many dimensions, of which the first few matter much and the others a little."""
    centers = {f"p{i}": -1.0 - (1.7 * i) % 3.4 for i in range(num)}
    widths = {f"p{i}": 1.2 + 0.6 * i if i < relevant else 12.0 for i in range(num)}
    return _logs(**dict.fromkeys(centers, (-5.0, 0.0))), _bowl(centers, widths)


def _made() -> dict[str, Problem]:
    problems = [
        _logarithmic(name, surface, group="outside" if name == "outside" else "inside")
        for name, surface in LOGARITHMIC.items()
    ]
    two = _logs(**TWO)
    edges = {"p0": -1.0, "p1": -5.0, "p2": -2.5, "p3": 0.0}
    four = _logs(p0=(-5, 0), p1=(-5, 0), p2=(-5, 0), p3=(-5, 0))
    lr, choice = {"log": [1e-6, 1.0]}, {"choice": ["sgd", "adam", "rmsprop"]}
    momentum = {"uniform": [0.0, 0.99], "when": {"optimizer": "momentum"}}
    mixed = {
        "lr": {"log": [1e-5, 1.0]},
        "units": {"int_log": [8, 1024]},
        "depth": {"int": [1, 10]},
        "dropout": {"uniform": [0.0, 0.9]},
        "activation": {"choice": ["relu", "gelu", "tanh"]},
    }
    problems += [
        _logarithmic("no noise", LOGARITHMIC["inside"], noise=0.0),
        _logarithmic("noise 0.05", LOGARITHMIC["inside"], noise=0.05),
        _logarithmic("narrow, noise 0.03", LOGARITHMIC["narrow"], noise=0.03),
        _problem("edges of 4", four, _bowl(edges, {"p0": 1.2, "p1": 2.0, "p2": 2.0, "p3": 3.0})),
        _problem("corner outside", two, _bowl({"lr": -0.4, "reg": 1.6}, {"lr": 0.9, "reg": 2.5}), group="outside"),
        _problem("far outside", two, _bowl({"lr": 0.8, "reg": -3}, {"lr": 1.5, "reg": 3}), group="outside"),
        _problem("optimizers", {"lr": lr, "reg": {"log": [1e-6, 1.0]}, "optimizer": choice}, _optimizers),
        _problem(
            "conditional",
            {"lr": lr, "optimizer": {"choice": ["momentum", "adam", "sgd"]}, "momentum": momentum},
            _conditional,
        ),
        _problem("mixed kinds", mixed, _mixed),
        _problem("cliff of 6", _logs(lr=(-5, 0), p0=(-5, 0), p1=(-5, 0), p2=(-5, 0), p3=(-5, 0), p4=(-5, 0)), _cliff_6),
        _problem("ridges of 4", _logs(lr=(-5, 0), batch=(-4, 1), reg=(-6, 0), decay=(-5, 1)), _ridge_4),
        _problem("ridges aside", _logs(lr=(-5, 0), batch=(-4, 1), reg=(-6, 0), decay=(-5, 1)), _ridge_4_aside),
        _problem("three peaks", two, _three_peaks),
        _problem("12 dims", *_many(12, 4)),
        _problem("20 dims", *_many(20, 5)),
    ]
    return {problem.name: problem for problem in problems}


SURFACES = _made()
