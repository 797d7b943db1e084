"""The nets that an ensemble may be made of, and where their weights come from.

A member is a net with its weights, whoever trained it and however many there are of one trial: the best trials of a
study have theirs kept (`run.keep`), or are trained again as `rerun` does it; other seeds, and training images drawn
with replacement (bagging, Breiman 1996), are trained as `test` does it. What is trained is kept with its study, so that
it is trained once. Of one training there may be several states, its snapshots (`ensemble_snapshots`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hpsearch.analysis import attributes
from hpsearch.analysis.kept_ensembles import KeptTraining, kept_training
from hpsearch.analysis.records import stage_record
from hpsearch.analysis.trial_records import trial_record
from hpsearch.config import RunConfig
from hpsearch.datasets.device import TrainingData
from hpsearch.datasets.preprocessing import Preprocessing
from hpsearch.datasets.stored import StoredImages
from hpsearch.results import EpochResult
from hpsearch.runtime import step_seed
from hpsearch.search.ensemble_snapshots import snapshot_epochs
from hpsearch.search.stored_trials import StoredTrial, Training, retrain
from hpsearch.search.trained_net import TrainedNet, weights_of
from hpsearch.storage import Database
from hpsearch.storage.system_attributes import AttrChange, change_attrs
from hpsearch.worker.best_weights import read_weights, write_portrait


@dataclass(frozen=True)
class Wanted:
    """A training of a trial: its own, that of another seed, or on images drawn with replacement."""

    stored: StoredTrial
    seed: int
    bagged: bool = False
    snapshots: bool = False
    """Whether its states at the ends of the cycles of its rate are wanted."""

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
    is_averaged: bool = True
    """Not so of the best epoch of a training whose snapshots are averaged, if it is none of them."""


def is_kept(wanted: Wanted, run: RunConfig) -> bool:
    """Whether its weights are here, and those of its snapshots where they are wanted."""
    return _file_of(wanted, run) is not None and (not wanted.snapshots or _snapshots_of(wanted, run) is not None)


def kept_members(wanted: Wanted, data: TrainingData, run: RunConfig) -> list[Member]:
    """The nets of a training whose weights are here: one, or its snapshots and its best epoch.

    Raises:
        StorageError: they cannot be read.
    """
    found = _file_of(wanted, run)
    assert found is not None
    path, epoch = found
    best = _read_member(wanted, data, path, epoch)
    files = _snapshots_of(wanted, run) if wanted.snapshots else None
    if files is None:
        return [best]
    return _with_best({end: _read_member(wanted, data, path, end) for end, path in files.items()}, best)


def _read_member(wanted: Wanted, data: TrainingData, path: Path, epoch: int | None) -> Member:
    state, preprocessing = read_weights(path)
    return Member(wanted, TrainedNet(wanted.stored, state, preprocessing or Preprocessing.of(data)), epoch, path)


def _with_best(snapshots: Mapping[int, Member], best: Member) -> list[Member]:
    """Of one training: that of the best epoch stands in its snapshot's place, or before all, and leads its equals."""
    if best.epoch in snapshots:
        return [best if epoch == best.epoch else each for epoch, each in snapshots.items()]
    return [replace(best, is_averaged=False), *snapshots.values()]


def _file_of(wanted: Wanted, run: RunConfig) -> tuple[Path, int | None] | None:
    """Where weights are kept, and of which epoch: with the trial or its study, or for an ensemble before."""
    stored, number = wanted.stored, wanted.stored.trial.number
    if wanted.is_own and (path := weights_of(stored, run)) is not None:
        best = stage_record(stored.study).weights
        is_bests = best is not None and best.number == number and best.path.name == path.name
        return path, best.epoch if is_bests and best is not None else trial_record(stored.trial).best_epoch
    training = _training_of(wanted)
    path = _here(training.path, run) if training is not None else None
    return (path, training.epoch) if training is not None and path is not None else None


def _snapshots_of(wanted: Wanted, run: RunConfig) -> dict[int, Path] | None:
    """Where they are kept, by epoch; None unless all of them are here."""
    training = _training_of(wanted)
    if training is None or training.snapshots is None:
        return None
    found = {epoch: _here(path, run) for epoch, path in training.snapshots.items()}
    here = {epoch: path for epoch, path in found.items() if path is not None}
    return here if len(here) == len(found) else None


def _training_of(wanted: Wanted) -> KeptTraining | None:
    own = wanted.stored.trial.number, wanted.seed, wanted.bagged
    kept = stage_record(wanted.stored.study).trainings
    return next((each for each in kept if (each.number, each.seed, each.bagged) == own), None)


def _here(path: Path, run: RunConfig) -> Path | None:
    return next((place for place in (path, Path(run.artifact_dir, path.name)) if place.is_file()), None)


def train_members(db: Database, wanted: Wanted, data: TrainingData, run: RunConfig) -> tuple[Training, list[Member]]:
    """Train it and keep its weights; no member where it exploded.

    Own seeds are trained up to the epoch where the trial ended, as its curve may end by rounding elsewhere. What is
    kept of the best epoch already stays what counts for it.
    """
    stored, is_own = wanted.stored, wanted.is_own
    training = retrain(
        stored.config,
        bootstrapped(data, stored.trial.number, wanted.seed) if wanted.bagged else data,
        wanted.seed,
        epochs=stored.last_epoch if is_own else stored.epochs,
        stops_early=not is_own,
        also=snapshot_epochs(stored) if wanted.snapshots else (),
        engine=run.engine,
    )
    if training.state is None or training.best is None:
        return training, []
    best_net = TrainedNet(stored, training.state, Preprocessing.of(data))
    if (found := _file_of(wanted, run)) is not None:
        best = _read_member(wanted, data, *found)
    else:
        path = _write(best_net, training.best, data, run)
        best = Member(wanted, best_net, training.best.epoch, path)
    snapshots: dict[int, Member] = {}
    for epoch, state in training.states.items():
        if epoch == best.epoch:
            snapshots[epoch] = best
            continue
        net = replace(best_net, state=state)
        snapshots[epoch] = Member(wanted, net, epoch, _write(net, training.results[epoch - 1], data, run))
    members = _with_best(snapshots, best) if wanted.snapshots else [best]
    paths = {epoch: each.path for epoch, each in snapshots.items() if each.path is not None}
    if best.path is not None and len(paths) == len(snapshots):
        epoch = training.best.epoch if best.epoch is None else best.epoch
        new = KeptTraining(
            stored.trial.number, wanted.seed, wanted.bagged, epoch, best.path, paths if wanted.snapshots else None
        )
        _keep(db, stored, new)
    return training, members


def _write(net: TrainedNet, result: EpochResult, data: TrainingData, run: RunConfig) -> Path | None:
    """Keep weights, those after the epoch of this result; None if nothing is kept, or they cannot be written."""
    if run.keep == "none":
        return None
    numbered = replace(result, number=net.stored.trial.number)
    return write_portrait(Path(run.artifact_dir), net.state, net.stored.config, data, numbered)


def _keep(db: Database, stored: StoredTrial, new: KeptTraining) -> None:
    """Add it to the study; it takes the place of one whose weights, or snapshots, are gone."""

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
