"""What runs on a node of a Ray cluster: one worker of a stage, inside the process of a Ray actor.

A process of its own under the actor would need an answer to who ends it when the actor dies, and would read the
database's password from its environment. Ray's own process ends with its node and with the command that asked for it,
and is told the password in a call, which goes from process to process and is kept nowhere. Nothing heavy is imported
above: the number of threads has to be set first.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from hpsearch.config import RunConfig
from hpsearch.config.usercode import trust
from hpsearch.errors import HpsearchError
from hpsearch.worker.stopping import Stop, Stopped


@dataclass(frozen=True)
class RemoteJob:
    """What a worker has to know. Paths in `run` are absolute; its storage holds the password."""

    study: str
    run: RunConfig = field(repr=False)
    folder: str
    """Where relative paths of the study file start, if the node has that folder."""
    trusted: str
    """User code that the command which began the stage trusts."""
    environment: Mapping[str, str] = field(repr=False)
    """What libpq reads: PGPASSWORD, PGSSLMODE, ..."""


@dataclass(frozen=True)
class Ending:
    """How a worker ended without dying."""

    how: Literal["done", "stopped", "poisoned", "gave up"]
    message: str = ""


class WorkerActor:
    """One worker; `drain` and `host` are called while `work` runs, in another thread."""

    def __init__(self) -> None:
        self.stop = Stop()
        self._thread: int | None = None
        self._lock = threading.Lock()

    def host(self) -> str:
        """Where it is placed: answered as soon as the process is there."""
        return socket.gethostname()

    def work(self, job: RemoteJob) -> Ending:
        """Work on the stage until nothing is left to take. Errors are returned: Ray keeps those that are raised."""
        try:
            with self._lock:
                self._thread = threading.get_ident()
            _work(job, self.stop)
            return Ending("done")
        except Stopped:
            return Ending("stopped")
        except HpsearchError as error:
            from hpsearch.worker.failures import PoisonedDeviceError

            return Ending("poisoned" if isinstance(error, PoisonedDeviceError) else "gave up", str(error))
        except Exception as error:
            return Ending("gave up", f"{type(error).__name__}: {error}")
        finally:
            with self._lock:
                self._thread = None

    def drain(self) -> None:
        """End the epoch, keep checkpoints, give trials back. As with a signal, a long epoch is not waited for."""
        self.stop.request(signal.SIGTERM)
        with self._lock:
            if self._thread is not None and self.stop.takes_long:
                # What a signal does to the main thread: calls of an actor that can be talked to run in others.
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread), ctypes.py_object(Stopped))


def _work(job: RemoteJob, stop: Stop) -> None:
    os.environ.update(job.environment, OMP_NUM_THREADS=str(job.run.threads))
    if os.path.isdir(job.folder):  # noqa: PTH112
        os.chdir(job.folder)
    trust(*filter(None, job.trusted.split(",")))

    from hpsearch.stages.listener import Listener
    from hpsearch.worker.joining import join_stage

    join_stage(job.study, job.run, Listener(), stop)
