"""Workers as processes of this machine, forked from multiprocessing's server, which has everything imported.

A worker is up in some 30 ms, and its death is heard of at once. The server is started as soon as it is known that
workers will be wanted; it imports torch while this process does something else.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import time
import types
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing import connection, forkserver, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import Any

from typing_extensions import override

from hpsearch.config import RunConfig
from hpsearch.config.usercode import trusted
from hpsearch.datasets.device import TrainingData
from hpsearch.datasets.sharing import SharedImages, share
from hpsearch.errors import HpsearchError
from hpsearch.fleet.launcher import Ended, Launcher, Note
from hpsearch.fleet.worker_process import EX_TEMPFAIL, SIGNALS_OF_WORKERS, Job, run_worker
from hpsearch.logs import get_logger, verbosity

KILL_SECONDS = 30.0  # from SIGTERM to SIGKILL
MAX_SERVERS = 3  # that may die one after the other while a worker is to be forked
SERVER_SECONDS = 1.0  # from a server's silence to its end
UNKNOWN = 255  # what multiprocessing says of a worker whose server is gone, which alone could know
PRELOADED = "hpsearch.fleet.preloaded"
# Pools of OpenMP or BLAS would not live in forked workers, which set their own number.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

log = get_logger(__name__)


def start_server() -> None:
    """Start the server of workers, unless it runs; it gets ready by itself."""
    if forks():
        multiprocessing.get_context("forkserver").set_forkserver_preload([PRELOADED])
        resource_tracker.ensure_running()  # or it would be started below, and lets the signals through again
        with _environment(ONE_THREAD), _blocked(SIGNALS_OF_WORKERS):
            forkserver.ensure_running()


def forks() -> bool:
    """Whether workers are forked here; else each one has an interpreter of its own."""
    return "forkserver" in multiprocessing.get_all_start_methods()


class ProcessLauncher(Launcher):
    """Starts one worker per device.

    Args:
        study: the stage.
        run: settings that the workers share; its storage has the password.
        devices: of the workers, by place.
        threads: of each worker.
        images: those of the stage, mapped by the workers; without them, each one loads its own.
        since: when the command began, see `Stop`.
    """

    def __init__(
        self,
        study: str,
        run: RunConfig,
        devices: Sequence[str],
        threads: int,
        images: TrainingData | None = None,
        *,
        since: float | None = None,
    ) -> None:
        self._since = since
        self._study, self._run, self._devices, self._threads = study, run, devices, threads
        self._images: SharedImages | None = share(images) if images is not None and SharedImages.possible() else None
        self._context: BaseContext = multiprocessing.get_context("forkserver" if forks() else "spawn")
        self._workers: dict[int, tuple[BaseProcess, Connection, str]] = {}
        self._last_words: dict[int, str] = {}
        """Why workers gave up."""
        self._num_started = 0
        self._events: deque[Ended | Note] = deque()
        start_server()

    @override
    def start(self, place: int) -> int:
        self._num_started += 1
        device = self._devices[place]
        run = self._run.model_copy(update={"device": device, "threads": self._threads})
        job = Job(self._study, run, trusted(), verbosity(), self._since)
        process, received = self._fork(job)
        self._workers[self._num_started] = (process, received, device)
        return self._num_started

    def _fork(self, job: Job) -> tuple[BaseProcess, Connection]:
        """A new worker, and what it says. Where the server dies before it has forked it, there is another one."""
        why = ""
        for _ in range(MAX_SERVERS):
            received, sent = self._context.Pipe(duplex=False)
            process: BaseProcess = self._context.Process(target=run_worker, args=(job, self._images, sent))  # type: ignore[attr-defined]
            try:
                start_server()  # unless it runs; here, and not by `process.start`, for its signals
                with _without_main(), _environment(ONE_THREAD):
                    process.start()
                return process, received
            except (EOFError, OSError) as error:
                received.close()
                why = _end_of_server() or str(error) or type(error).__name__
                log.info("no worker was forked: %s", why)
            finally:
                sent.close()
        raise HpsearchError(
            f"no worker could be started, {MAX_SERVERS} times running: {why}.\n"
            "Memory may be short, or user code may end its process; --workers 1 trains in the process of the command."
        )

    @override
    def next_event(self, seconds: float) -> Ended | Note | None:
        if not self._events and self._workers:
            self._wait(seconds)
        elif not self._events and seconds:
            time.sleep(seconds)
        return self._events.popleft() if self._events else None

    @override
    def unplaced(self) -> Sequence[int]:
        return ()

    @override
    def end_all(self) -> None:
        for process, _, _ in self._workers.values():
            process.terminate()
        deadline = time.monotonic() + KILL_SECONDS
        while self._workers and (left := deadline - time.monotonic()) > 0:
            self._wait(left)
        for process, _, _ in self._workers.values():
            process.kill()
        while self._workers:
            self._wait(None)

    def _wait(self, seconds: float | None) -> None:
        """Hear what workers say, and of those that are gone, waiting so long for the first news."""
        of: dict[Any, int] = {}
        for number, (process, received, _) in self._workers.items():
            of |= {process.sentinel: number, received: number}
        for ready in connection.wait(list(of), seconds):
            number = of[ready]
            if number not in self._workers:
                continue
            process, received, device = self._workers[number]
            self._hear(number, received)
            if ready == process.sentinel:
                process.join()
                received.close()
                del self._workers[number]
                last_words = self._last_words.pop(number, "")
                self._events.append(_ended(number, process.exitcode or 0, device, last_words))

    def _hear(self, number: int, received: Connection) -> None:
        """Take in what a worker has sent."""
        try:
            while received.poll():
                kind, text = received.recv()
                if kind == "note":
                    self._events.append(Note(text))
                else:
                    self._last_words[number] = text
        except (EOFError, OSError):  # it is gone, maybe in the middle of a word
            pass


def _ended(number: int, code: int, device: str, last_words: str) -> Ended:
    if code == 0:
        return Ended(number, "done", where=device)
    if code in (1, 2, 3):  # another one would say the same
        return Ended(number, "gave up", last_words or f"exit code {code}; see its message above", device)
    if code == EX_TEMPFAIL:
        return Ended(number, "died", "a device that refuses further work", device)
    if code == UNKNOWN:
        return Ended(number, "died", "with the server that forks workers", device)
    return Ended(number, "died", f"signal {-code}" if code < 0 else f"exit code {code}", device)


def _end_of_server() -> str:
    """How the server of workers ended; waits a little for an end that has just begun."""
    pid = vars(forkserver._forkserver).get("_forkserver_pid")
    deadline = time.monotonic() + SERVER_SECONDS
    while pid is not None and sys.platform == "linux":
        with contextlib.suppress(ChildProcessError):
            # Left to multiprocessing to collect, which starts another one then.
            if (end := os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
                how = "exit code" if end.si_code == os.CLD_EXITED else "signal"
                return f"the server of workers died ({how} {end.si_status})"
        if time.monotonic() > deadline:
            break
        time.sleep(0.02)
    return ""


@contextmanager
def _without_main() -> Iterator[None]:
    """A new worker would import the main module again, which runs a script that has no `if __name__ == ...`."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextmanager
def _blocked(signals: Collection[signal.Signals]) -> Iterator[None]:
    """Children that are started within never get these signals, unless they ask for them; this process, afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _environment(changed: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
