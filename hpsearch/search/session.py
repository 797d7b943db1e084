"""Running a stage on this machine: images onto the device, checks before the first trial, the worker."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hpsearch.config import Choice, RunConfig, StudyConfig, is_vector
from hpsearch.config.usercode import names_in, refuse_untrusted
from hpsearch.datasets.catalog import is_present
from hpsearch.datasets.device import TrainingData
from hpsearch.errors import ConfigError
from hpsearch.models import build
from hpsearch.results import TrialSpec
from hpsearch.runtime import set_threads
from hpsearch.search.evidence import Evidence, gather
from hpsearch.search.images import load_data
from hpsearch.search.plan import StagePlan
from hpsearch.search.progress import Listener
from hpsearch.search.proposals import make_pruner, num_trials
from hpsearch.search.stages import changed_code, open_stage
from hpsearch.search.stopping import Stop
from hpsearch.search.width import choose_threads, choose_width
from hpsearch.search.worker import Worker
from hpsearch.storage import Database, StudyRow, read_trials
from hpsearch.training import Pack, structure_key

MOST_GP_TRIALS = 500  # a Gaussian process proposal takes 15 s at 1,000 trials
ESTIMATE_STEPS = 10  # minibatches timed for an estimate


def check_plan(plan: StagePlan, data: TrainingData) -> None:
    """What can be known to be wrong before the first trial.

    Raises:
        ConfigError: a net does not fit the images, the user's code fails, the pruner does not exist, the sampler cannot
            take the budget.
        RefusedError: the plan names code of the user's that is not trusted.
    """
    refuse_untrusted(names_in(plan.config.plain()))
    make_pruner(plan.settings)
    if plan.settings.sampler == "gp" and plan.settings.trials > MOST_GP_TRIALS:
        raise ConfigError(
            f"{plan.kind}.trials = {plan.settings.trials} is too many for the sampler gp (15 s a proposal at 1,000)."
            f"\nAllowed: up to {MOST_GP_TRIALS}, or another sampler."
        )
    structural = {name: range_ for name, range_ in plan.config.space.items() if not is_vector(name)}
    variants: list[dict[str, Any]] = [{}]
    variants += [{name: value} for name, r in structural.items() if isinstance(r, Choice) for value in r.values]
    for params in variants:
        build(plan.trial_config.with_params(params).model, data.shape, data.num_classes)


def run_stage(
    db: Database,
    plan: StagePlan,
    run: RunConfig,
    data: TrainingData,
    listener: Listener | None = None,
    stop: Stop | None = None,
) -> Evidence:
    """Create or resume the stage of a plan and work on it until its budget is spent.

    Raises:
        RefusedError: a study of that name is another search.
        ConfigError: see `check_plan`.
    """
    check_plan(plan, data)
    study = open_stage(db, plan, data, structure_key)
    note_changed_code(study, listener)
    rows = read_trials(db, study)
    if any(row.state in ("WAITING", "RUNNING") for row in rows):
        set_threads(choose_threads(plan, data, run))
        Worker(db, study, plan, data, run, listener, stop).run()
    return gather(db, plan.name)


def note_changed_code(study: StudyRow, listener: Listener | None) -> None:
    """Say that the user's code is not what it was when the stage was begun: no reason to stop, but to be told."""
    for module, (then, now) in changed_code(study).items():
        if listener is not None:
            listener.note(f"{module} has changed since {study.name!r} was begun ({then} -> {now}); trials mix both")


@dataclass(frozen=True)
class Outlook:
    """What a stage would do; nothing is written for it."""

    num_trials: int
    num_packs: int | None = None
    width: int | None = None
    device: str | None = None
    workers: int = 1
    seconds: float | None = None
    """Estimated time of the training, from a few timed steps."""
    unknown: str | None = None
    """Why the time is not known."""

    def as_dict(self) -> dict[str, Any]:
        """The outlook as JSON."""
        return {
            "trials": self.num_trials,
            "packs": self.num_packs,
            "width": self.width,
            "device": self.device,
            "workers": self.workers,
            "estimated_seconds": self.seconds,
            "estimate_unknown": self.unknown,
        }


def look_ahead(plan: StagePlan, run: RunConfig) -> Outlook:
    """Time a few steps of one pack and scale them up to the whole stage; nothing is downloaded or written.

    Raises:
        ConfigError: see `check_plan`.
    """
    if plan.problem is not None:
        return Outlook(plan.settings.trials, unknown=plan.problem)
    trials = num_trials(plan.config.space, plan.settings)
    if not is_present(plan.config.data, Path(run.data_dir)):
        return Outlook(trials, unknown=f"the images of {plan.config.data.source} are not here yet")
    data = load_data(plan.trial_config, run)
    check_plan(plan, data)
    width = choose_width(plan.trial_config, data, run, plan.settings, trials)
    packs = -(-trials // width)
    seconds = packs * plan.settings.epochs * _seconds_per_epoch(plan.trial_config, run, data, width)
    return Outlook(trials, packs, width, str(data.x_train_NCHW.device), 1, seconds)


def _seconds_per_epoch(config: StudyConfig, run: RunConfig, data: TrainingData, width: int) -> float:
    """Seconds for one epoch of a full pack: the first ESTIMATE_STEPS minibatches, scaled."""
    num_images = min(ESTIMATE_STEPS * config.train.batch_size, len(data.x_train_NCHW))
    small = replace(data, x_train_NCHW=data.x_train_NCHW[:num_images], y_train_N=data.y_train_N[:num_images])
    train = config.train.model_copy(update={"lr": 1e-12, "reg": 0.0, "epochs": 2})  # cannot explode
    harmless = config.model_copy(update={"train": train})
    pack = Pack(harmless, small, [TrialSpec(number) for number in range(width)], engine=run.engine)
    pack.run_epoch()  # the first one warms up
    start = time.perf_counter()
    pack.run_epoch()
    return (time.perf_counter() - start) * len(data.x_train_NCHW) / num_images
