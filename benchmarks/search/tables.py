"""Recorded trainings as problems: the nearest recorded configuration answers, epoch by epoch.

What was recorded is one training each, so a table has no noise beside that which the recorded values have.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.search.problem import Problem
from benchmarks.search.recording import EXPLODED, RECORDED, Recording
from hpsearch.config import Choice, Range
from hpsearch.config.ranges import parse_range
from hpsearch.space.scale import to_place

OTHER = 10.0  # distance of another choice, in widths of a range: further than anything of the same


@dataclass(frozen=True)
class Table:
    """The answers of a recording."""

    recording: Recording

    @cached_property
    def space(self) -> dict[str, Range]:
        return {name: parse_range(name, dict(form)) for name, form in self.recording.about["space"].items()}

    @cached_property
    def curves(self) -> np.ndarray:
        """N x E: shares of validation images that were right; NaN from an explosion on."""
        counts = self.recording.counts.astype(float)
        return np.where(counts == EXPLODED, np.nan, counts / self.recording.about["val"])

    @cached_property
    def best(self) -> np.ndarray:
        """N: the best value of a whole training; -inf where it exploded, however late."""
        return np.where(np.isnan(self.curves).any(1), -np.inf, np.nanmax(np.nan_to_num(self.curves, nan=-1), 1))

    @cached_property
    def places(self) -> dict[str, np.ndarray]:
        """Of the recorded values in their ranges: 0 at the low end, 1 at the high one; of choices, their number."""
        places = {}
        for name, values in self.recording.params.items():
            range_ = self.space[name]
            places[name] = values if isinstance(range_, Choice) else np.array([place_in(range_, v) for v in values])
        return places

    def row(self, params: Mapping[str, Any]) -> int:
        """Of the nearest configuration; what lies outside of a range is nearest to those at its end."""
        squares = np.zeros(len(self.curves))
        for name, value in params.items():
            range_, places = self.space[name], self.places[name]
            if isinstance(range_, Choice):
                squares += np.where(places == range_.values.index(value), 0.0, OTHER**2)
            else:
                squares += np.nan_to_num((places - min(1.0, max(0.0, place_in(range_, value)))) ** 2)
        return int(squares.argmin())

    def measured(self, params: Mapping[str, Any], epoch: int, rng: np.random.Generator) -> float | None:
        value = float(self.curves[self.row(params), epoch - 1])
        return None if math.isnan(value) else value

    def true(self, params: Mapping[str, Any]) -> float | None:
        value = float(self.best[self.row(params)])
        return None if value == -math.inf else value


def place_in(range_: Range, value: float) -> float:
    assert not isinstance(range_, Choice)
    if math.isnan(value):
        return math.nan
    low, high = to_place(range_, range_.low), to_place(range_, range_.high)
    return (to_place(range_, value) - low) / (high - low)


@cache
def tables(folder: Path = RECORDED) -> dict[str, Problem]:
    """Each recording in the folder over its whole space, and again from ranges that do not hold its best."""
    found = {}
    for file in sorted(folder.glob("*.npz")):
        table = Table(Recording.load(file))
        chance = 1 / 10
        whole = Problem(file.stem, table.space, table, float(table.best.max()), "table", table.curves.shape[1], chance)
        found[whole.name] = whole
        best = float(table.recording.params["lr"][int(table.best.argmax())])
        low = replace(table.space["lr"], high=best / 10)  # type: ignore[type-var]
        found[f"{file.stem}, low lr"] = replace(
            whole, name=f"{file.stem}, low lr", space={**table.space, "lr": low}, group="table"
        )
    return found
