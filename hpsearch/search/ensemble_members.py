"""The nets that an ensemble may be made of: which ones, and where their weights come from.

A member is a net with its weights, whoever trained it and however many there are of one trial: the best trials of a
study have theirs kept (`run.keep`), or are trained again as `rerun` does it; other seeds, and training images drawn
with replacement (bagging, Breiman 1996), are trained as `test` does it. What is trained is kept with its study, so that
it is trained once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hpsearch.analysis import attributes
from hpsearch.analysis.kept_ensembles import KeptTraining, kept_training
from hpsearch.analysis.records import stage_record, trial_record
from hpsearch.analysis.study_trials import StudyTrials
from hpsearch.analysis.summary import best_or_refuse
from hpsearch.config import RunConfig, differences
from hpsearch.datasets.device import TrainingData
from hpsearch.datasets.preprocessing import Preprocessing
from hpsearch.datasets.stored import StoredImages
from hpsearch.errors import ConfigError, RefusedError
from hpsearch.runtime import step_seed
from hpsearch.search.stored_trials import StoredTrial, Training, retrain, stored_trial
from hpsearch.search.trained_net import TrainedNet, weights_of
from hpsearch.storage import Database, TrialRow
from hpsearch.storage.system_attributes import AttrChange, change_attrs
from hpsearch.wording import count_text
from hpsearch.worker.best_weights import read_weights, write_portrait

DEFAULT_TOP = 5
SPLIT = (
    "val",
    "seed",
    "limit",
    "group",
    "resize",
)  # keys of [data] that decide which images validate, and how files look


@dataclass(frozen=True)
class Wanted:
    """A training of a trial: its own, that of another seed, or on images drawn with replacement."""

    stored: StoredTrial
    seed: int
    bagged: bool = False

    @property
    def is_own(self) -> bool:
        """Whether it is the one that the study has recorded."""
        return self.seed == self.stored.seed and not self.bagged

    @property
    def seconds(self) -> float | None:
        """How long the trial was in training, beside those of its pack; None where that is not recorded."""
        trial = self.stored.trial
        if trial.started is None or trial.completed is None:
            return None
        return (trial.completed - trial.started).total_seconds()

    @property
    def text(self) -> str:
        """`trial 5 of fine`, and what makes it another training."""
        parts = [f"trial {self.stored.trial.number} of {self.stored.study.name}"]
        parts += [f"seed {self.seed}"] if self.seed != self.stored.seed else []
        parts += ["images drawn with replacement"] if self.bagged else []
        return ", ".join(parts)


@dataclass(frozen=True, eq=False)
class Member:
    """A trained net; a trial may give several, which differ in seed, images or epoch."""

    wanted: Wanted
    net: TrainedNet
    epoch: int | None
    """Of the weights; None where an older version kept those after the last one."""
    path: Path | None
    """With its weights; None where they could not be written."""


def wanted_members(
    evidence: StudyTrials, run: RunConfig, *, top: int | None, num_seeds: int, bagged: bool, kept_only: bool
) -> list[Wanted]:
    """The best trials of a study, the best one first, each with its own seed and those that follow it.

    Args:
        evidence: a stage of ours.
        run: where weights are kept.
        top: so many trials; None: 5, or as many as there are; with several seeds, 1.
        num_seeds: of each trial.
        bagged: train all of them on images drawn with replacement.
        kept_only: only trials whose weights are kept.

    Raises:
        ConfigError: there are not so many.
        RefusedError: none has finished, or has its weights kept; or as `stored_trial`.
    """
    best_or_refuse(evidence)
    study, num = evidence.study.name, top or (DEFAULT_TOP if num_seeds == 1 else 1)
    chosen: list[StoredTrial] = []
    for trial in _ranked(evidence):
        stored = stored_trial(evidence, trial.number)
        if not kept_only or is_kept(Wanted(stored, stored.seed), run):
            chosen.append(stored)
        if len(chosen) == num:
            break
    if not chosen:
        raise RefusedError(
            f"no weights of {study!r} are kept, so --kept leaves no net.\n"
            "Allowed: the same without --kept, which trains them again; or a search with --keep all."
        )
    if top is not None and top > len(chosen):
        kept = " whose weights are kept" if kept_only else ""
        raise ConfigError(
            f"--top {top}: {study!r} has {count_text(len(chosen), 'finished trial')}{kept}.\n"
            f"Allowed: 1 to {len(chosen)}{'; without --kept, others are trained again' if kept_only else ''}."
        )
    wanted = [Wanted(stored, stored.seed + k, bagged) for stored in chosen for k in range(num_seeds)]
    return wanted if num_seeds == 1 or not evidence.record.is_training else _by_seed(evidence, wanted)


def _by_seed(evidence: StudyTrials, wanted: Sequence[Wanted]) -> list[Wanted]:
    """Of a study whose trials differ by their seed alone: each seed once, by the trial that has it if it finished."""
    own = {(stored := stored_trial(evidence, trial.number)).seed: stored for trial in _ranked(evidence)}
    each_once = {each.seed: each for each in reversed(wanted)}
    return [replace(each, stored=own.get(seed, each.stored)) for seed, each in reversed(each_once.items())]


def _ranked(evidence: StudyTrials) -> list[TrialRow]:
    """All that finished, by value."""
    goodness = evidence.metric.goodness
    finished = [t for t in evidence.trials if t.state == "COMPLETE" and t.value is not None and math.isfinite(t.value)]
    return sorted(finished, key=lambda trial: (-goodness(trial.value), trial.number))


def refuse_other_images(wanted: Sequence[Wanted]) -> None:
    """Say no to trials that were not validated on the same images, or are not compared by the same measure.

    Raises:
        RefusedError: two of them, with what is different.
    """
    first = wanted[0].stored
    for other in (each.stored for each in wanted):
        lines = differences(_compared(first), _compared(other))
        if lines and _compared(first)["images"] != _compared(other)["images"]:
            sources = [{"data": {"source": each.config.data.source}} for each in (first, other)]
            lines = [*differences(sources[0], sources[1]), *lines]
        if lines:
            whose = f"{first.study.name!r} and {other.study.name!r}"
            if first.study.name == other.study.name:
                whose = f"trials {first.trial.number} and {other.trial.number} of {first.study.name!r}"
            raise RefusedError(
                f"{whose} cannot be one ensemble: {'; '.join(lines)}.\n"
                f"Allowed: the same images, {', '.join(f'data.{key}' for key in SPLIT)} and train.metric."
            )


def _compared(stored: StoredTrial) -> dict[str, Any]:
    config = stored.config
    return {
        "images": stage_record(stored.study).images.fingerprint,
        "data": {key: getattr(config.data, key) for key in SPLIT},
        "train": {"metric": config.train.metric},
    }


def is_kept(wanted: Wanted, run: RunConfig) -> bool:
    """Whether its weights are here."""
    return _file_of(wanted, run) is not None


def kept_members(wanted: Wanted, data: TrainingData, run: RunConfig) -> list[Member]:
    """The nets of a training whose weights are here: one, or as many as states are kept of it.

    Raises:
        StorageError: they cannot be read.
    """
    found = _file_of(wanted, run)
    assert found is not None
    path, epoch = found
    state, preprocessing = read_weights(path)
    return [Member(wanted, TrainedNet(wanted.stored, state, preprocessing or Preprocessing.of(data)), epoch, path)]


def _file_of(wanted: Wanted, run: RunConfig) -> tuple[Path, int | None] | None:
    """Where weights are kept, and of which epoch: with the trial or its study, or for an ensemble before."""
    stored, number = wanted.stored, wanted.stored.trial.number
    record = stage_record(stored.study)
    if wanted.is_own and (path := weights_of(stored, run)) is not None:
        best = record.weights
        is_bests = best is not None and best.number == number and best.path.name == path.name
        return path, best.epoch if is_bests and best is not None else trial_record(stored.trial).best_epoch
    for training in record.trainings:
        if (training.number, training.seed, training.bagged) == (number, wanted.seed, wanted.bagged):
            for path in (training.path, Path(run.artifact_dir, training.path.name)):
                if path.is_file():
                    return path, training.epoch
    return None


def train_members(db: Database, wanted: Wanted, data: TrainingData, run: RunConfig) -> tuple[Training, list[Member]]:
    """Train it and keep its weights; no member where it exploded.

    Own seeds are trained up to the epoch where the trial ended, as its curve may end by rounding elsewhere.
    """
    stored, is_own = wanted.stored, wanted.is_own
    training = retrain(
        stored.config,
        bootstrapped(data, stored.trial.number, wanted.seed) if wanted.bagged else data,
        wanted.seed,
        epochs=stored.last_epoch if is_own else stored.epochs,
        stops_early=not is_own,
        engine=run.engine,
    )
    if training.state is None or training.best is None:
        return training, []
    best, path = replace(training.best, number=stored.trial.number), None
    if run.keep != "none":
        path = write_portrait(Path(run.artifact_dir), training.state, stored.config, data, best)
    if path is not None:
        _keep(db, stored, KeptTraining(stored.trial.number, wanted.seed, wanted.bagged, best.epoch, path))
    net = TrainedNet(stored, training.state, Preprocessing.of(data))
    return training, [Member(wanted, net, best.epoch, path)]


def _keep(db: Database, stored: StoredTrial, new: KeptTraining) -> None:
    """Add it to the study; it takes the place of one whose weights are gone."""

    def same(other: KeptTraining) -> bool:
        return (other.number, other.seed, other.bagged) == (new.number, new.seed, new.bagged)

    def decide(before: Any) -> AttrChange:
        rows = before if isinstance(before, list) else []
        others = [row for row in rows if (kept := kept_training(row)) is not None and not same(kept)]
        return AttrChange({attributes.TRAININGS: [*others, new.as_dict()]})

    change_attrs(db, stored.study, attributes.TRAININGS, decide)


def bootstrapped(data: TrainingData, number: int, seed: int) -> TrainingData:
    """As many training images, drawn with replacement by the number of a trial and its seed."""
    rows_N = bootstrap_rows(data.y_train_N.cpu().numpy(), step_seed(seed, 0, number, "bootstrap"))
    x_NCHW, rows = data.x_train_NCHW, torch.from_numpy(rows_N)
    drawn: Tensor | StoredImages
    if isinstance(x_NCHW, StoredImages):
        drawn = replace(x_NCHW, rows_N=x_NCHW.rows_N[rows_N])
    else:
        drawn = x_NCHW.index_select(0, rows.to(x_NCHW.device))
    return replace(
        data, x_train_NCHW=drawn, y_train_N=data.y_train_N.index_select(0, rows.to(data.y_train_N.device)), memory=None
    )


def bootstrap_rows(y_N: np.ndarray[Any, Any], seed: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """As many rows, drawn with replacement among those of each class: none vanishes, however rare; ascending."""
    generator = np.random.default_rng(seed)
    drawn = [generator.choice(own, len(own)) for label in np.unique(y_N) for own in [np.flatnonzero(y_N == label)]]
    rows: np.ndarray[Any, np.dtype[np.int64]] = np.sort(np.concatenate(drawn)).astype(np.int64)
    return rows
