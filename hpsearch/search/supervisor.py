"""Worker processes on this machine: one per device, a dead one replaced at once, none left behind.

A spare process, with everything loaded, waits for the moment that it is needed: a worker that is killed is followed by
it within milliseconds, not after the seconds that importing torch and reading images take.
"""

from __future__ import annotations

import os
import queue as thread_queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hpsearch.config import RunConfig
from hpsearch.config.secret_files import SECRET_FILES
from hpsearch.config.usercode import trusted
from hpsearch.datasets.device import TrainingData
from hpsearch.datasets.sharing import SharedImages
from hpsearch.errors import HpsearchError
from hpsearch.search import attributes, spool
from hpsearch.search.deaths import Deaths, resuming
from hpsearch.search.follow import StageFollower
from hpsearch.search.progress import Listener
from hpsearch.search.stopping import Stop
from hpsearch.search.supervised import IMAGES_FD
from hpsearch.storage import Database, Queue, StorageAwayError, StudyRow, new_worker_id
from hpsearch.training.checkpoints import Checkpoints, checkpoint_folder

POLL_SECONDS = 0.5  # between two looks at the database; a death is heard of at once
KILL_SECONDS = 30.0  # from SIGTERM to SIGKILL
STORM_SECONDS = 30.0  # each death within so long asks for one more spare process: what killed one may kill the next
MOST_SPARES = 3
EX_TEMPFAIL = 75  # a worker whose device is poisoned


@dataclass
class _Process:
    """A worker process; a spare one has not been told to go yet."""

    popen: subprocess.Popen[bytes]
    device: str
    working: bool = False


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
        threads: of each worker.
        images: those of the stage, shared with the workers; without them, each one loads its own.
        spare: whether to keep a process in reserve.
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
        *,
        threads: int,
        images: TrainingData | None = None,
        spare: bool = True,
    ) -> None:
        self.db, self.study, self.listener, self.stop = db, study, listener, stop
        self.devices, self.keeps_spare = list(devices), spare
        self.spool_folder = Path(run.artifact_dir) / "spool"
        self.queue = Queue(db, study, new_worker_id())
        self.watch = StageFollower(db, study, listener)
        self.images = SharedImages(images) if images is not None and SharedImages.possible() else None
        self.environment = _environment(run, url, threads)
        if self.images is not None:
            self.environment[IMAGES_FD] = str(self.images.fd)
        self.processes: list[_Process] = []
        self.notes: thread_queue.SimpleQueue[str] = thread_queue.SimpleQueue()
        self.dead: thread_queue.SimpleQueue[_Process] = thread_queue.SimpleQueue()
        self.deaths = Deaths()
        self.died_at: list[float] = []
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
            processes = [self._start(device) for device in self.devices]
            if self.images is not None:
                self.images.write()
            for process in processes:
                self._go(process)
            while self._workers():
                self._look()
        finally:
            self._end_all()
            self._pass_notes_on()
            self._release()
            self.watch.look()
            if self.images is not None:
                self.images.close()

    def _look(self) -> None:
        try:
            dead = self.dead.get(timeout=POLL_SECONDS)
        except thread_queue.Empty:
            dead = None
        self.stop.raise_if_requested()
        self._pass_notes_on()
        self.deaths.hear(self.watch.look())
        if dead is not None:
            self._bury(dead)
        elif self.watch.num_waiting and self.watch.num_epochs and len(self._spares()) < self._spares_wanted():
            self._start(self.devices[0])

    def _pass_notes_on(self) -> None:
        while not self.notes.empty():
            self.listener.note(self.notes.get())

    def _workers(self) -> list[_Process]:
        return [process for process in self.processes if process.working]

    def _spares(self) -> list[_Process]:
        return [process for process in self.processes if not process.working]

    def _spares_wanted(self) -> int:
        recent = [at for at in self.died_at if time.monotonic() - at < STORM_SECONDS]
        return self.keeps_spare * min(1 + len(recent), MOST_SPARES)

    def _start(self, device: str) -> _Process:
        """A process that loads everything and then waits."""
        command = [sys.executable, "-m", "hpsearch", "worker", "--standby", "--", self.study.name]
        environment = {**self.environment, "HPSEARCH_RUN__DEVICE": device}
        inherited = [self.images.fd] if self.images is not None else []
        popen = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=inherited
        )
        process = _Process(popen, device)
        self.processes.append(process)
        threading.Thread(target=self._wait, args=(process,), daemon=True).start()
        return process

    def _wait(self, process: _Process) -> None:
        assert process.popen.stdout is not None
        with process.popen.stdout as notes:
            for text in notes:
                self.notes.put(text.decode(errors="replace").rstrip())
        process.popen.wait()
        self.dead.put(process)

    def _go(self, process: _Process, device: str | None = None) -> None:
        """Tell a waiting process to work, on the device of the one that it follows."""
        process.device, process.working = device or process.device, True
        assert process.popen.stdin is not None
        try:
            process.popen.stdin.write(f"{process.device}\n".encode())
            process.popen.stdin.flush()
        except BrokenPipeError:
            pass  # it is dead already; its death is on its way

    def _bury(self, dead: _Process) -> None:
        """Give the trials of a dead worker back and put another one in its place."""
        self.processes.remove(dead)
        code = dead.popen.returncode
        if not dead.working or code == 0:
            return
        if code in (1, 2, 3):  # it said why on stderr; another one would say the same
            raise HpsearchError(f"a worker on {dead.device} gave up with exit code {code}; see its message above.")
        self.died_at.append(time.monotonic())
        self.deaths.add(_how(code))
        numbers = self._release()
        successor = next(iter(self._spares()), None) or self._start(dead.device)
        self._go(successor, dead.device)
        self.listener.note(
            ", ".join(filter(None, [f"worker died ({_how(code)})", resuming(self.checkpoints, numbers)]))
        )

    def _release(self) -> list[int]:
        """What dead workers had in their hands waits again at once; results that they had spooled are written."""
        try:
            spool.recover(self.db, self.spool_folder)
            return self.queue.release_dead()
        except StorageAwayError:
            return []  # leases run out by themselves

    def _end_all(self) -> None:
        """SIGTERM to all that work, SIGKILL to those that do not follow, and to spares, which hold nothing."""
        for process in self.processes:
            if process.popen.poll() is None:
                process.popen.send_signal(signal.SIGTERM if process.working else signal.SIGKILL)
        deadline = time.monotonic() + KILL_SECONDS
        for process in self.processes:
            try:
                process.popen.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.popen.kill()
                process.popen.wait()
            if process.popen.stdin is not None:
                process.popen.stdin.close()


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
