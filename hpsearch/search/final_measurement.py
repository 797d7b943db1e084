"""The one use of the test set: the best configuration, trained again, measured on images that nothing has seen.

Nothing else loads the test split, but for `ensemble` where that is asked for. Each use is kept with the stage, because
the second one is no longer a measurement of unseen images but the first step of a search on them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hpsearch.analysis import attributes
from hpsearch.analysis.lineage import family_of, num_tests
from hpsearch.analysis.records import stage_record, trial_record
from hpsearch.analysis.study_trials import read_study
from hpsearch.analysis.summary import best_or_refuse
from hpsearch.config import RunConfig
from hpsearch.config.metric import ACCURACY, METRICS, Metric
from hpsearch.datasets.device import TrainingData
from hpsearch.datasets.images import Progress
from hpsearch.datasets.preparing import prepare_test
from hpsearch.datasets.stored import StoredImages
from hpsearch.errors import RefusedError
from hpsearch.search.stored_trials import StoredTrial, images_of, retrain, stored_trial
from hpsearch.storage import Database, find_study, list_studies, write_attrs
from hpsearch.training.class_scores import class_scores
from hpsearch.training.images import as_trained
from hpsearch.training.metrics import all_measures, score_of
from hpsearch.training.threshold import find_threshold, score_at
from hpsearch.training.views import refuse_unknown_views

Z_95 = 1.959964  # standard normal quantile of a two-sided interval of 95%
MAX_CLASSES_STORED = 20  # a larger confusion matrix would be more than a few kB


@dataclass(frozen=True, eq=False)
class FinalTest:
    """What the test set said. `confusion` counts images, summed over seeds: rows true, columns predicted."""

    study: str
    number: int
    params: Mapping[str, Any]
    val_acc: float | None
    epochs: int
    """Those that each seed could have."""
    trained_epochs: tuple[int, ...]
    """By seed."""
    measured_epochs: tuple[int | None, ...]
    """By seed, the one whose weights were measured; None where the training exploded."""
    train_on_val: bool
    num_train: int
    num_test: int
    class_names: tuple[str, ...]
    seeds: tuple[int, ...]
    accuracies: tuple[float | None, ...]
    """By seed; None where the training exploded."""
    confusion: np.ndarray[Any, np.dtype[np.int64]]
    num_uses: int
    """Of the test set for this stage, this one included."""
    num_family_uses: int
    """The same for all stages that descend from the same first one."""
    family: str
    """That first stage."""
    metric: Metric = ACCURACY
    """By which the trial was chosen."""
    value: float | None = None
    """Of the trial, by that metric."""
    scores: tuple[float | None, ...] = ()
    """By seed, of the test images by that metric."""
    measures: Mapping[str, float] = field(default_factory=dict)
    """All that we measure, mean over seeds."""
    thresholds: tuple[float | None, ...] = ()
    """By seed, of two classes: found on the validation images with the weights that were measured; see
    `training.threshold`. None without images to find it on; empty where there is none to find.
    """
    scores_at_threshold: tuple[float | None, ...] = ()
    """By seed, of the test images by the metric, with these thresholds."""
    views: str | None = None
    """Of each test image, over which probabilities were averaged for the numbers below; all others are without."""
    view_accuracies: tuple[float | None, ...] = ()
    """As `accuracies`, with views."""
    view_scores: tuple[float | None, ...] = ()
    """As `scores`, with views."""

    @property
    def view_mean(self) -> float | None:
        """Test accuracy with views, over seeds; None without."""
        measured = [accuracy for accuracy in self.view_accuracies if accuracy is not None]
        return float(np.mean(measured)) if measured else None

    @property
    def view_mean_score(self) -> float | None:
        """Of the metric with views, over seeds; None without, and where it gave no number."""
        measured = [score for score in self.view_scores if score is not None]
        return float(np.mean(measured)) if measured else None

    @property
    def measured(self) -> list[float]:
        """The accuracies that there are."""
        return [accuracy for accuracy in self.accuracies if accuracy is not None]

    @property
    def mean(self) -> float:
        """Test accuracy, over seeds."""
        return float(np.mean(self.measured))

    @property
    def std(self) -> float | None:
        """Of the accuracy over seeds (n - 1); None for one."""
        return float(np.std(self.measured, ddof=1)) if len(self.measured) > 1 else None

    @property
    def interval(self) -> tuple[float, float]:
        """95% for the mean accuracy, Wilson; see `wilson_interval`."""
        return wilson_interval(self.mean, self.num_test)

    @property
    def mean_score(self) -> float | None:
        """Of the metric, over seeds; None where it gave no number."""
        scores = self.measured_scores
        return float(np.mean(scores)) if scores else None

    @property
    def std_score(self) -> float | None:
        """Of the metric, over seeds (n - 1); None below two."""
        scores = self.measured_scores
        return float(np.std(scores, ddof=1)) if len(scores) > 1 else None

    @property
    def measured_scores(self) -> list[float]:
        """The scores that there are."""
        return [score for score in self.scores if score is not None]

    @property
    def mean_at_threshold(self) -> float | None:
        """Of the metric with thresholds, over seeds; None without any."""
        scores = [score for score in self.scores_at_threshold if score is not None]
        return float(np.mean(scores)) if scores else None

    @property
    def per_class(self) -> list[float | None]:
        """Accuracy on the images of each class; None where the test split has none."""
        correct_C, total_C = self.confusion.diagonal(), self.confusion.sum(1)
        return [int(c) / int(n) if n else None for c, n in zip(correct_C, total_C, strict=True)]

    def as_dict(self) -> dict[str, Any]:
        """The test as JSON."""
        of_views = {
            "views": self.views,
            "view_accuracies": list(self.view_accuracies),
            "view_mean": self.view_mean,
            "view_scores": list(self.view_scores),
            "view_score": self.view_mean_score,
        }
        return {
            **(of_views if self.views is not None else {}),
            "study": self.study,
            "trial": self.number,
            "params": {k: list(v) if isinstance(v, tuple) else v for k, v in self.params.items()},
            "metric": self.metric.name,
            "value": self.value,
            "scores": list(self.scores),
            "score": self.mean_score,
            "score_std": self.std_score,
            "measures": dict(self.measures),
            **self._of_thresholds(),
            "val_acc": self.val_acc,
            "epochs": self.epochs,
            "trained_epochs": list(self.trained_epochs),
            "measured_epochs": list(self.measured_epochs),
            "train_on_val": self.train_on_val,
            "num_train": self.num_train,
            "num_test": self.num_test,
            "seeds": list(self.seeds),
            "accuracies": list(self.accuracies),
            "mean": self.mean,
            "std": self.std,
            "interval": list(self.interval),
            "interval_kind": "95%, Wilson, over test images",
            "classes": list(self.class_names),
            "per_class": self.per_class,
            "confusion": self.confusion.tolist(),
            "use": self.num_uses,
            "family": self.family,
            "family_use": self.num_family_uses,
        }

    def _of_thresholds(self) -> dict[str, Any]:
        if self.mean_at_threshold is None:
            return {}
        by_seed = {"thresholds": list(self.thresholds), "scores_at_threshold": list(self.scores_at_threshold)}
        return {**by_seed, "score_at_threshold": self.mean_at_threshold}


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
        ConfigError: there are no such views.
    """
    refuse_unknown_views(views)
    evidence = read_study(db, study)
    stored = stored_trial(evidence, best_or_refuse(evidence).number if number is None else number)
    if stored.trial.state != "COMPLETE":
        raise RefusedError(
            f"trial {stored.trial.number} of {study!r} is {stored.trial.state}, so it is no result of the search.\n"
            "Allowed: trials that are COMPLETE."
        )
    images = images_of(stored, run, progress)
    x_test_NCHW, y_test_N = prepare_test(stored.config.data, images, Path(run.data_dir), progress, run.memory)
    train_on_val = train_on_val or bool(images.other_folds)
    data = as_trained(stored.config, joined(images) if train_on_val else images, run)
    epochs = stored.best_epoch if train_on_val else stored.epochs
    seeds = tuple(range(stored.seed, stored.seed + num_seeds))
    accuracies: list[float | None] = []
    trained: list[int] = []
    measured: list[int | None] = []
    metric, scores = evidence.metric, list[float | None]()
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
            accuracy, score = _measured(metric, logits_NC, y_test_N)
            accuracies.append(accuracy)
            scores.append(score)
            all_found.append(all_measures(logits_NC, y_test_N))
            # Of images that nothing trained on, and none of the test set.
            found = None
            if not train_on_val and data.num_classes == 2:
                val_NC = class_scores(stored.config.model, training.state, images.x_val_NCHW, data.num_classes)
                found = find_threshold(metric.name, val_NC, data.y_val_N)
            thresholds.append(found.value if found is not None else None)
            with_threshold = score_at(found.value, metric.name, logits_NC, y_test_N) if found is not None else math.nan
            at_threshold.append(with_threshold if math.isfinite(with_threshold) else None)
            if views is not None:
                accuracy, score = _measured(metric, class_scores(*with_net, views), y_test_N)
                view_accuracies.append(accuracy)
                view_scores.append(score)
        if seed_ended is not None:
            seed_ended(seed, accuracies[-1])
    if all(accuracy is None for accuracy in accuracies):
        raise RefusedError(
            f"trial {stored.trial.number} of {study!r} exploded with every seed: {', '.join(map(str, seeds))}."
        )
    family = family_of(stored.study, list_studies(db))
    result = FinalTest(
        study=study,
        number=stored.trial.number,
        params=stored.trial.params,
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
        num_uses=num_tests([find_study(db, study)]) + 1,
        num_family_uses=num_tests(family) + 1,
        family=family[0].name,
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


def _measured(metric: Metric, logits_NC: Tensor, y_N: Tensor) -> tuple[float, float | None]:
    """Accuracy, and the score by the metric; None where that is no number."""
    accuracy = float((logits_NC.argmax(1) == y_N).double().mean())
    score = accuracy if metric.is_accuracy else score_of(metric.name, logits_NC, y_N)
    return accuracy, score if math.isfinite(score) else None


def wilson_interval(accuracy: float, num_images: int) -> tuple[float, float]:
    """95% interval of an accuracy on so many images (Wilson 1927).

    It covers the choice of the test images alone. More seeds are measured on the same images, so they do not narrow
    it; how much they differ is said beside it.
    """
    z2 = Z_95**2
    center = (accuracy + z2 / (2 * num_images)) / (1 + z2 / num_images)
    spread = accuracy * (1 - accuracy) / num_images + z2 / (4 * num_images**2)
    half = Z_95 / (1 + z2 / num_images) * math.sqrt(spread)
    # At 0 and 1 the formula's ends are these exactly, but for rounding.
    low = 0.0 if accuracy == 0 else center - half
    high = 1.0 if accuracy == 1 else center + half
    return low, high


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
    for name in ("study", "params", "interval_kind", "family", "family_use"):
        del use[name]
    if len(result.class_names) > MAX_CLASSES_STORED:
        for name in ("confusion", "per_class", "classes"):
            del use[name]
    use["time"] = datetime.now(UTC).isoformat(timespec="seconds")
    write_attrs(db, stored.study, {attributes.TESTS: [*small, use]})
