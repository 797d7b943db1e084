"""The one use of the test set: the best configuration, trained again, measured on images that nothing has seen.

Nothing else loads the test split, but for `ensemble` where that is asked for. Each use is kept with the stage, because
the second one is no longer a measurement of unseen images but the first step of a search on them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hpsearch.analysis import attributes
from hpsearch.analysis.best_trial import best_or_refuse
from hpsearch.analysis.origins import origin_of
from hpsearch.analysis.records import stage_record
from hpsearch.analysis.study_trials import read_study
from hpsearch.analysis.trial_records import trial_record
from hpsearch.analysis.uses_of_test_images import TEST_IMAGES, count_uses
from hpsearch.config import RunConfig
from hpsearch.config.losses import CROSS_ENTROPY, Loss
from hpsearch.config.metric import METRICS, Metric
from hpsearch.datasets.device import TrainingData
from hpsearch.datasets.images import Progress
from hpsearch.datasets.preparing import prepare_test
from hpsearch.datasets.stored import StoredImages
from hpsearch.errors import ConfigError, RefusedError
from hpsearch.search.final_result import MAX_CLASSES_STORED, FinalTest
from hpsearch.search.stored_trials import StoredTrial, how_it_stands, images_of, retrain, stored_trial
from hpsearch.storage import Database, find_study, list_studies, write_attrs
from hpsearch.training.class_scores import class_scores
from hpsearch.training.images import as_trained
from hpsearch.training.metrics import all_measures, score_of
from hpsearch.training.threshold import find_threshold, score_at
from hpsearch.training.views import refuse_unknown_views


def final_test(
    db: Database,
    run: RunConfig,
    study: str,
    number: int | None = None,
    *,
    num_seeds: int = 1,
    train_on_val: bool = False,
    views: str | None = None,
    progress: Progress | None = None,
    seed_ended: Callable[[int, float | None], None] | None = None,
) -> FinalTest:
    """Train the best trial of a stage again and measure it on the test split.

    The weights are those of the epoch that was the best on the validation images, as in the search.

    Args:
        db: the storage; the use is written to the study's attributes.
        run: where and how to train.
        study: a stage of ours.
        number: another trial than the best one.
        num_seeds: trainings, with the trial's train.seed and those that follow.
        train_on_val: train on the validation images, too. No validation is left then to choose an epoch by, so the
            training ends after the one that was the trial's best, and its last weights are measured; mean and std of
            the training part stay in use. So it is after cross-validation, whether asked for or not: no fold is held
            out any more.
        views: flip or ten-crop, to measure a second time, see `training.views`.
        progress: hears (done, total) while image files are decoded.
        seed_ended: hears each seed and its test accuracy.

    Raises:
        RefusedError: the trial did not finish, or explodes with every seed; other images; another program's study.
        DataError: there is no test split.
        ConfigError: there are no such views, or the metric is not of probabilities, which views average.
    """
    refuse_unknown_views(views)
    evidence = read_study(db, study)
    stored = stored_trial(evidence, best_or_refuse(evidence).number if number is None else number)
    metric, loss = evidence.metric, stored.config.train.loss
    if stored.trial.state != "COMPLETE":
        said = f"trial {stored.trial.number} of {study!r} {how_it_stands(stored.trial)}"
        raise RefusedError(f"{said}, so it is no result of the search.\nAllowed: trials that are COMPLETE.")
    if views is not None and metric.name == "loss" and loss != CROSS_ENTROPY:
        raise ConfigError(
            f"--views {views} averages probabilities, of which train.loss = {loss!r} is none.\n"
            f"Allowed: a metric other than loss, or train.loss = {CROSS_ENTROPY!r}."
        )
    images = images_of(stored, run, progress)
    which = list[str]()
    x_test_NCHW, y_test_N = prepare_test(
        stored.config.data, images, Path(run.data_dir), progress, run.memory, which.append
    )
    train_on_val = train_on_val or bool(images.other_folds)
    data = as_trained(stored.config, joined(images) if train_on_val else images, run)
    epochs = stored.best_epoch if train_on_val else stored.epochs
    seeds = tuple(range(stored.seed, stored.seed + num_seeds))
    accuracies: list[float | None] = []
    trained: list[int] = []
    measured: list[int | None] = []
    scores = list[float | None]()
    view_accuracies, view_scores = list[float | None](), list[float | None]()
    all_found: list[dict[str, float]] = []
    thresholds, at_threshold = list[float | None](), list[float | None]()
    confusion = np.zeros((data.num_classes, data.num_classes), np.int64)
    for seed in seeds:
        training = retrain(
            stored.config, data, seed, epochs=epochs, stops_early=not train_on_val,
            which="last" if train_on_val else "best", engine=run.engine,
        )  # fmt: skip
        trained.append(len(training.results))
        if training.state is None or training.best is None:
            missed = (accuracies, scores, measured, thresholds, at_threshold, view_accuracies, view_scores)
            for missing in missed:
                missing.append(None)
        else:
            measured.append(trained[-1] if train_on_val else training.best.epoch)
            with_net = stored.config.model, training.state, x_test_NCHW, data.num_classes
            logits_NC = class_scores(*with_net)
            confusion += confusion_matrix(y_test_N, logits_NC.argmax(1), data.num_classes)
            accuracy, score = _measured(metric, loss, logits_NC, y_test_N)
            accuracies.append(accuracy)
            scores.append(score)
            all_found.append(all_measures(logits_NC, y_test_N, loss))
            # Of images that nothing trained on, and none of the test set.
            found = None
            if not train_on_val and data.num_classes == 2:
                val_NC = class_scores(stored.config.model, training.state, images.x_val_NCHW, data.num_classes)
                found = find_threshold(metric.name, val_NC, data.y_val_N)
            thresholds.append(found.value if found is not None else None)
            with_threshold = score_at(found.value, metric.name, logits_NC, y_test_N) if found is not None else math.nan
            at_threshold.append(with_threshold if math.isfinite(with_threshold) else None)
            if views is not None:
                accuracy, score = _measured(metric, loss, class_scores(*with_net, views), y_test_N)
                view_accuracies.append(accuracy)
                view_scores.append(score)
        if seed_ended is not None:
            seed_ended(seed, accuracies[-1])
    if all(accuracy is None for accuracy in accuracies):
        raise RefusedError(
            f"trial {stored.trial.number} of {study!r} exploded with every seed: {', '.join(map(str, seeds))}."
        )
    result = FinalTest(
        study=study,
        number=stored.trial.number,
        params=stored.trial.params,
        origin=origin_of(stored.trial.attrs),
        val_acc=stored.trial.value if metric.is_accuracy else trial_record(stored.trial).best_acc,
        epochs=epochs,
        trained_epochs=tuple(trained),
        measured_epochs=tuple(measured),
        train_on_val=train_on_val,
        num_train=data.num_train,
        num_test=len(y_test_N),
        class_names=data.class_names,
        seeds=seeds,
        accuracies=tuple(accuracies),
        confusion=confusion,
        uses=count_uses([find_study(db, study)], list_studies(db), which[0]).with_next,
        test_images=which[0],
        metric=metric,
        value=stored.trial.value,
        scores=tuple(scores),
        measures={
            name: float(np.mean([found[name] for found in all_found]))
            for name in METRICS
            if all(name in found for found in all_found)
        },
        thresholds=tuple(thresholds),
        scores_at_threshold=tuple(at_threshold),
        views=views,
        view_accuracies=tuple(view_accuracies) if views is not None else (),
        view_scores=tuple(view_scores) if views is not None else (),
    )
    _keep(db, stored, result)
    return result


def _measured(metric: Metric, loss: Loss, logits_NC: Tensor, y_N: Tensor) -> tuple[float, float | None]:
    """Accuracy, and the score by the metric; None where that is no number."""
    accuracy = float((logits_NC.argmax(1) == y_N).double().mean())
    score = accuracy if metric.is_accuracy else score_of(metric.name, logits_NC, y_N, loss)
    return accuracy, score if math.isfinite(score) else None


def joined(data: TrainingData) -> TrainingData:
    """The validation images added to those to train on, normalized as before."""
    train, val = data.x_train_NCHW, data.x_val_NCHW
    if isinstance(train, StoredImages) and isinstance(val, StoredImages):
        x_NCHW: Tensor | StoredImages = train.followed_by(val)
    else:
        assert isinstance(val, Tensor)
        x_NCHW = torch.cat([data.train_images(), val])
    return replace(
        data,
        x_train_NCHW=x_NCHW,
        y_train_N=torch.cat([data.y_train_N, data.y_val_N]),
        other_folds=(),
    )


def confusion_matrix(y_N: Tensor, predicted_N: Tensor, num_classes: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Images by true (row) and predicted (column) class."""
    cells_N = (y_N * num_classes + predicted_N).cpu().numpy()
    return np.bincount(cells_N, minlength=num_classes**2).reshape(num_classes, num_classes).astype(np.int64)


def _keep(db: Database, stored: StoredTrial, result: FinalTest) -> None:
    """Add the use to the study; of the uses before, the large parts go, so that the attribute stays small."""
    small = [{k: v for k, v in use.items() if k != "confusion"} for use in stage_record(stored.study).tests]
    use = result.as_dict()
    for name in ("study", "params", "interval_kind", "family", "family_use", "images_use"):
        del use[name]
    use[TEST_IMAGES] = result.test_images
    if len(result.class_names) > MAX_CLASSES_STORED:
        for name in ("confusion", "per_class", "classes"):
            del use[name]
    use["time"] = datetime.now(UTC).isoformat(timespec="milliseconds")
    write_attrs(db, stored.study, {attributes.TESTS: [*small, use]})
