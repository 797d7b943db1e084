"""Ray Tune's ASHA by its scheduler alone, without a cluster: random values, stopped at its rungs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from benchmarks.search.problem import Run
from hpsearch.space import draw_random


def ray_asha(run: Run) -> None:
    """With its defaults: grace period 1, reduction factor 4, one bracket."""
    from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler

    problem = run.problem
    scheduler: Any = AsyncHyperBandScheduler(
        time_attr="training_iteration", metric="value", mode="max", max_t=problem.epochs
    )
    np.random.seed(run.seed)  # it draws brackets from the global generator
    for number, params in enumerate(draw_random(problem.space, run.budget, run.seed, problem.conditions)):
        if not run.left:
            break
        trial, known = run.begin(params), SimpleNamespace(trial_id=str(number))
        scheduler.on_trial_add(None, known)
        decision, result = TrialScheduler.CONTINUE, {}
        while decision == TrialScheduler.CONTINUE and trial.epoch < problem.epochs:
            value = trial.step()
            exploded = {"training_iteration": trial.epoch + 1, "value": problem.exploded_value}
            result = exploded if value is None else {"training_iteration": trial.epoch, "value": value}
            decision = scheduler.on_trial_result(None, known, result)
            if value is None:
                break
        scheduler.on_trial_complete(None, known, result)
