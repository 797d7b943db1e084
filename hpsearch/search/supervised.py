"""What a worker process and its supervisor have to do with each other, seen from the worker."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

from hpsearch.config import RunConfig
from hpsearch.datasets.device import TrainingData
from hpsearch.datasets.sharing import adopt
from hpsearch.runtime import resolve_device, set_threads
from hpsearch.search.images import load_data
from hpsearch.search.plan import StagePlan
from hpsearch.search.progress import Listener
from hpsearch.search.stopping import Stop

IMAGES_FD = "_HPSEARCH_IMAGES_FD"  # environment: descriptor of the supervisor's images; no key of a study file


def await_assignment(plan: StagePlan, run: RunConfig) -> TrainingData | None:
    """Wait until the supervisor names a device; the stage's images there, or None when it needs no spare any more.

    Images that it shares are taken then, in milliseconds; others are loaded before.
    """
    shared = os.environ.get(IMAGES_FD)
    data = load_data(plan.trial_config, run) if shared is None else None
    device = sys.stdin.readline().strip()
    if not device:
        return None
    run = run.model_copy(update={"device": device})
    if shared is not None:
        set_threads(run.threads)
        return adopt(int(shared), resolve_device(device))
    if data is not None and data.x_train_NCHW.device == resolve_device(device):
        return data
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
    """To be called now and then in a supervised worker: asks for a stop when the supervisor is gone."""
    parent = os.getppid()

    def look() -> None:
        if os.getppid() != parent:
            stop.request(signal.SIGTERM)

    return look
