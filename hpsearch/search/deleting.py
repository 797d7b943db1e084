"""What belongs to a study, here and in its database, and its deletion."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpsearch.analysis.records import stage_record
from hpsearch.analysis.trial_records import trial_record
from hpsearch.config import RunConfig
from hpsearch.stages.continued import states_folder
from hpsearch.storage import Database, StudyRow, TrialRow, find_study, list_studies, read_trials
from hpsearch.storage.deleting import delete_study, refuse_held
from hpsearch.training.checkpoints import checkpoint_folder
from hpsearch.worker.top_snapshots import STATES
from hpsearch.worker.trial_folders import folder_of_stage

NAME = re.compile("[0-9a-f]{32}")  # of our files of weights: whatever else a database names is not deleted


@dataclass(frozen=True)
class Belongings:
    """What goes with a study.

    Attributes:
        study: itself.
        num_trials: in whatever state.
        weights: files of it on this machine.
        folders: of its trials, checkpoints and states on this machine.
        num_tests: uses of test images that it keeps, and that nobody counts any more.
        later: names of the studies whose ranges came from it, which stay.
    """

    study: StudyRow
    num_trials: int
    weights: tuple[Path, ...]
    folders: tuple[Path, ...]
    num_tests: int
    later: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "study": self.study.name,
            "trials": self.num_trials,
            "weights": list(map(str, self.weights)),
            "folders": list(map(str, self.folders)),
            "tests": self.num_tests,
            "later": list(self.later),
        }


def belongings(db: Database, run: RunConfig, name: str) -> Belongings:
    """What would be deleted with a study.

    Raises:
        StudyNotFoundError: there is none of that name.
        RefusedError: workers hold trials of it.
    """
    study = find_study(db, name)
    refuse_held(db, study)
    trials = read_trials(db, study)
    root = Path(run.artifact_dir)
    found = (place for path in _weights(study, trials) for place in (path, root / path.name))
    weights = dict.fromkeys(place.resolve() for place in found if NAME.fullmatch(place.name) and place.is_file())
    record = stage_record(study)
    fingerprint = record.fingerprint
    folders = [
        folder_of_stage(run.artifact_dir, db, study, fingerprint),
        root / "checkpoints" / checkpoint_folder(fingerprint, study.study_id),
        root / STATES / states_folder(study),
    ]
    later = tuple(other.name for other in list_studies(db) if stage_record(other).source == name)
    there = tuple(folder for folder in folders if fingerprint.isalnum() and folder.is_dir())
    return Belongings(study, len(trials), tuple(weights), there, len(record.tests), later)


def _weights(study: StudyRow, trials: list[TrialRow]) -> Iterator[Path]:
    """Of its best trial, of each one that keeps its own, and of those that were trained again for ensembles."""
    record = stage_record(study)
    if record.weights is not None:
        yield record.weights.path
    for trial in trials:
        if (path := trial_record(trial).weights) is not None:
            yield path
    for training in record.trainings:
        yield training.path
        yield from (training.snapshots or {}).values()


def delete(db: Database, owned: Belongings) -> None:
    """Delete a study, and then its files: what is left by a kill in between is files that nothing refers to.

    Raises:
        RefusedError: workers hold trials of it meanwhile; nothing is deleted.
    """
    delete_study(db, owned.study)
    for path in owned.weights:
        path.unlink(missing_ok=True)
    for folder in owned.folders:
        shutil.rmtree(folder, ignore_errors=True)
