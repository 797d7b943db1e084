"""Where trials of the user's code have a folder each: its checkpoint, what it reported, what it printed."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

from hpsearch.config import RunConfig
from hpsearch.results import Direction, goodness
from hpsearch.stages.plan import StagePlan
from hpsearch.storage import Database, StudyRow, TrialRow

OUTPUT = "output.txt"  # in a trial's folder


def folder_of_stage(artifact_dir: str, db: Database, study: StudyRow, fingerprint: str) -> Path:
    """Where the folders of the trials of a stage are, on the machines whose workers trained them.

    Args:
        artifact_dir: run.artifact_dir of these workers.
        db: that of the stage.
        study: the stage.
        fingerprint: of what the stage was made from, as the study keeps it.
    """
    database = hashlib.sha256(db.url.encode()).hexdigest()[:8]
    return Path(artifact_dir) / "trials" / f"{fingerprint}-{study.study_id}-{database}"


class TrialFolders:
    """The folders of one stage, called as the numbers of its trials. The same search in another database has others.

    Args:
        db: that of the stage.
        plan: what the stage was made from.
        study: the stage.
        run: whose checkpoints are kept, and where.
        direction: of the values.
        best: the trials so far that have a value, the best first.
        num_kept: of how many of the best the checkpoints stay; more than one where another may turn out to be the best.
    """

    def __init__(
        self,
        db: Database,
        plan: StagePlan,
        study: StudyRow,
        run: RunConfig,
        direction: Direction,
        best: Sequence[TrialRow] = (),
        num_kept: int = 1,
    ) -> None:
        self.root = folder_of_stage(run.artifact_dir, db, study, plan.fingerprint(""))
        self._keep, self._direction = run.keep, direction
        self._best = [(row.number, row.value) for row in best][:num_kept]
        self._num_kept = num_kept

    def of(self, number: int) -> Path:
        """The folder of a trial."""
        return self.root / str(number)

    def output(self, number: int) -> Path:
        """What it printed."""
        return self.of(number) / OUTPUT

    def checkpoint(self, number: int) -> Path:
        """What it keeps for another attempt."""
        return self.of(number) / "checkpoint"

    def has_checkpoint(self, number: int) -> bool:
        """Whether it keeps anything."""
        return any(self.checkpoint(number).glob("*"))

    def clear(self, number: int) -> None:
        """Forget all of it: what is there is of a database that is gone."""
        shutil.rmtree(self.of(number), ignore_errors=True)

    def drop_checkpoint(self, number: int) -> None:
        """Nobody goes on from it."""
        shutil.rmtree(self.checkpoint(number), ignore_errors=True)

    def completed(self, number: int, value: float) -> None:
        """Let checkpoints go that are not to be kept: with run.keep = best, all but the best trial's."""
        if self._keep == "all":
            return
        if self._keep != "best":
            self.drop_checkpoint(number)
            return
        ranked = sorted([*self._best, (number, value)], key=lambda each: -goodness(each[1], self._direction))
        self._best = ranked[: self._num_kept]
        for gone, _ in ranked[self._num_kept :]:
            self.drop_checkpoint(gone)

    def called_again(self, number: int) -> None:
        """A trial has ended that called another one again, whose checkpoint is kept in its place."""
        if self._keep != "all":
            self.drop_checkpoint(number)
