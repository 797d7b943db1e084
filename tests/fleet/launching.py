"""Workers for the launchers' contract, in a module of its own: processes that are started elsewhere import it."""

import os
import time
from pathlib import Path

from hpsearch.errors import ConfigError
from hpsearch.fleet import worker_process
from hpsearch.worker.failures import PoisonedDeviceError


def join_stage(study, run, listener, stop, **_options):
    """What a worker does in its process, by the name of its stage, instead of a search."""
    listener.note(f"here on {run.device}")
    if study == "done":
        return
    if study == "gives up":
        raise ConfigError("no such images")
    if study == "fails":
        raise ZeroDivisionError("a bug")
    if study == "poisoned":
        raise PoisonedDeviceError("illegal memory access")
    if study == "killed":
        os.kill(os.getpid(), 9)
    Path(run.artifact_dir, f"{os.getpid()}.working").touch()
    if study == "deaf":
        while True:
            time.sleep(0.01)
    while True:  # waits for its end
        stop.raise_if_requested()
        time.sleep(0.01)


def be_a_worker(job, images, sent):
    """Instead of `run_worker`; the module that is preloaded is imported by then."""
    from hpsearch.worker import joining

    joining.join_stage = join_stage
    worker_process.run_worker(job, images, sent)
