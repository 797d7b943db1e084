"""How many workers a stage gets, on which devices, and who runs them: this process, others here, or a Ray cluster."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from hpsearch.analysis.study_trials import Evidence, gather
from hpsearch.config import RunConfig
from hpsearch.datasets.device import TrainingData
from hpsearch.fleet.fork_server import ForkServer
from hpsearch.fleet.ray.cluster import check_request as check_ray_request
from hpsearch.fleet.ray.cluster import choose_demand, choose_workers, connected, nodes
from hpsearch.fleet.ray.fleet import RayFleet
from hpsearch.fleet.supervisor import Supervisor
from hpsearch.runtime import num_cores, resolve_device, set_threads
from hpsearch.search.session import check_plan, keep_learning, note_changed_code, run_stage
from hpsearch.stages.listener import Listener
from hpsearch.stages.plan import StagePlan
from hpsearch.storage import Database, StudyRow, count_states
from hpsearch.tuning.precision import open_settled, plan_to_time
from hpsearch.tuning.tuning import settle
from hpsearch.tuning.workload import choose_devices
from hpsearch.worker.stopping import Stop


def check_request(run: RunConfig, devices: Sequence[str]) -> RunConfig:
    """Refuse what cannot work before anything is read or written; the settings of this process.

    With Ray, the workers' GPUs are elsewhere, and this process checks the net with what it has.

    Raises:
        MissingExtraError: Ray is asked for, but not installed.
        ConfigError: Ray is asked for, with devices by number, or a device is not there.
    """
    if run.fleet != "ray":
        for name in devices:
            resolve_device(name)
        return run
    check_ray_request(run, devices)
    return run.model_copy(update={"device": "auto"}) if run.device == "cuda" else run


def run_fleet(
    db: Database,
    plan: StagePlan,
    run: RunConfig,
    data: TrainingData,
    workers: int,
    devices: Sequence[str],
    listener: Listener,
    stop: Stop,
    server: ForkServer | None = None,
) -> Evidence:
    """Create or resume a stage and work on it: in this process for one device, in one process per device, or on Ray.

    Args:
        db: an open database, that of run.storage.
        plan: the stage.
        run: settings that the workers share.
        data: the images of the stage.
        workers: how many; 0 leaves it to us.
        devices: of the workers, as the user named them.
        listener: hears of each trial.
        stop: asked whether to go on.
        server: starts the workers of this machine, where one has been begun already; it is ended with the stage.
    """
    on_ray = run.fleet == "ray"
    devices = [] if on_ray else choose_devices(plan, data, run, workers, devices)
    if len(devices) == 1:
        return run_stage(db, plan, run, data, listener, stop)
    with contextlib.nullcontext() if on_ray else server or ForkServer() as server:  # its start takes seconds
        check_plan(plan, data)
        threads = run.threads or max(1, num_cores() // max(1, len(devices)))
        alike = len({name.partition(":")[0] for name in devices}) == 1  # what is fast on one may be slow on another
        if alike:
            set_threads(threads)  # of this process, which times for its workers, so that they need not
        asked = plan
        study, plan = open_settled(db, plan, data, run, listener, len(devices), timed=alike)
        note_changed_code(study, listener)
        counts = count_states(db, study)
        num_open = counts["WAITING"] + counts["RUNNING"]
        if num_open and server is None:
            _run_on_ray(db, plan, run, study, data, workers, num_open, listener, stop)
        elif num_open and server is not None:
            if alike:
                share = num_open / sum(counts.values())
                run = settle(plan_to_time(asked, plan), data, run, len(devices), share)
            study = keep_learning(db, study, plan, data, run, len(devices))
            Supervisor(db, run.storage, study, run, devices, listener, stop, server, threads=threads, images=data).run()
    return gather(db, plan.name)


def _run_on_ray(
    db: Database,
    plan: StagePlan,
    run: RunConfig,
    study: StudyRow,
    data: TrainingData,
    workers: int,
    num_open: int,
    listener: Listener,
    stop: Stop,
) -> None:
    with connected(run.ray_address):
        demand = choose_demand(run, nodes())
        num_workers = choose_workers(workers, demand, nodes(), num_open)
        study = keep_learning(db, study, plan, data, run, num_workers, "cuda" if demand.num_gpus else "cpu")
        RayFleet(db, run.storage, study, run, num_workers, demand, listener, stop).run()
