"""A stage of an [objective]: no images, no checks, no packs; the user's code is looked at, and workers call it."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from hpsearch.analysis import attributes
from hpsearch.analysis.study_trials import StudyTrials, read_study
from hpsearch.config import RunConfig
from hpsearch.config.schema import LEARNING_SAMPLERS, ObjectiveConfig
from hpsearch.config.usercode import names_in, refuse_untrusted
from hpsearch.errors import ConfigError
from hpsearch.fleet.fleet import Fleet
from hpsearch.fleet.processes import ProcessLauncher, start_server
from hpsearch.programs.given import refuse_workers_elsewhere
from hpsearch.programs.program import Program, UnreadyError
from hpsearch.runtime import resolve_device
from hpsearch.search.listener import SearchListener
from hpsearch.search.program_time import Calls, fitted
from hpsearch.stages.code_changes import changed_code
from hpsearch.stages.earlier_trials import counted, read_earlier_trials
from hpsearch.stages.opening import open_stage, with_stored_sampler
from hpsearch.stages.plan import StagePlan
from hpsearch.stages.sampler_choice import choose_coarse_sampler
from hpsearch.stages.sampler_knowledge import knowledge_of
from hpsearch.stages.time_budget import as_fitted_before
from hpsearch.stages.validation import validate_proposals
from hpsearch.storage import Database, StudyNotFoundError, StudyRow, count_states, find_study, write_attrs
from hpsearch.tuning.settling import Settled
from hpsearch.wording import duration_text
from hpsearch.worker.program_worker import ProgramWorker
from hpsearch.worker.stopping import Stop


def run_program_stage(
    db: Database,
    plan: StagePlan,
    run: RunConfig,
    listener: SearchListener,
    stop: Stop,
    until: float | None = None,
) -> StudyTrials:
    """Create or resume a stage and work on it until its budget is spent.

    `until`, on `time.monotonic`'s clock, is when a new stage should be over: it gets the trials and epochs that fit.

    Raises:
        ConfigError: the code cannot be imported or called as trials are; nothing is written then.
        RefusedError: a study of that name is another search, or names code that is not trusted.
        Stopped: a stop was asked for; what is finished is kept.
    """
    listener.planned(plan)
    devices = devices_of(run)
    if run.fleet == "ray" or len(devices) > 1:
        where = "a Ray cluster" if run.fleet == "ray" else f"{len(devices)} workers"
        refuse_workers_elsewhere(objective_of(plan).function, where)
    if len(devices) > 1:
        start_server()
    plan = as_fitted_before(db, plan)
    program = look_at(plan, listener, devices[0])
    try:
        plan = _with_sampler(plan, program, find_study(db, plan.name) if _is_there(db, plan.name) else None)
        if until is not None and not _is_there(db, plan.name):
            plan = fitted(db, plan, Calls(objective_of(plan), program, devices[0]), len(devices), until, listener)
            listener.settled(_settled(plan, run, program))
        return _work(db, plan, run, devices, program, listener, stop)
    finally:
        program.end()


def _work(
    db: Database,
    plan: StagePlan,
    run: RunConfig,
    devices: Sequence[str],
    program: Program,
    listener: SearchListener,
    stop: Stop,
) -> StudyTrials:
    """Here, with the program that is there already, or by others, who have their own."""
    study = _noted(db, open_stage(db, plan, None), plan, None if run.fleet == "ray" else len(devices), program)
    for module, (then, now) in changed_code(study).items():
        listener.note(f"{module} has changed since {study.name!r} was begun ({then} -> {now}); trials mix both")
    counts = count_states(db, study)
    if counts["WAITING"] + counts["RUNNING"] == 0:
        return read_study(db, plan.name)
    if run.fleet == "ray":
        program.end()
        _run_on_ray(db, plan, run, listener, stop)
    elif len(devices) == 1:
        ProgramWorker(db, study, plan, run.model_copy(update={"device": devices[0]}), listener, stop, program).run()
    else:
        program.end()
        launcher = ProcessLauncher(study.name, run, devices, run.threads or 1, since=stop.since)
        Fleet(db, study, run, launcher, len(devices), listener, stop).run()
    evidence = read_study(db, plan.name)
    for key in never_asked_for(plan, evidence.record.called):
        listener.note(f"{key} was of no use: no call of {objective_of(plan).name} asked for it")
    return evidence


def _is_there(db: Database, name: str) -> bool:
    try:
        find_study(db, name)
    except StudyNotFoundError:
        return False
    return True


def _with_sampler(plan: StagePlan, program: Program, study: StudyRow | None = None) -> StagePlan:
    """A coarse stage whose sampler was left to us, now that it is known whether its code is told of epochs.

    One that is there already keeps its own.
    """
    if plan.kind == "coarse" and study is not None:
        return with_stored_sampler(plan, study)
    if plan.kind != "coarse" or plan.chosen is None or "epochs" not in program.takes:
        return plan
    epochs = plan.settings.epochs, plan.config.fine.epochs
    return plan.with_sampler(choose_coarse_sampler(one_by_one=True, epochs=epochs))


def _noted(db: Database, study: StudyRow, plan: StagePlan, workers: int | None, program: Program) -> StudyRow:
    """The study, which keeps what its code is given by name, and what its sampler learns from."""
    attrs: dict[str, Any] = {attributes.TAKES: sorted(program.takes)}
    study = replace(study, attrs={**study.attrs, **attrs})
    if plan.settings.sampler in LEARNING_SAMPLERS:
        knowledge = knowledge_of(plan.settings, 1, workers, counted(read_earlier_trials(db, study, plan)))
        assert knowledge is not None
        attrs[attributes.LEARNING] = knowledge.as_dict()
    write_attrs(db, study, attrs)
    return replace(study, attrs={**study.attrs, **attrs})


def never_asked_for(plan: StagePlan, called: Collection[str]) -> list[str]:
    """Keys that say something of parameters which an Optuna objective did not call for."""
    if not plan.defines:
        return []
    keys = {f"space.{name}": name for name in plan.space}
    keys |= {f"objective.params.{name}": name for name in objective_of(plan).params}
    return [key for key, name in keys.items() if name not in called]


def look_at(plan: StagePlan, listener: SearchListener, device: str = "cpu") -> Program:
    """Have the code imported, in a process of its own, which is to be ended.

    Raises:
        ConfigError: it cannot be, or cannot be called as trials are; pruner and sampler do not fit.
        RefusedError: it is not trusted.
    """
    refuse_untrusted(names_in(plan.config.plain()))
    validate_proposals(plan)
    if plan.settings.repeat_best:
        raise ConfigError(
            f"{plan.kind}.repeat_best = {plan.settings.repeat_best} is not for an objective of yours yet.\n"
            f"Allowed: 0. {plan.kind}.confirm = N calls the best trial N times again, as the last trials of the stage."
        )
    listener.checking("the objective")
    program = Program(objective_of(plan), device)
    try:
        program.start()
    except UnreadyError as error:
        raise ConfigError(str(error)) from None
    return program


def objective_of(plan: StagePlan) -> ObjectiveConfig:
    """What its trials call."""
    objective = plan.trial_config.objective
    assert objective is not None, "a stage of our own has no objective"
    return objective


def devices_of(run: RunConfig) -> tuple[str, ...]:
    """Of the workers, one each: as asked for, else one worker."""
    asked = run.devices or ((run.device,) if run.device != "auto" else ())
    workers = run.workers or max(1, len(asked))
    named = [str(resolve_device(name)) for name in asked or ("auto",)]
    return tuple(named[place % len(named)] for place in range(workers))


def preview_program_stage(
    plan: StagePlan, run: RunConfig, listener: SearchListener, seconds: float | None = None
) -> Settled:
    """What a stage would do; how long that takes is known only where it has a time, so that the code is called."""
    devices = devices_of(run)
    program = look_at(plan, listener, devices[0])
    try:
        plan = _with_sampler(plan, program)
        if seconds is not None:
            calls, until = Calls(objective_of(plan), program, devices[0]), time.monotonic() + seconds
            plan = fitted(None, plan, calls, len(devices), until, listener)
    finally:
        program.end()
    return _settled(plan, run, program)


def _settled(plan: StagePlan, run: RunConfig, program: Program) -> Settled:
    trials, name = plan.num_trials, objective_of(plan).name
    unknown = f"nobody knows how long a trial of {name} takes"
    if plan.seconds_before is not None:
        unknown = f"as many trials took {duration_text(plan.seconds_before)} in {plan.source}"
    if plan.fitted is not None:
        unknown = f"fitted to {duration_text(plan.fitted.seconds)} by a few calls of {name}"
    settled = Settled(plan, run, devices_of(run), run.threads or 1, trials, unknown=unknown)
    return replace(settled, has_epochs="epochs" in program.takes)


def _run_on_ray(db: Database, plan: StagePlan, run: RunConfig, listener: SearchListener, stop: Stop) -> None:
    from hpsearch.fleet.ray import cluster
    from hpsearch.fleet.ray.launcher import RayLauncher

    study = read_study(db, plan.name).study
    counts = count_states(db, study)
    run = run.model_copy(update={"device": "auto"}) if run.device == "cuda" else run  # the GPUs are elsewhere
    with cluster.connected(run.ray_address):
        demand = cluster.choose_demand(run, cluster.nodes())
        num_open = counts["WAITING"] + counts["RUNNING"]
        workers = cluster.choose_workers(run.workers, demand, cluster.nodes(), num_open)
        Fleet(db, study, run, RayLauncher(db, study.name, run, demand), workers, listener, stop).run()
