"""Training one stored trial again, from what its study keeps of it."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from hpsearch.analysis import attributes
from hpsearch.analysis.records import stage_record
from hpsearch.analysis.study_trials import StudyTrials
from hpsearch.analysis.trial_records import trial_record
from hpsearch.config import RunConfig, StudyConfig
from hpsearch.config.metric import ACCURACY, Metric
from hpsearch.config.net_folder import folder_hash
from hpsearch.config.usercode import names_in, refuse_untrusted
from hpsearch.datasets.device import TrainingData
from hpsearch.datasets.images import Progress
from hpsearch.errors import ConfigError, RefusedError, Typed
from hpsearch.results import EpochResult, Explosion, TrialSpec, best_epoch
from hpsearch.stages.opening import stored_plan
from hpsearch.stages.plan import StagePlan
from hpsearch.storage import StudyRow, TrialRow, is_paused
from hpsearch.training.early_stopping import stopped_early
from hpsearch.training.folds import make_pack
from hpsearch.training.images import load_images

SEARCHES = ("coarse", "fine", attributes.TRAIN)  # the kinds of studies whose best trial is a result


@dataclass(frozen=True)
class StoredTrial:
    """A trial with all that it was trained with."""

    study: StudyRow
    trial: TrialRow
    config: StudyConfig
    """Of the trial: its stage's, with its own hyperparameters and epochs."""

    @property
    def seed(self) -> int:
        """The seed it was trained with."""
        return self.config.train.seed

    @property
    def last_epoch(self) -> int | None:
        """That in which it ended before its time; None if it went through all, or raised."""
        return trial_record(self.trial).epoch

    @property
    def best_epoch(self) -> int:
        """That which gave the value of a COMPLETE trial."""
        epoch = trial_record(self.trial).best_epoch
        assert epoch is not None, "a trial with a value keeps which epoch gave it"
        return epoch

    @property
    def epochs(self) -> int:
        """Those that any seed gets: up to where a pruner or an explosion ended it, but not up to where patience did."""
        is_early = trial_record(self.trial).stopped_early
        return self.config.train.epochs if is_early or self.last_epoch is None else self.last_epoch


@dataclass(frozen=True)
class Training:
    """What one more training gave. `state` holds the weights that were asked for; None if it exploded."""

    seed: int
    results: list[EpochResult]
    explosion: Explosion | None
    state: Mapping[str, Tensor] | None
    metric: Metric = ACCURACY
    """What counts."""
    returned: float | None = None
    """By an objective of the user's: its value, whatever it reported on the way."""
    states: Mapping[int, Mapping[str, Tensor]] = field(default_factory=dict)
    """Weights after the epochs that were asked for, on the CPU; none if it exploded."""
    updates: Mapping[str, float] = field(default_factory=dict)
    """Update ratios of the layers, as `Pack.update_ratios` gives them."""
    takes_seed: bool = True
    """Whether it differs from the others by its seed; not all objectives take one."""

    @property
    def best(self) -> EpochResult | None:
        """Its best epoch; None if it exploded, or reported none."""
        if self.explosion is not None or not self.results:
            return None
        return best_epoch(self.results, self.metric.direction)

    @property
    def value(self) -> float | None:
        """The value that a stage would give it: that of train.metric in its best epoch; None if it exploded."""
        value = self.best.val_score if self.best is not None else None
        value = value if self.returned is None else self.returned
        return None if value is None or math.isnan(value) else value


def stored_trial(evidence: StudyTrials, number: int) -> StoredTrial:
    """A trial of a stage of ours that was begun once, to be trained again.

    Raises:
        ConfigError, RefusedError: as `find_trial`; or it names code that is not trusted, or its teacher is another now.
    """
    stored = find_trial(evidence, number)
    refuse_untrusted(names_in(stored.config.plain()))
    _refuse_other_teacher(stored)
    return stored


def _refuse_other_teacher(stored: StoredTrial) -> None:
    folder = stored.config.train.teacher
    train = (stage_record(stored.study).identity or {}).get("train", {})
    if folder is None or (then := train.get("teacher")) == (now := folder_hash("train.teacher", folder)):
        return
    raise RefusedError(
        f"{folder} does not hold the teacher that {stored.study.name!r} was trained with ({then} -> {now}).\n"
        "Bring that back, or search again under another name."
    )


