"""Checkpoints on disk: one trial each, so that any worker can go on with it in another pack.

    FOLDER/NUMBER/EPOCH.safetensors   weights, buffers, optimizer state; weights and buffers of the best epoch
    FOLDER/NUMBER/EPOCH.json          epoch, results so far, checksum of the other file

Where the best epoch is the last one, its weights are there once. The results say which one it was.

The JSON is written last and in one piece, so a checkpoint is there whole or not at all. Two generations are kept: where
the newest one is damaged, the one before serves. Nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from hpsearch.datasets.atomic import replacing
from hpsearch.errors import HpsearchError
from hpsearch.logs import get_logger
from hpsearch.results import Direction, EpochResult, best_epoch
from hpsearch.training.snapshot import Snapshot

GENERATIONS = 2  # checkpoints kept of each trial

log = get_logger(__name__)


class CheckpointError(HpsearchError):
    """A checkpoint is damaged or cannot be written."""


@dataclass(frozen=True)
class Checkpoint:
    """A trial to go on with, and what it had reported up to there."""

    snapshot: Snapshot
    results: list[EpochResult]


class Checkpoints:
    """The checkpoints of one study in a folder of its own.

    Args:
        root: of all studies.
        name: an id that we made, never a user's text.
        needs_best: whether the weights of best epochs are kept; checkpoints without them are passed over then.
        direction: of the metric, by which the best epoch is found.
    """

    def __init__(self, root: Path, name: str, *, needs_best: bool = True, direction: Direction = "maximize") -> None:
        self.folder, self.needs_best, self.direction = root / name, needs_best, direction

    def save(self, number: int, checkpoint: Checkpoint) -> None:
        """Write a trial's state after an epoch, and drop all but the newest generations.

        Raises:
            CheckpointError: the folder cannot be written or the disk is full; earlier ones are whole.
        """
        folder, epoch = self.folder / str(number), checkpoint.snapshot.epoch
        tensors = save_tensors({name: t.contiguous() for name, t in checkpoint.snapshot.tensors.items()})
        described = {
            "epoch": epoch,
            "checksum": _checksum(tensors),
            "results": [result.as_plain() for result in checkpoint.results],
        }
        try:
            with replacing(folder / f"{epoch}.safetensors") as file:
                file.write(tensors)
            with replacing(folder / f"{epoch}.json") as file:
                file.write(json.dumps(described).encode())
            for old in self._epochs(number)[GENERATIONS:]:
                self._drop(number, old)
        except OSError as error:
            free = shutil.disk_usage(_existing(folder)).free
            raise CheckpointError(
                f"the checkpoint of trial {number} cannot be written to {folder}: {error.strerror}.\n"
                f"Free on that disk: {free:,} bytes."
            ) from error

    def load(self, number: int) -> Checkpoint | None:
        """The newest whole checkpoint of a trial; None without any. Damaged ones are logged and passed over."""
        for epoch in self._epochs(number):
            try:
                return self._read(number, epoch)
            except (CheckpointError, OSError, ValueError, KeyError, TypeError) as error:
                log.warning("trial %d: %s; using an earlier epoch", number, error)
        return None

    def scores(self) -> dict[int, float]:
        """The value of each trial that has a checkpoint, of its best epoch up to the newest one; by number.

        Read without the weights; what cannot be read is left out.
        """
        found: dict[int, float] = {}
        for folder in self.folder.glob("*/"):
            if not folder.name.isdecimal() or not (epoch := self.newest_epoch(int(folder.name))):
                continue
            try:
                described = json.loads((folder / f"{epoch}.json").read_bytes())
                results = [EpochResult.of_plain(result) for result in described["results"]]
                found[int(folder.name)] = best_epoch(results, self.direction).val_score
            except (OSError, ValueError, KeyError, TypeError):  # another worker has dropped it, or it is damaged
                continue
        return found

    def newest_epoch(self, number: int) -> int:
        """Epochs done in a trial's newest checkpoint, whole or not; 0 without any."""
        return next(iter(self._epochs(number)), 0)

    def remove(self, number: int) -> None:
        """Drop all checkpoints of a trial."""
        shutil.rmtree(self.folder / str(number), ignore_errors=True)

    def remove_all(self) -> None:
        """Drop the checkpoints of all trials."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _epochs(self, number: int) -> list[int]:
        """Epochs that have a checkpoint, newest first."""
        found = (self.folder / str(number)).glob("*.json")
        return sorted((int(path.stem) for path in found if path.stem.isdecimal()), reverse=True)

    def _read(self, number: int, epoch: int) -> Checkpoint:
        folder = self.folder / str(number)
        described = json.loads((folder / f"{epoch}.json").read_bytes())
        tensors = (folder / f"{epoch}.safetensors").read_bytes()
        if _checksum(tensors) != described["checksum"]:
            raise CheckpointError(f"checksum mismatch in {folder / f'{epoch}.safetensors'}")
        results = [EpochResult.of_plain(result) for result in described["results"]]
        if described["epoch"] != epoch or [result.epoch for result in results] != list(range(1, epoch + 1)):
            raise CheckpointError(f"{folder / f'{epoch}.json'} is of another epoch")
        best = best_epoch(results, self.direction) if results else None
        snapshot = Snapshot(epoch, load_tensors(tensors), best)
        if self.needs_best and not snapshot.has_best:
            raise CheckpointError(
                f"the checkpoint of epoch {epoch} holds no weights of its best epoch: an older version wrote it, or "
                "nobody's weights were kept"
            )
        return Checkpoint(snapshot, results)

    def _drop(self, number: int, epoch: int) -> None:
        for ending in ("json", "safetensors"):  # the announcement first
            (self.folder / str(number) / f"{epoch}.{ending}").unlink(missing_ok=True)


def checkpoint_folder(fingerprint: str, study_id: int) -> str:
    """The name of a study's folder: the same search in another database must not find it."""
    return f"{fingerprint}-{study_id}"


def _checksum(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _existing(folder: Path) -> Path:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder
