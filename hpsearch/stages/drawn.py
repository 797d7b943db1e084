"""Hyperparameters that are drawn from the seed at a stage's creation, before its first trial."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpsearch.config import Range, StageConfig
from hpsearch.config.conditions import ALWAYS, Conditions
from hpsearch.space import draw_grid, draw_qmc, draw_random

DRAWN = {"random": draw_random, "qmc": draw_qmc, "grid": draw_grid}


def drawn_params(
    space: Mapping[str, Range], settings: StageConfig, conditions: Conditions = ALWAYS
) -> list[dict[str, Any] | None]:
    """One entry per trial: its hyperparameters, or None where a sampler proposes them later.

    A grid has as many points as fit into the budget, which may be fewer than `settings.trials`.
    """
    if settings.sampler in DRAWN:
        return list(DRAWN[settings.sampler](space, settings.trials, settings.seed, conditions))
    return [None] * settings.trials


def num_trials(space: Mapping[str, Range], settings: StageConfig, conditions: Conditions = ALWAYS) -> int:
    """Trials the stage will have: the budget, or the points of the grid that fits into it."""
    if settings.sampler != "grid":
        return settings.trials
    return len(draw_grid(space, settings.trials, settings.seed, conditions))
