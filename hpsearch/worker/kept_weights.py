"""Whose weights outlive the search: the best trial's, everybody's, or nobody's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hpsearch.config import RunConfig, StudyConfig
from hpsearch.datasets.device import TrainingData
from hpsearch.storage import Database, StudyRow, TrialRow
from hpsearch.training import Pack
from hpsearch.worker.best_weights import announce_portrait, write_portrait
from hpsearch.worker.pack_run import HeldTrial
from hpsearch.worker.writer import Writer


class Keeper:
    """Keeps weights of the trials that complete, as `run.keep` says.

    Args:
        db: where the best one is announced, by the writer.
        study: the stage.
        best: the best trial of the stage so far; None before the first value.
    """

    def __init__(self, db: Database, study: StudyRow, run: RunConfig, best: TrialRow | None) -> None:
        self.db, self.study, self.run_config = db, study, run
        self._best = None if best is None or best.value is None else (best.value, -best.number)
        """Value of the best, and its number, negative: of equals the lowest counts, in whatever order they end."""

    def keep(
        self,
        pack: Pack,
        config: StudyConfig,
        data: TrainingData,
        completed: Mapping[int, HeldTrial],
        writer: Writer,
    ) -> dict[int, Path]:
        """Files with the weights of trials that are still in the pack, by number; those of all, if all are kept."""
        if self.run_config.keep == "none" or not completed:
            return {}
        folder = Path(self.run_config.artifact_dir)
        paths: dict[int, Path] = {}

        def write(number: int) -> Path | None:
            if number not in paths:
                path = write_portrait(folder, pack, config, data, completed[number].best)
                if path is not None:
                    paths[number] = path
            return paths.get(number)

        number, trial = max(completed.items(), key=lambda item: (item[1].best.val_acc, -item[0]))
        value, epoch = trial.best.val_acc, trial.best.epoch
        if self._best is None or (value, -number) > self._best:
            self._best = value, -number
            if (best := write(number)) is not None:
                replaces = self.run_config.keep == "best"
                writer.later(
                    lambda: announce_portrait(self.db, self.study, best, number, value, epoch, replaces=replaces)
                )
        if self.run_config.keep == "all":
            for each in completed:
                write(each)
            return paths
        return {}
