"""From a plan to the evidence: one way for all who run a stage, and its preview.

The commands coarse, fine and run, their faces in Python, and comparisons go it: images, checks, how it is trained,
the study, the workers. Nothing is written before everything that can be known to be wrong has been looked at.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from hpsearch.analysis import attributes
from hpsearch.analysis.records import stage_record
from hpsearch.analysis.study_trials import StudyTrials
from hpsearch.config import RunConfig, StudyConfig
from hpsearch.datasets.catalog import is_present
from hpsearch.datasets.device import TrainingData
from hpsearch.datasets.device_start import start_device
from hpsearch.datasets.sources import refuse_missing
from hpsearch.errors import ConfigError, EngineError, RefusedError
from hpsearch.fleet import processes
from hpsearch.fleet.fleet import Fleet
from hpsearch.fleet.ray import cluster
from hpsearch.phases import phase
from hpsearch.runtime import resolve_device
from hpsearch.search.checks.gate import check_before_search
from hpsearch.search.listener import SearchListener
from hpsearch.search.program_run import preview_program_stage, run_program_stage
from hpsearch.search.repeated_best import repeat_best
from hpsearch.stages.code_changes import changed_code
from hpsearch.stages.earlier_trials import counted, read_earlier_trials
from hpsearch.stages.halving import Halving
from hpsearch.stages.opening import open_stage, stored_precision
from hpsearch.stages.plan import StagePlan
from hpsearch.stages.sampler_knowledge import knowledge_of
from hpsearch.stages.time_budget import as_fitted_before
from hpsearch.stages.validation import validate_plan, validate_proposals
from hpsearch.storage import (
    Database,
    StudyNotFoundError,
    StudyRow,
    count_epochs,
    count_states,
    find_study,
    open_late,
    write_attrs,
)
from hpsearch.training.checkpoints import Checkpoints, checkpoint_folder
from hpsearch.training.images import load_images
from hpsearch.training.precision import refuse_engine, rounding
from hpsearch.training.recorder import recorder_for
from hpsearch.training.user_nets import refuse_user_code
from hpsearch.tuning.settling import Settled, get_ready, settle
from hpsearch.tuning.workload import choose_width
from hpsearch.worker.stopping import Stop
from hpsearch.worker.worker import Worker


def open_search(run: RunConfig, study: StudyConfig) -> Database:
    """The storage of a search, after a look at devices and images that are named; a file is made once it has a study.

    Raises:
        DataError: the images are files that are not there.
        MissingExtraError: Ray is asked for, but not installed.
        ConfigError: a device is not there, or not for the engine, or Ray is asked for with devices by number; nothing
            is read or written then.
    """
    check_devices(run)
    if study.objective is None:
        refuse_missing(study.data)
        start_device(resolve_device(_on_this_process_device(run).device))
    with phase("database"):
        return open_late(run.storage)


def check_devices(run: RunConfig) -> None:
    """Refuse devices that are not there, or not for the engine, before anything is read or written.

    Raises:
        MissingExtraError, ConfigError: as `open_search`.
    """
    if run.fleet == "ray":
        cluster.check_request(run)
        return
    for name in (run.device, *run.devices):
        resolve_device(name)
    if run.engine == "graph":
        try:
            for name in run.devices or (run.device,):
                recorder_for(resolve_device(name))
        except EngineError as error:
            raise ConfigError(str(error)) from None


def run_stage(
    db: Database,
    plan: StagePlan,
    run: RunConfig,
    *,
    listener: SearchListener | None = None,
    stop: Stop | None = None,
    images: TrainingData | None = None,
    checks: bool = True,
    until: float | None = None,
) -> StudyTrials:
    """Create or resume a stage and work on it until its budget is spent.

    Args:
        db: an open database, that of run.storage.
        plan: the stage.
        run: how and where to train, as asked for.
        listener: hears of everything.
        stop: asked whether to go on.
        images: those of the stage, if they are read already.
        checks: see before a new coarse stage that the net can learn.
        until: on `time.monotonic`'s clock, when a new stage should be over: it gets the trials and epochs that fit.

    Raises:
        ConfigError, DataError: before anything is written.
        RefusedError: a check failed, or a study of that name is another search.
        Stopped: a stop was asked for; what is finished is kept.
    """
    listener, stop = listener or SearchListener(), stop or Stop()
    if stop.since is None:
        stop.since = db.read_now()
    if plan.config.objective is not None:
        return run_program_stage(db, plan, run, listener, stop, until)
    validate_proposals(plan)  # before the images, which may take minutes to read
    listener.planned(plan)
    run = _on_this_process_device(run)
    if run.fleet != "ray" and max(run.workers, len(run.devices)) > 1:
        processes.start_server()  # which imports torch while this process reads images
    data = images if images is not None else read_images(plan, run, listener)
    plan = as_fitted_before(db, plan)
    validate_plan(plan, data)
    refuse_engine(plan.trial_config.train.precision, run.engine)
    refuse_user_code(plan.trial_config, data, run.engine)
    if get_ready(plan, data, run):
        processes.start_server()  # while this process checks
    with phase("checks"):
        report = check_before_search(db, plan, data, listener.checking) if checks else None
    if report is not None:
        listener.checked(report)
        report.refuse_if_failed()
    share = _share_left(db, plan)
    seconds = until - time.monotonic() if until is not None and share is None else None
    with phase("settled"):
        settled = settle(
            plan,
            data,
            run,
            stored_precision=stored_precision(db, plan.name),
            share=1.0 if share is None else share,
            seconds=seconds,
        )
    with phase("study"):
        study, settled = _open(db, plan, settled, data)
    listener.settled(settled)
    for module, (then, now) in changed_code(study).items():  # no reason to stop, but to be told
        listener.note(f"{module} has changed since {study.name!r} was begun ({then} -> {now}); trials mix both")
    counts = count_states(db, study)
    if num_open := counts["WAITING"] + counts["RUNNING"]:
        if not settled.devices:
            _run_on_ray(db, study, settled, run, data, num_open, listener, stop)
        elif len(settled.devices) == 1:
            study = _keep_start(db, study, settled)
            Worker(db, study, settled.plan, data, settled.run, listener, stop, workers=1).run()
        else:
            study = _keep_start(db, study, settled)
            with phase("workers"):
                launcher = processes.ProcessLauncher(
                    study.name, settled.run, settled.devices, settled.threads, data, since=stop.since
                )
            Fleet(db, study, settled.run, launcher, len(settled.devices), listener, stop).run()
    _drop_checkpoints(db, study, settled.run)
    return repeat_best(db, settled.plan, settled.run, data, listener, stop)


def preview_stage(
    plan: StagePlan, run: RunConfig, listener: SearchListener | None = None, seconds: float | None = None
) -> Settled:
    """How a stage would be trained, and how long that takes; nothing is downloaded, no study is written.

    Raises:
        ConfigError, DataError: as `run_stage`.
    """
    listener = listener or SearchListener()
    if plan.config.objective is not None and plan.problem is None:
        return preview_program_stage(plan, run, listener, seconds)
    validate_proposals(plan)
    unknown = plan.problem
    if unknown is None and not is_present(plan.config.data, Path(run.data_dir)):
        unknown = f"the images of {plan.config.data.source} are not here yet"
    if unknown is not None:
        trials = plan.settings.trials if plan.problem else plan.num_trials
        return Settled(plan, run, (), run.threads, trials, unknown=unknown)
    run = _on_this_process_device(run)
    data = read_images(plan, run, listener)
    validate_plan(plan, data)
    refuse_engine(plan.trial_config.train.precision, run.engine)
    refuse_user_code(plan.trial_config, data, run.engine)
    get_ready(plan, data, run)
    return settle(plan, data, run, estimates=True, seconds=seconds)


def read_images(plan: StagePlan, run: RunConfig, listener: SearchListener) -> TrainingData:
    """The images of a stage on this process's device; the listener hears how they were read.

    Raises:
        DataError: they cannot be read, or are not fit to train on.
    """
    with phase("images"):
        data = load_images(plan.trial_config, run, listener.reading_images)
    listener.images_read(data.notes)
    return data


def _drop_checkpoints(db: Database, study: StudyRow, run: RunConfig) -> None:
    """Of a stage whose trials have all ended: those that were left by workers killed just as a trial ended."""
    counts = count_states(db, study)
    if counts["WAITING"] + counts["RUNNING"] == 0:
        folder = checkpoint_folder(stage_record(study).fingerprint, study.study_id)
        Checkpoints(Path(run.artifact_dir) / "checkpoints", folder).remove_all()


def _on_this_process_device(run: RunConfig) -> RunConfig:
    """A single device that was asked for is that of this process. With Ray, the workers' GPUs are elsewhere."""
    if run.fleet == "ray":
        return run.model_copy(update={"device": "auto"}) if run.device == "cuda" else run
    return run.model_copy(update={"device": run.devices[0]}) if len(run.devices) == 1 else run


