"""Joining a stage that is in the storage: what every worker does first, whoever started it."""

from __future__ import annotations

from collections.abc import Callable

from hpsearch.config import RunConfig
from hpsearch.config.usercode import names_in, refuse_untrusted
from hpsearch.datasets.device import TrainingData
from hpsearch.errors import RefusedError
from hpsearch.phases import phase
from hpsearch.stages.listener import Listener
from hpsearch.stages.opening import is_same_search, stored_plan
from hpsearch.stages.plan import StagePlan
from hpsearch.storage import find_study, open_database
from hpsearch.training.images import load_images
from hpsearch.worker.database_waits import insist
from hpsearch.worker.program_worker import ProgramWorker
from hpsearch.worker.stage_worker import StageWorker
from hpsearch.worker.stopping import Stop
from hpsearch.worker.worker import Worker

ImagesOf = Callable[[StagePlan, RunConfig], TrainingData]


def join_stage(
    study: str,
    run: RunConfig,
    listener: Listener,
    stop: Stop,
    *,
    images_of: ImagesOf = lambda plan, run: load_images(plan.trial_config, run),
    on_tick: Callable[[], None] | None = None,
    waits: bool = False,
) -> None:
    """Work on a stage until nothing is left to take.

    Args:
        study: its name.
        run: where the storage is, and how to train.
        listener: hears what happens.
        stop: asked whether to go on.
        images_of: gives those of the stage.
        on_tick: called every few seconds, in another thread.
        waits: whether to wait for a database that is away now, too.

    Raises:
        RefusedError: the study is none of ours, names code that is not trusted, or was begun on other images.
        HpsearchError, Stopped: as `Worker.run`.
    """
    with phase("database"):
        if waits:
            db = insist(lambda: open_database(run.storage), listener.note, stop)
            row = insist(lambda: find_study(db, study), listener.note, stop)
        else:
            db = open_database(run.storage)
            row = find_study(db, study)
    try:
        plan = stored_plan(row)
        refuse_untrusted(names_in(plan.config.plain()))
        if plan.config.objective is not None:
            joined: StageWorker = ProgramWorker(db, row, plan, run, listener, stop)
            joined.on_tick = on_tick or joined.on_tick
            joined.run()
            return
        with phase("images"):
            data = images_of(plan, run)
        run = run.model_copy(update={"device": str(data.x_train_NCHW.device)})
        if not is_same_search(row, plan, data):
            raise RefusedError(f"{study!r} was begun on other images than {plan.config.data.source} has here.")
        worker = Worker(db, row, plan, data, run, listener, stop)
        worker.on_tick = on_tick or worker.on_tick
        worker.run()
    finally:
        db.close()
