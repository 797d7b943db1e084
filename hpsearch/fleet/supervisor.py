"""Worker processes on this machine: one per device, a dead one replaced at once, none left behind."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

from hpsearch.analysis import attributes
from hpsearch.config import RunConfig
from hpsearch.config.secret_files import SECRET_FILES
from hpsearch.config.usercode import trusted
from hpsearch.datasets.device import TrainingData
from hpsearch.datasets.memory import SharedMemory
from hpsearch.datasets.sharing import share
from hpsearch.errors import HpsearchError
from hpsearch.fleet.deaths import Deaths, resuming
from hpsearch.fleet.fork_server import Died, ForkServer, Note
from hpsearch.fleet.stage_follower import StageFollower
from hpsearch.fleet.supervised import IMAGES
from hpsearch.stages.listener import Listener
from hpsearch.storage import Database, Queue, StorageAwayError, StudyRow, new_worker_id
from hpsearch.training.checkpoints import Checkpoints, checkpoint_folder
from hpsearch.worker import spool
from hpsearch.worker.stopping import Stop

POLL_SECONDS = 0.5  # between two looks at the database; a death is heard of at once
EX_TEMPFAIL = 75  # a worker whose device is poisoned


class Supervisor:
    """Runs workers on one stage until it is done.

    Args:
        db: an open database.
        url: of the same, with its password: given to the workers by environment, never by argument.
        study: the stage.
        run: settings that the workers share.
        devices: of the workers, one each.
        listener: hears of each trial.
        stop: asked whether to go on.
        server: starts the workers; it is ended with the stage.
        threads: of each worker.
        images: those of the stage, shared with the workers; without them, each one loads its own.
    """

    def __init__(
        self,
        db: Database,
        url: str,
        study: StudyRow,
        run: RunConfig,
        devices: Sequence[str],
        listener: Listener,
        stop: Stop,
        server: ForkServer,
        *,
        threads: int,
        images: TrainingData | None = None,
    ) -> None:
        self.db, self.study, self.listener, self.stop, self.server = db, study, listener, stop, server
        self.devices = list(devices)
        self.spool_folder = Path(run.artifact_dir) / "spool"
        self.queue = Queue(db, study, new_worker_id())
        self.watch = StageFollower(db, study, listener)
        self.environment = _environment(run, url, threads)
        if images is not None and SharedMemory.possible():
            self.images = share(images)
            self.environment[IMAGES] = self.images.path
        self.workers: dict[int, str] = {}
        """Devices of the workers, by the numbers that the server gave them."""
        self.deaths = Deaths()
        name = study.attrs[attributes.FINGERPRINT]
        self.checkpoints = Checkpoints(Path(run.artifact_dir) / "checkpoints", checkpoint_folder(name, study.study_id))

    def run(self) -> None:
        """Start the workers, replace those that die, return when the stage is done.

        Raises:
            HpsearchError: a worker gave up for good, or workers keep dying.
            Stopped: a stop was asked for; the workers have given their trials back.
        """
        self.watch.begin()
        self._release()
        try:
            with self.server:
                for device in self.devices:
                    self._start(device)
                while self.workers:
                    self._look()
        finally:
            self._hear_last_notes()
            self._release()
            self.watch.look()

    def _start(self, device: str) -> None:
        arguments = ["worker", "--supervised", "--device", device, "--", self.study.name]
        self.workers[self.server.start(arguments, self.environment)] = device

    def _look(self) -> None:
        """Wait for news of the workers, not longer than until the next look at the database."""
        until = time.monotonic() + POLL_SECONDS
        while (left := until - time.monotonic()) > 0:
            event = self.server.next_event(left)
            self.stop.raise_if_requested()
            if isinstance(event, Note):
                self.listener.note(event.text)
            elif isinstance(event, Died):
                self.deaths.hear(self.watch.look())
                self._bury(event)
                return
        self.deaths.hear(self.watch.look())

    def _hear_last_notes(self) -> None:
        while (event := self.server.next_event(0)) is not None:
            if isinstance(event, Note):
                self.listener.note(event.text)

    def _bury(self, dead: Died) -> None:
        """Give the trials of a dead worker back and put another one in its place."""
        device = self.workers.pop(dead.id)
        if dead.code == 0:
            return
        if dead.code in (1, 2, 3):  # it said why on stderr; another one would say the same
            raise HpsearchError(f"a worker on {device} gave up with exit code {dead.code}; see its message above.")
        self.deaths.add(_how(dead.code))
        numbers = self._release()
        self._start(device)
        self.listener.note(
            ", ".join(filter(None, [f"worker died ({_how(dead.code)})", resuming(self.checkpoints, numbers)]))
        )

    def _release(self) -> list[int]:
        """What dead workers had in their hands waits again at once; results that they had spooled are written."""
        try:
            spool.recover(self.db, self.spool_folder)
            return self.queue.release_dead()
        except StorageAwayError:
            return []  # leases run out by themselves


def _how(code: int) -> str:
    if code == EX_TEMPFAIL:
        return "a device that refuses further work"
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _environment(run: RunConfig, url: str, threads: int) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HPSEARCH_RUN__")}
    settings = {f"HPSEARCH_RUN__{key.upper()}": str(value) for key, value in run.model_dump().items()}
    for name in ("HPSEARCH_RUN__STORAGE", "HPSEARCH_DATA_DIR", "HPSEARCH_DEVICE", *SECRET_FILES):
        settings.pop(name, None)
        inherited.pop(name, None)
    own = {"HPSEARCH_STORAGE": url, "HPSEARCH_RUN__THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    return {**inherited, **settings, **own, "HPSEARCH_TRUST": trusted()}