def _share_left(db: Database, plan: StagePlan) -> float | None:
    """Of the trials of a stage, or of its epochs, those still to do; None where there is no such stage yet."""
    try:
        study = find_study(db, plan.name)
        counts = count_states(db, study)
    except StudyNotFoundError:
        return None
    if plan.settings.has_rungs:
        total = Halving.of(plan.settings).expected_epochs(plan.num_trials)
        return max(0.0, 1 - count_epochs(db, study) / total)
    return (counts["WAITING"] + counts["RUNNING"]) / max(1, sum(counts.values()))


def _open(db: Database, asked: StagePlan, settled: Settled, data: TrainingData) -> tuple[StudyRow, Settled]:
    """The study of a stage, and the stage with the precision that the study has."""
    try:
        return open_stage(db, settled.plan, data), settled
    except RefusedError:  # another process may have created it meanwhile, and have measured otherwise
        stored = stored_precision(db, asked.name)
        if stored is None or asked.config.train.precision != "auto" or stored == settled.precision:
            raise
        settled = replace(settled, plan=asked.with_precision(stored))
        return open_stage(db, settled.plan, data), settled


def _keep_start(db: Database, study: StudyRow, settled: Settled) -> StudyRow:
    """Keep with the study what its sampler, if it is an adaptive one, will know, and with how many digits it trains."""
    attrs: dict[str, Any] = {}
    if settled.knowledge is not None:
        earlier = counted(read_earlier_trials(db, study, settled.plan))
        attrs[attributes.LEARNING] = replace(settled.knowledge, earlier=earlier).as_dict()
    device = torch.device(settled.devices[0] if settled.devices else "cpu")
    if (words := rounding(settled.precision, device)) is not None:
        attrs[attributes.ROUNDING] = words
    if not attrs:
        return study
    write_attrs(db, study, attrs)
    return replace(study, attrs={**study.attrs, **attrs})


def _run_on_ray(
    db: Database,
    study: StudyRow,
    settled: Settled,
    run: RunConfig,
    data: TrainingData,
    num_open: int,
    listener: SearchListener,
    stop: Stop,
) -> None:
    from hpsearch.fleet.ray.launcher import RayLauncher

    plan = settled.plan
    with cluster.connected(run.ray_address):
        demand = cluster.choose_demand(run, cluster.nodes())
        workers = cluster.choose_workers(run.workers, demand, cluster.nodes(), num_open)
        device = "cuda" if demand.num_gpus else "cpu"
        width = choose_width(plan.trial_config, data, run, plan.settings, plan.settings.trials, device=device)
        settled = replace(settled, knowledge=knowledge_of(plan.settings, width, workers))
        study = _keep_start(db, study, settled)
        Fleet(db, study, run, RayLauncher(db, study.name, run, demand), workers, listener, stop).run()
