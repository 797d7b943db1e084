"""Smooth surfaces through recorded trainings: what configurations between the recorded ones would have reached.

A table answers with the nearest of its few rows: a search in a narrowed range finds the same ones again and again, and
random draws, which go through all of them, are hard to beat. Here the curves of each value of the one choice are
interpolated over the numbers by thin plate splines. Where trials explode is as the nearest recorded one has it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.search.problem import Problem
from benchmarks.search.tables import Table, place_in, tables
from hpsearch.config import Choice
from hpsearch.space.draws import quantile

if TYPE_CHECKING:
    from scipy.interpolate import RBFInterpolator

# Of eighths of the recorded convnet's curves left out in turn, the last value is off by 0.020 in the median (0.040 in
# the root of the mean square) with smoothing of 0.001 or 0.01, and by more with 0.1 or with other kernels.
SMOOTHING = 0.01
NOISE = 0.01  # standard deviation of what is measured after an epoch, as of most of the surfaces
NUM_TRIED = 4096  # places of each choice, among which the optimum is looked for


@dataclass(frozen=True)
class Surrogate:
    """The answers of the curves of a table, interpolated; one of its hyperparameters is a choice."""

    table: Table

    @cached_property
    def choice(self) -> str:
        """The name of the one choice."""
        (name,) = (name for name, range_ in self.table.space.items() if isinstance(range_, Choice))
        return name

    @cached_property
    def _splines(self) -> dict[Any, tuple[list[str], RBFInterpolator]]:
        """By the choice's value: the numbers that go with it, and the curve at a place in their ranges."""
        from scipy.interpolate import RBFInterpolator

        choice, ends = self.table.space[self.choice], ~np.isnan(self.table.curves).any(1)
        assert isinstance(choice, Choice)
        found = {}
        for number, value in enumerate(choice.values):
            of_value = ends & (self.table.places[self.choice] == number)
            places = {name: at[of_value] for name, at in self.table.places.items() if name != self.choice}
            names = [name for name, at in places.items() if not np.isnan(at).any()]
            at_ND = np.column_stack([places[name] for name in names])
            found[value] = names, RBFInterpolator(at_ND, self.table.curves[of_value], smoothing=SMOOTHING)
        return found

    def curve(self, params: Mapping[str, Any]) -> np.ndarray:
        """Without noise, a value for each epoch; NaN from an explosion on."""
        names, spline = self._splines[params[self.choice]]
        place = [min(1.0, max(0.0, place_in(self.table.space[name], params[name]))) for name in names]
        values = np.clip(spline(np.array([place]))[0], 0.0, 1.0)
        return np.where(np.isnan(self.table.curves[self.table.row(params)]), math.nan, values)

    def measured(self, params: Mapping[str, Any], epoch: int, rng: np.random.Generator) -> float | None:
        value = float(self.curve(params)[epoch - 1] + rng.normal(0.0, NOISE))
        return None if math.isnan(value) else value

    def true(self, params: Mapping[str, Any]) -> float | None:
        curve = self.curve(params)
        return None if np.isnan(curve).any() else float(curve.max())

    @cached_property
    def optimum(self) -> float:
        """The highest value of many places, spread over the whole space."""
        from scipy.stats import qmc

        best = 0.0
        for value, (names, spline) in self._splines.items():
            at_ND = qmc.Sobol(len(names), seed=0).random(NUM_TRIED)
            highest = spline(at_ND).max(1)
            for place in np.argsort(-highest):  # the first that does not explode
                params = {n: quantile(self.table.space[n], u) for n, u in zip(names, at_ND[place], strict=True)}
                if self.true({**params, self.choice: value}) is not None:
                    best = max(best, min(1.0, float(highest[place])))
                    break
        return best


@cache
def surrogates() -> dict[str, Problem]:
    """One for each table, and from ranges as its."""
    found, smooth = {}, {}
    for problem in tables().values():
        assert isinstance(problem.answers, Table)
        answers = smooth.setdefault(id(problem.answers), Surrogate(problem.answers))
        kind, *rest = problem.name.split(", ")
        name = ", ".join([f"smooth {kind}", *rest])
        found[name] = replace(problem, name=name, answers=answers, optimum=answers.optimum)
    return found
