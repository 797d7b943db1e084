"""Optuna's samplers and pruners, as their documentation uses them: a study, an objective, no stages."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import optuna

from benchmarks.search.problem import Run
from hpsearch.stages.samplers import suggest

TELLS_EXPLODED = ("gp", "cmaes")  # they learn from complete trials alone


@dataclass(frozen=True)
class Optuna:
    """One study over the ranges as they are. Of Hyperband, the rungs go from one epoch to all."""

    sampler: str
    pruner: str = "none"

    def __call__(self, run: Run) -> None:
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        problem = run.problem
        study = optuna.create_study(
            study_name=f"seed {run.seed}",  # Hyperband's brackets are drawn from the name
            direction="maximize",
            sampler=self._sampler(run.seed),
            pruner=self._pruner(run),
        )
        while run.left:
            asked = study.ask()
            params: dict[str, Any] = {}
            for name in problem.conditions.in_order(problem.space):
                if problem.conditions.applies(name, params):
                    params[name] = suggest(asked, name, problem.space[name])
            trial = run.begin(params)
            pruned = False
            for epoch in range(1, problem.epochs + 1):
                value = trial.step()
                if value is None:
                    break
                asked.report(value, epoch)
                if epoch < problem.epochs and asked.should_prune():
                    pruned = True
                    break
            if trial.exploded and self.sampler in TELLS_EXPLODED:
                study.tell(asked, problem.exploded_value)
            elif trial.exploded or pruned:
                if trial.epoch == 0:
                    asked.report(problem.exploded_value, 1)
                study.tell(asked, state=optuna.trial.TrialState.PRUNED)
            else:
                study.tell(asked, trial.best)

    def _sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        match self.sampler:
            case "tpe":
                return optuna.samplers.TPESampler(seed=seed, multivariate=True)
            case "gp":
                return optuna.samplers.GPSampler(seed=seed, warn_independent_sampling=False)
            case "cmaes":
                return optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False)
        return optuna.samplers.RandomSampler(seed=seed)

    def _pruner(self, run: Run) -> optuna.pruners.BasePruner:
        if self.pruner == "hyperband":
            return optuna.pruners.HyperbandPruner(min_resource=1, max_resource=run.problem.epochs, reduction_factor=3)
        return optuna.pruners.NopPruner()
