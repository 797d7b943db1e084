"""The trainer as a plain Optuna objective, for people who keep their own `study.optimize`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna

from hpsearch.analysis import attributes
from hpsearch.analysis.trial_records import TrialRecord
from hpsearch.config import RunConfig, StudyConfig
from hpsearch.config.conditions import conditions_of
from hpsearch.config.metric import metric_of
from hpsearch.config.schema.objective import refuse_objective
from hpsearch.datasets.own_augmentation import refuse_unfit
from hpsearch.results import Direction, EpochResult, TrialSpec, best_epoch
from hpsearch.search.python_settings import python_settings
from hpsearch.stages.samplers import suggest
from hpsearch.stages.validation import one_class
from hpsearch.training import group
from hpsearch.training.early_stopping import stopped_early
from hpsearch.training.folds import make_pack
from hpsearch.training.images import images_key, load_images
from hpsearch.training.metric_limits import exploded_value, refuse_undefined


class Objective:
    """Trains one trial of a study file and returns its best value of train.metric, the validation accuracy unless said
    otherwise; to be maximized, or minimized where the metric is (`direction`).

    Reports the value after each epoch, raises `optuna.TrialPruned` when the pruner says so and when
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
        refuse_objective(settings.study.objective, "hpsearch.Objective")
        self.config = settings.study
        self.run = run or settings.run
        self._conditions = conditions_of(self.config)
        self._images = {images_key(self.config): load_images(self.config, self.run)}
        self._metric, data = metric_of(self.config.train.metric), self._images[images_key(self.config)]
        refuse_undefined(self.config, self._metric, data)
        refuse_unfit(self.config.data.augment, data.shape, data.num_classes, data.x_val_NCHW, one_class(self.config))
        self._exploded_value = exploded_value(self.config, self._metric, data)

    @property
    def direction(self) -> Direction:
        """Of the study that this is an objective of: `optuna.create_study(direction=objective.direction)`."""
        return self._metric.direction

    def __call__(self, trial: optuna.Trial) -> float:
        """Train one trial."""
        params: dict[str, Any] = {}
        for name in self._conditions.in_order(self.config.space):
            if self._conditions.applies(name, params):
                params[name] = suggest(trial, name, self.config.space[name])
        [(config, specs)] = group(self.config, [TrialSpec(trial.number, params)])
        key = images_key(config)
        if key not in self._images:
            self._images[key] = load_images(config, self.run)
        self._images[key] = data = self._images[key].augmented_by(config.data.augment)
        pack = make_pack(config, data, specs, engine=self.run.engine, keeps_best=False)
        patience = config.train.patience
        results: list[EpochResult] = []
        ending = TrialRecord()
        while not pack.done:
            report = pack.run_epoch()
            for explosion in report.explosions:
                _keep(trial, TrialRecord.of_explosion(explosion))
                trial.report(self._exploded_value, explosion.epoch)
                raise optuna.TrialPruned(f"exploded in epoch {explosion.epoch}, step {explosion.step}")
            [result] = report.results
            results.append(result)
            values = [each.val_score for each in results]
            trial.report(values[-1], result.epoch)
            if patience is not None and not pack.done and stopped_early(values, patience, self.direction):
                ending = TrialRecord(attributes.STOPPED_EARLY, result.epoch)
                break
            if trial.should_prune():
                raise optuna.TrialPruned(f"pruned after epoch {result.epoch}")
        best, last = best_epoch(results, self.direction), results[-1]
        ending = replace(ending, best_epoch=best.epoch, last_value=last.val_score, plain_value=best.plain_score)
        if not self._metric.is_accuracy:
            ending = replace(ending, last_acc=last.val_acc, best_acc=best.val_acc)
        _keep(trial, ending)
        return best.val_score


def _keep(trial: optuna.Trial, record: TrialRecord) -> None:
    for name, value in record.as_attributes().items():
        trial.set_user_attr(name, value)
