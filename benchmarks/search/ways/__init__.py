"""Ways to search, by name: a line each. A way spends the epochs of a `Run` until none is left.

All ask for one trial after the other, as one worker does, and see each value before the next question.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from benchmarks.search.problem import Run
from benchmarks.search.ways.hebo import hebo
from benchmarks.search.ways.optuna import Optuna
from benchmarks.search.ways.ray import ray_asha
from benchmarks.search.ways.smac import Smac
from benchmarks.search.ways.stages import Alone, Staged
from benchmarks.search.ways.syne import Syne
from hpsearch.stages.confirming import CALLS


@dataclass(frozen=True)
class Way:
    """How to search.

    Attributes:
        search: spends the epochs of a run.
        needs: the package whose code it is.
        curves_only: whether it is of use only where trials have several epochs.
        anytime: whether what it does depends on the budget not at all, so that a long search answers for a short one.
    """

    search: Callable[[Run], None]
    needs: str = "optuna"
    curves_only: bool = False
    anytime: bool = field(default=True)

    @property
    def is_there(self) -> bool:
        return importlib.util.find_spec(self.needs) is not None


OF_CODE: dict[str, Any] = {"first": "tpe", "confirm": CALLS}
WAYS = {
    # hpsearch: coarse, then fine, as the commands have them, and with one thing changed in each
    "hpsearch": Way(Staged(), anytime=False),
    "hpsearch --forget": Way(Staged(forget=True), anytime=False),
    "hpsearch, gp": Way(Staged(sampler="gp"), anytime=False),
    "hpsearch, cmaes": Way(Staged(sampler="cmaes"), anytime=False),
    "hpsearch, qmc coarse": Way(Staged(first="qmc"), anytime=False),
    "hpsearch, of code": Way(Staged(**OF_CODE), anytime=False),  # as over an [objective]
    # and where trials take longer than its proposals
    "hpsearch, of code, gp": Way(Staged(**OF_CODE, sampler="gp", stays="explained"), anytime=False),
    "hpsearch, of code, gp, calls by value": Way(
        Staged(**OF_CODE, sampler="gp", stays="explained", by_value=True), anytime=False
    ),
    "hpsearch, of code, gp, stays": Way(Staged(**OF_CODE, sampler="gp", stays="always"), anytime=False),
    "hpsearch, of code, gp, narrows": Way(Staged(**OF_CODE, sampler="gp"), anytime=False),
    "hpsearch, of code, all gp": Way(Staged(first="gp", confirm=CALLS, sampler="gp", stays="always"), anytime=False),
    "hpsearch, tpe coarse": Way(Staged(first="tpe"), anytime=False),
    "hpsearch, tpe coarse, drops choices": Way(Staged(first="tpe", drops_choices=True), anytime=False),
    "hpsearch, two fine": Way(Staged(fine_stages=2), anytime=False),
    "hpsearch, all told": Way(Staged(tell_all=True), curves_only=True, anytime=False),
    "hpsearch, extrapolation": Way(Staged(pruner="extrapolation"), curves_only=True, anytime=False),
    "hpsearch, tpe coarse, equal epochs": Way(Staged(first="tpe", coarse_share=1.0), curves_only=True, anytime=False),
    "hpsearch, hyperband": Way(Staged(pruner="hyperband"), curves_only=True, anytime=False),
    "hpsearch, halved coarse": Way(Staged(halving="promote"), curves_only=True, anytime=False),
    "hpsearch, halved coarse, gp": Way(Staged(halving="promote", sampler="gp"), curves_only=True, anytime=False),
    "hpsearch, stopped coarse, gp": Way(Staged(halving="stop", sampler="gp"), curves_only=True, anytime=False),
    "hpsearch, stopped coarse": Way(Staged(halving="stop"), curves_only=True, anytime=False),
    "hpsearch, equal epochs": Way(Staged(coarse_share=1.0), curves_only=True, anytime=False),
    "hpsearch, tpe alone": Way(Alone("tpe")),
    # others
    "random": Way(Optuna("random")),
    "tpe": Way(Optuna("tpe")),
    "gp": Way(Optuna("gp")),
    "cmaes": Way(Optuna("cmaes")),
    "hyperband": Way(Optuna("tpe", pruner="hyperband"), curves_only=True),
    "ray asha": Way(ray_asha, "ray", curves_only=True),
    "syne asha": Way(Syne("ASHA"), "syne_tune", curves_only=True),
    "syne asha-cqr": Way(Syne("ASHACQR"), "syne_tune", curves_only=True),
    "syne bohb": Way(Syne("BOHB"), "syne_tune", curves_only=True),
    "syne cqr": Way(Syne("CQR", whole=True), "syne_tune"),
    "hebo": Way(hebo, "hebo"),
    "smac": Way(Smac("HyperparameterOptimizationFacade"), "smac", anytime=False),  # a share of its trials is a design
    "smac gp": Way(Smac("BlackBoxFacade"), "smac", anytime=False),
}
