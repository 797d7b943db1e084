"""Running a stage on this machine: images onto the device, checks before the first trial, the worker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hpsearch.analysis import attributes
from hpsearch.analysis.study_trials import Evidence, gather
from hpsearch.config import Choice, RunConfig, is_vector
from hpsearch.config.usercode import names_in, refuse_untrusted
from hpsearch.datasets.catalog import is_present
from hpsearch.datasets.device import TrainingData
from hpsearch.errors import ConfigError, EngineError
from hpsearch.models import build
from hpsearch.runtime import set_threads
from hpsearch.stages.listener import Listener
from hpsearch.stages.opening import changed_code
from hpsearch.stages.plan import StagePlan
from hpsearch.stages.proposals import make_pruner, num_trials
from hpsearch.stages.sampler_knowledge import Learning, learning_of
from hpsearch.storage import Database, StudyRow, read_trials, write_attrs
from hpsearch.training.images import load_data
from hpsearch.tuning.choosing import Tuning
from hpsearch.tuning.precision import open_settled, plan_to_time, settle_precision
from hpsearch.tuning.tuning import settle, tune
from hpsearch.tuning.workload import choose_devices, choose_threads, choose_width
from hpsearch.worker.stopping import Stop
from hpsearch.worker.worker import Worker

MOST_GP_TRIALS = 500  # a Gaussian process proposal takes 15 s at 1,000 trials


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
    set_threads(choose_threads(plan, data, run))
    asked = plan
    study, plan = open_settled(db, plan, data, run, listener)
    note_changed_code(study, listener)
    rows = read_trials(db, study)
    if num_open := sum(row.state in ("WAITING", "RUNNING") for row in rows):
        run = settle(plan_to_time(asked, plan), data, run, share=num_open / len(rows))
        study = keep_learning(db, study, plan, data, run, workers=1)
        Worker(db, study, plan, data, run, listener, stop, workers=1).run()
    return gather(db, plan.name)


def note_changed_code(study: StudyRow, listener: Listener | None) -> None:
    """Say that the user's code is not what it was when the stage was begun: no reason to stop, but to be told."""
    for module, (then, now) in changed_code(study).items():
        if listener is not None:
            listener.note(f"{module} has changed since {study.name!r} was begun ({then} -> {now}); trials mix both")


def keep_learning(
    db: Database,
    study: StudyRow,
    plan: StagePlan,
    data: TrainingData,
    run: RunConfig,
    workers: int,
    device: str | None = None,
) -> StudyRow:
    """Keep with the study what its sampler, if it is an adaptive one, will know when it proposes; the study with it.

    `device` is the type of the workers' device, if it is not that of the data.
    """
    width = choose_width(plan.trial_config, data, run, plan.settings, plan.settings.trials, device=device)
    if (learning := learning_of(plan.settings, width, workers)) is None:
        return study
    attrs = {attributes.LEARNING: learning.as_dict()}
    write_attrs(db, study, attrs)
    return replace(study, attrs={**study.attrs, **attrs})


@dataclass(frozen=True)
class Outlook:
    """What a stage would do; nothing of it is written."""

    num_trials: int
    device: str | None = None
    workers: int | None = None
    tuning: Tuning | None = None
    """Engine, width, threads, and the estimated time of the training."""
    precision: str | None = None
    """That of the search; what auto takes here."""
    unknown: str | None = None
    """Why these are not known."""
    learning: Learning | None = None
    """What an adaptive sampler will know when it proposes."""

    @property
    def num_packs(self) -> int | None:
        """Packs of the stage, where none of them splits by structure."""
        return -(-self.num_trials // self.tuning.width) if self.tuning is not None else None

    @property
    def seconds(self) -> float | None:
        """Estimated time of the training."""
        return self.tuning.seconds if self.tuning is not None else None

    def as_dict(self) -> dict[str, Any]:
        """The outlook as JSON."""
        tuning = self.tuning
        return {
            "trials": self.num_trials,
            "packs": self.num_packs,
            "engine": tuning and tuning.engine,
            "width": tuning and tuning.width,
            "threads": tuning and tuning.threads,
            "device": self.device,
            "precision": self.precision,
            "workers": self.workers,
            "estimated_seconds": self.seconds,
            "estimate_unknown": self.unknown,
            "seconds_per_step": tuning and tuning.step,
            "ways_compared": tuning and tuning.num_compared,
            "cached": tuning and tuning.cached,
            "bfloat16_speedup": tuning and tuning.bfloat16,
            "learning": self.learning and self.learning.as_dict(),
        }


def look_ahead(plan: StagePlan, run: RunConfig, workers: int = 1, devices: Sequence[str] = ()) -> Outlook:
    """Time a few steps as the stage itself would, and scale them up; nothing is downloaded, no study is written.

    Args:
        plan: the stage.
        run: settings.
        workers: how many; 0 leaves it to us.
        devices: of the workers, as the user named them.

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
    device = str(data.x_train_NCHW.device)
    if run.fleet == "ray":
        return Outlook(trials, device, unknown="the workers are on other machines")
    num_workers = len(choose_devices(plan, data, run, workers, devices))
    if num_workers == 1:
        set_threads(choose_threads(plan, data, run))
    else:
        set_threads(run.threads, num_workers)
    asked, plan = plan, settle_precision(plan, data, run, num_workers)
    timed = plan_to_time(asked, plan)
    width = choose_width(plan.trial_config, data, run, plan.settings, trials)  # not tuned where a sampler learns
    learning = learning_of(plan.settings, width, num_workers)
    try:
        tuning = tune(timed, data, run, num_workers, bfloat16=True)
        if timed != plan and plan.config.train.precision == "bfloat16":
            tuning = tuning.in_bfloat16()
        return Outlook(trials, device, num_workers, tuning, plan.config.train.precision, learning=learning)
    except (EngineError, RuntimeError) as error:
        return Outlook(trials, device, num_workers, unknown=str(error).splitlines()[0], learning=learning)
