"""What a worker process and its supervisor have to do with each other, seen from the worker."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable

from hpsearch.config import RunConfig
from hpsearch.datasets.device import TrainingData
from hpsearch.datasets.sharing import adopt
from hpsearch.runtime import resolve_device, set_threads
from hpsearch.stages.listener import Listener
from hpsearch.stages.plan import StagePlan
from hpsearch.training.images import load_data
from hpsearch.worker.stopping import Stop

IMAGES = "_HPSEARCH_IMAGES"  # environment: path of the supervisor's images; no key of a study file


def images_of_supervisor(plan: StagePlan, run: RunConfig) -> TrainingData:
    """The stage's images on this worker's device: those that the supervisor shares, in milliseconds, else loaded."""
    if path := os.environ.get(IMAGES):
        set_threads(run.threads)
        with contextlib.suppress(OSError):  # as in a container that hides its processes' files from each other
            return adopt(path, resolve_device(run.device))
    return load_data(plan.trial_config, run)


class NotesToSupervisor(Listener):
    """Passes notes on, one line each, through the pipe that is this process's standard output."""

    def note(self, text: str) -> None:
        """See Listener."""
        try:
            print(" ".join(text.split()), flush=True)
        except OSError:  # the supervisor is gone; `on_parent_death` sees to that
            sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - for the rest of this process


def on_parent_death(stop: Stop) -> Callable[[], None]:
    """To be called now and then in a supervised worker: SIGTERM when its parent is gone, if the system sends none."""
    parent = os.getppid()

    def look() -> None:
        if os.getppid() != parent and stop.requested is None:
            os.kill(os.getpid(), signal.SIGTERM)

    return look