def find_trial(evidence: StudyTrials, number: int) -> StoredTrial:
    """A trial of a stage of ours that was begun once; none of its code is asked about, nor imported.

    Raises:
        ConfigError: the study has no trial of that number.
        RefusedError: the study is no stage of a search of ours, or nobody has begun the trial.
    """
    plan = stored_plan(evidence.study)
    trial = begun_trial(evidence, plan, number)
    if plan.config.objective is not None:
        raise RefusedError(
            f"{evidence.study.name!r} searched over {plan.config.objective.name}, which is not ours to train."
            "\nIts best values: ",
            Typed(("hpsearch", "best", evidence.study.name, "-f", "toml")),
            "; again with other seeds: ",
            Typed(("hpsearch", "rerun", evidence.study.name, str(number))),
        )
    return StoredTrial(evidence.study, trial, plan.trial_config.with_params(trial.params))


def begun_trial(evidence: StudyTrials, plan: StagePlan, number: int) -> TrialRow:
    """A trial of a stage of ours that was begun once.

    Raises:
        ConfigError, RefusedError: as `find_trial`.
    """
    if plan.kind not in SEARCHES:
        raise RefusedError(
            f"{evidence.study.name!r} is a study of the kind {plan.kind!r}, so its trials are no results of a search.\n"
            f"Allowed: studies of the kinds {', '.join(SEARCHES)}."
        )
    trial = next((trial for trial in evidence.trials if trial.number == number), None)
    if trial is None:
        raise ConfigError(f"{evidence.study.name!r} has no trial {number}.\nAllowed: 0 ... {len(evidence.trials) - 1}.")
    if trial.state == "WAITING":
        raise RefusedError(f"trial {number} of {evidence.study.name!r} has not been trained yet.")
    return trial


def how_it_stands(trial: TrialRow) -> str:
    """Of a trial that is no result of its search, what follows its name: `is RUNNING`."""
    return "waits at a rung" if is_paused(trial.state, trial.attrs) else f"is {trial.state}"


def images_of(stored: StoredTrial, run: RunConfig, progress: Progress | None = None) -> TrainingData:
    """The images that the trial was trained on.

    Raises:
        RefusedError: what is there now are other images.
        DataError: they cannot be read.
    """
    data = load_images(stored.config, run, progress, as_features=False)
    kept = stage_record(stored.study).images.fingerprint
    if kept != data.fingerprint:
        raise RefusedError(
            f"{stored.config.data.source} does not hold the images that {stored.study.name!r} was trained on "
            f"({kept} -> {data.fingerprint}).\nBring those back, or search again under another name."
        )
    return data


def retrain(
    config: StudyConfig,
    data: TrainingData,
    seed: int,
    *,
    epochs: int | None = None,
    stops_early: bool = True,
    which: Literal["best", "last"] = "best",
    also: Collection[int] = (),
    engine: str = "auto",
) -> Training:
    """Train one trial alone, as a stage trains it.

    Args:
        config: of the trial, all its hyperparameters included.
        data: on the device on which to train.
        seed: train.seed.
        epochs: stop after so many; schedules stay those of the config's own number.
        stops_early: whether train.patience counts.
        which: the weights to keep, of the best epoch or of the last.
        also: epochs after which they are kept as well.
        engine: as run.engine.
    """
    config = config.with_params({"train.seed": seed})
    patience = config.train.patience if stops_early else None
    pack = make_pack(config, data, [TrialSpec(0)], engine=engine, keeps_best=which == "best")
    results: list[EpochResult] = []
    explosion: Explosion | None = None
    states: dict[int, Mapping[str, Tensor]] = {}
    last = config.train.epochs if epochs is None else min(epochs, config.train.epochs)
    while not pack.done and pack.epoch < last:
        report = pack.run_epoch()
        results += report.results
        explosion = next(iter(report.explosions), None)
        if explosion is None and pack.epoch in also:
            states[pack.epoch] = {name: tensor.cpu() for name, tensor in pack.state(0, "last").items()}
        values = [result.val_score for result in results]
        if patience is not None and stopped_early(values, patience, pack.metric.direction):
            break
    if explosion is not None:
        return Training(seed, results, explosion, None, pack.metric)
    updates = pack.update_ratios(0)
    return Training(seed, results, None, pack.state(0, which), pack.metric, states=states, updates=updates)
