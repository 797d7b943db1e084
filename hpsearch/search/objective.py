"""The trainer as a plain Optuna objective, for people who keep their own `study.optimize`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna

from hpsearch.analysis import attributes
from hpsearch.analysis.records import TrialRecord
from hpsearch.config import RunConfig, StudyConfig
from hpsearch.results import TrialSpec
from hpsearch.search.api import python_settings
from hpsearch.stages.proposals import EXPLODED_VALUE, suggest
from hpsearch.training import Pack, group
from hpsearch.training.early_stopping import stopped_early
from hpsearch.training.images import images_key, load_images


class Objective:
    """Trains one trial of a study file and returns its best validation accuracy; to be maximized.

    Reports the validation accuracy after each epoch, raises `optuna.TrialPruned` when the pruner says so and when
    the cost explodes, with reason, epoch and step as user attributes. The trial has `train.epochs` epochs, or fewer
    where `train.patience` ends it.

        study = optuna.create_study(direction="maximize")
        study.optimize(hpsearch.Objective("studies/digits.toml"), n_trials=20)

    Args:
        config: a study file, a StudyConfig, a plain dict in the form of a study file, or None for the defaults.
        run: device, engine and folders, where a study file's [run] does not say them.

    Raises:
        ConfigError, DataError: before the first trial.
    """

    def __init__(
        self, config: StudyConfig | Mapping[str, Any] | str | Path | None = None, *, run: RunConfig | None = None
    ) -> None:
        settings = python_settings(config)
        self.config = settings.study
        self.run = run or settings.run
        self._images = {images_key(self.config): load_images(self.config, self.run)}

    def __call__(self, trial: optuna.Trial) -> float:
        """Train one trial."""
        params = {name: suggest(trial, name, range_) for name, range_ in self.config.space.items()}
        [(config, specs)] = group(self.config, [TrialSpec(trial.number, params)])
        if images_key(config) not in self._images:
            self._images[images_key(config)] = load_images(config, self.run)
        pack = Pack(config, self._images[images_key(config)], specs, engine=self.run.engine, keeps_best=False)
        patience = config.train.patience
        values: list[float] = []
        ending = TrialRecord()
        while not pack.done:
            report = pack.run_epoch()
            for explosion in report.explosions:
                _keep(trial, TrialRecord.of_explosion(explosion))
                trial.report(EXPLODED_VALUE, explosion.epoch)
                raise optuna.TrialPruned(f"exploded in epoch {explosion.epoch}, step {explosion.step}")
            [result] = report.results
            values.append(result.val_acc)
            trial.report(result.val_acc, result.epoch)
            if patience is not None and not pack.done and stopped_early(values, patience):
                ending = TrialRecord(attributes.STOPPED_EARLY, result.epoch)
                break
            if trial.should_prune():
                raise optuna.TrialPruned(f"pruned after epoch {result.epoch}")
        best = max(values)
        _keep(trial, replace(ending, best_epoch=values.index(best) + 1, last_value=values[-1]))
        return best


def _keep(trial: optuna.Trial, record: TrialRecord) -> None:
    for name, value in record.as_attributes().items():
        trial.set_user_attr(name, value)
