"""A training with given values: the way of every stage, with one run in a pack."""

from __future__ import annotations

from hpsearch.analysis.study_trials import StudyTrials
from hpsearch.config import RunConfig
from hpsearch.search.listener import SearchListener
from hpsearch.search.stage_run import preview_stage, run_stage
from hpsearch.stages.training_plan import TrainingPlan
from hpsearch.storage import Database
from hpsearch.tuning.settling import Settled
from hpsearch.worker.stopping import Stop


def run_training(
    db: Database,
    plan: TrainingPlan,
    run: RunConfig,
    *,
    listener: SearchListener | None = None,
    stop: Stop | None = None,
) -> StudyTrials:
    """Train each seed of a plan, or those that are not trained yet.

    Arguments and errors as for `run_stage`; what the checks find is told to the listener and stops nothing.
    """
    return run_stage(db, plan, _alone(run), listener=listener, stop=stop)


def preview_training(plan: TrainingPlan, run: RunConfig, listener: SearchListener | None = None) -> Settled:
    """How it would be trained; see `preview_stage`."""
    return preview_stage(plan, _alone(run), listener)


def _alone(run: RunConfig) -> RunConfig:
    """Seeds differ in their minibatches, so no pack holds two of them: what is timed is a pack of one."""
    return run.model_copy(update={"width": 1})
