"""What `train.precision = "auto"` means for a stage: measured where it begins, and kept with it from then on."""

from __future__ import annotations

from dataclasses import replace

from hpsearch.analysis import attributes
from hpsearch.config import RunConfig
from hpsearch.datasets.device import TrainingData
from hpsearch.errors import RefusedError
from hpsearch.logs import get_logger
from hpsearch.stages.listener import Listener
from hpsearch.stages.opening import open_stage, stored_plan
from hpsearch.stages.plan import StagePlan
from hpsearch.storage import Database, StudyNotFoundError, StudyRow, find_study
from hpsearch.training import structure_key
from hpsearch.tuning.tuning import tune, why_not

WORTH_ITS_DIGITS = 1.1  # times as fast; below, nobody would give precision for it

log = get_logger(__name__)


def open_settled(
    db: Database,
    plan: StagePlan,
    data: TrainingData,
    run: RunConfig,
    listener: Listener | None = None,
    workers: int = 1,
    *,
    timed: bool = True,
) -> tuple[StudyRow, StagePlan]:
    """The study of a plan, and the plan with the precision that its trials have.

    That of a study which exists is its own, wherever it goes on. A new one gets bfloat16 where the search is large
    enough to be timed and a step is faster so, with this process's threads; else float32.

    Args:
        db: an open database.
        plan: the stage.
        data: its images, on the device.
        run: settings.
        listener: told where auto is not float32.
        workers: of the stage.
        timed: whether this process trains, or times for those that do.

    Raises:
        RefusedError: a study of that name is another search.
    """
    if plan.config.train.precision != "auto":
        return open_stage(db, plan, data, structure_key), plan
    if stored := _stored(db, plan):
        settled = _with_precision(plan, stored)
    else:
        settled = settle_precision(plan, data, run, workers) if timed else _with_precision(plan, "float32")
    try:
        study = open_stage(db, settled, data, structure_key)
    except RefusedError:  # another process may have created it meanwhile, and have measured otherwise
        settled = _with_precision(plan, _stored(db, plan) or settled.config.train.precision)
        study = open_stage(db, settled, data, structure_key)
    if settled.config.train.precision == "bfloat16" and listener is not None:
        listener.note("matrix products in bfloat16, which is faster here; --set train.precision=float32 for none of it")
    return study, settled


def _stored(db: Database, plan: StagePlan) -> str | None:
    try:
        study = find_study(db, plan.name)
    except StudyNotFoundError:
        return None
    return stored_plan(study).config.train.precision if attributes.CONFIG in study.attrs else None


def settle_precision(plan: StagePlan, data: TrainingData, run: RunConfig, workers: int = 1) -> StagePlan:
    """The plan, with what auto takes here."""
    if plan.config.train.precision != "auto":
        return plan
    plan = _with_precision(plan, "float32")
    if why_not(plan, data, run, workers) is not None:  # no step is timed for nothing
        return plan
    try:
        faster = tune(plan, data, run, workers, bfloat16=True).bfloat16
    except Exception as error:  # as of a net that cannot be trained: the search will say so, trial by trial
        log.warning("the precision could not be chosen by timing: %s", error)
        return plan
    return _with_precision(plan, "bfloat16") if faster is not None and faster >= WORTH_ITS_DIGITS else plan


def plan_to_time(asked: StagePlan, settled: StagePlan) -> StagePlan:
    """The plan whose steps tell engine and width: where auto was asked for in float32, which has been timed already."""
    return _with_precision(settled, "float32") if asked.config.train.precision == "auto" else settled


def _with_precision(plan: StagePlan, precision: str) -> StagePlan:
    train = plan.config.train.model_copy(update={"precision": precision})
    return replace(plan, config=plan.config.model_copy(update={"train": train}))
