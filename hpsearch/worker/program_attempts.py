"""What another attempt of a trial of the user's code goes on from: its checkpoint, and what it had reported by then.

Both are in its folder: the database forgets what was reported when another attempt begins.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from hpsearch.datasets.atomic import replacing
from hpsearch.programs.program import Program
from hpsearch.results import EpochResult
from hpsearch.worker.held import HeldTrial
from hpsearch.worker.trial_folders import TrialFolders

CURVE = "reported.json"
MAX_KILLED = 3  # attempts of a trial whose process is killed each time, as one that needs too much memory


class ProgramAttempts:
    """Of the trials of a stage.

    Args:
        folders: of the trials.
        program: says, once it has started, whether the code takes a folder for checkpoints.
    """

    def __init__(self, folders: TrialFolders, program: Program) -> None:
        self._folders, self._program = folders, program

    @property
    def _keeps_checkpoints(self) -> bool:
        """Whether the code is told of a folder from which another attempt may go on."""
        return "checkpoint" in self._program.takes

    def _has_checkpoint(self, trial: HeldTrial) -> bool:
        return self._keeps_checkpoints and self._folders.has_checkpoint(trial.lease.number)

    def goes_on(self, trial: HeldTrial) -> bool:
        """Whether there is a checkpoint that the code may know of."""
        return self._has_checkpoint(trial) and trial.lease.attempt > 1

    def may_go_on(self, trial: HeldTrial) -> bool:
        """Whether another attempt could, of a trial whose process was killed, and has not been killed too often."""
        return self._has_checkpoint(trial) and trial.lease.attempt < MAX_KILLED

    def begin(self, trial: HeldTrial) -> list[EpochResult]:
        """What an earlier attempt reported, where the code goes on from its checkpoint; else that is forgotten."""
        number = trial.lease.number
        if trial.lease.attempt == 1:
            self._folders.clear(number)
        curve = self._curve(number)
        if not self.goes_on(trial):
            curve.unlink(missing_ok=True)
            return []
        return [EpochResult.of_value(number, epoch, value) for epoch, value in _read(curve).items()]

    def note(self, trial: HeldTrial) -> None:
        """Keep what the trial has reported so far: what its code saves next counts on this."""
        if self._keeps_checkpoints:
            _write(self._curve(trial.lease.number), trial.results)

    def _curve(self, number: int) -> Path:
        return self._folders.of(number) / CURVE


def _write(path: Path, results: Sequence[EpochResult]) -> None:
    """Replace the file, whole or not at all."""
    with replacing(path) as file:
        file.write(json.dumps([[result.epoch, result.val_score] for result in results]).encode())


def _read(path: Path) -> dict[int, float]:
    """Values by epoch; none where there is no such file."""
    try:
        return {int(epoch): float(value) for epoch, value in json.loads(path.read_bytes())}
    except (OSError, ValueError, TypeError):
        return {}
