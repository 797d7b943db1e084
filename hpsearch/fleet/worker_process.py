"""A worker process of this machine, seen from inside. Nothing heavy is imported above: see `preloaded`."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import traceback
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, NoReturn

from typing_extensions import override

from hpsearch.config import RunConfig
from hpsearch.config.usercode import trust
from hpsearch.errors import HpsearchError
from hpsearch.logs import configure_logging
from hpsearch.phases import begin, phase
from hpsearch.stages.listener import Listener
from hpsearch.worker.stopping import Stop, Stopped

if TYPE_CHECKING:
    from hpsearch.datasets.device import TrainingData
    from hpsearch.datasets.sharing import SharedImages
    from hpsearch.stages.plan import StagePlan

EX_TEMPFAIL = 75  # exit code for a device that cannot be used any more in this process: another one can go on
# A terminal's Ctrl-C, and what ends a whole group, is for the command and for workers. Their server, which ends with
# the command, does not get it, not even while it imports torch; nor do workers before they know what to do about it.
SIGNALS_OF_WORKERS = (signal.SIGINT, signal.SIGTERM)
PR_SET_PDEATHSIG = 1  # of Linux's prctl: the signal that a process gets when its parent ends

_libc = ctypes.CDLL(None) if sys.platform == "linux" else None  # loaded in the server: forked workers take no locks


@dataclass(frozen=True)
class Job:
    """What a worker has to know; it travels through a pipe, so its storage may hold a password."""

    study: str
    run: RunConfig = field(repr=False)
    trusted: str
    """User code that the command which began the stage trusts."""
    verbosity: int
    since: float | None = None
    """When the command began, on the database's clock, see `Stop`."""


class NotesTo(Listener):
    """Passes notes on to the process that started this one."""

    def __init__(self, sent: Connection) -> None:
        self._sent = sent

    @override
    def note(self, text: str) -> None:
        self.send("note", " ".join(text.split()))

    def send(self, kind: str, text: str) -> None:
        """Anything, to be heard if anybody still listens."""
        with contextlib.suppress(OSError):
            self._sent.send((kind, text))


def run_worker(job: Job, images: SharedImages | None, sent: Connection) -> NoReturn:
    """Work on the stage until nothing is left to take; ends the process.

    Exit codes: 0 done, 1 to 3 gave up for good, EX_TEMPFAIL for a device that cannot be used any more in this process,
    128 + signal.
    """
    begin()
    _end_with_parent()
    configure_logging(job.verbosity)
    trust(*filter(None, job.trusted.split(",")))
    to_parent, stop = NotesTo(sent), Stop()
    stop.since = job.since
    sys.exit(_run(job, images, to_parent, stop))


def _run(job: Job, images: SharedImages | None, to_parent: NotesTo, stop: Stop) -> int:
    with phase("imports"):  # none, where the server has forked us
        from hpsearch.worker.joining import join_stage

    try:
        with stop.on_signals(), _unblocked(SIGNALS_OF_WORKERS):
            join_stage(
                job.study,
                job.run,
                to_parent,
                stop,
                images_of=lambda plan, run: _images(plan, run, images),
                on_tick=_on_parent_death(stop),
                waits=True,  # it may be started at any time, so also while the database is away
            )
        return 0
    except Stopped as stopped:
        return stopped.exit_code
    except HpsearchError as error:
        to_parent.send("gave up", str(error))
        return error.exit_code
    except Exception as error:
        traceback.print_exc()
        to_parent.send("gave up", f"{type(error).__name__}: {error}")
        return 1


@contextlib.contextmanager
def _unblocked(signals: Collection[signal.Signals]) -> Iterator[None]:
    """Get signals that the server of workers has blocked, with those that have come meanwhile."""
    if not hasattr(signal, "pthread_sigmask"):  # no such server
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _images(plan: StagePlan, run: RunConfig, images: SharedImages | None) -> TrainingData:
    """On this worker's device: those that were prepared already, in milliseconds, else loaded."""
    from hpsearch.runtime import resolve_device, set_threads
    from hpsearch.training.images import load_images

    if images is None:
        return load_images(plan.trial_config, run)
    set_threads(run.threads)
    return images.adopt(resolve_device(run.device))


def _end_with_parent() -> None:
    """Have the system send SIGTERM to this worker when whoever forked it ends, whatever ended that.

    The server of workers ends with the command, which it sees by a pipe's end. Each child is given that end, too, so
    that it could ask for children itself: unless it is closed, workers keep their server, and each other, alive.
    """
    server = vars(forkserver._forkserver)
    if (fd := server.get("_forkserver_alive_fd")) is not None:
        os.close(fd)
        server["_forkserver_alive_fd"] = None
    parent = os.getppid()
    if _libc is not None:
        _libc.prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGTERM))
    if os.getppid() != parent:  # it has ended already
        os.kill(os.getpid(), signal.SIGTERM)


def _on_parent_death(stop: Stop) -> Callable[[], None]:
    """To be called now and then: SIGTERM when the parent is gone, where the system sends none."""
    parent = os.getppid()

    def look() -> None:
        if os.getppid() != parent and stop.requested is None:
            os.kill(os.getpid(), signal.SIGTERM)

    return look
