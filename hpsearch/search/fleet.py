"""How many workers a stage gets, and on which devices."""

from __future__ import annotations

from collections.abc import Sequence

from hpsearch.config import RunConfig
from hpsearch.datasets.device import TrainingData
from hpsearch.runtime import num_cores, resolve_device
from hpsearch.search.evidence import Evidence, gather
from hpsearch.search.plan import StagePlan
from hpsearch.search.progress import Listener
from hpsearch.search.session import check_plan, run_stage
from hpsearch.search.stages import open_stage
from hpsearch.search.stopping import Stop
from hpsearch.search.supervisor import Supervisor
from hpsearch.search.width import WORTH_A_FLEET, arithmetic
from hpsearch.storage import Database, count_states
from hpsearch.training import structure_key


def choose_devices(
    plan: StagePlan, data: TrainingData, run: RunConfig, workers: int, devices: Sequence[str]
) -> list[str]:
    """The device of each worker: as asked for; else one worker per GPU, or per core where the work is worth it."""
    if devices:
        for name in devices:
            resolve_device(name)
        return [devices[index % len(devices)] for index in range(max(workers, len(devices)))]
    device = resolve_device(run.device)
    if device.type == "cuda" and run.device in ("auto", "cuda"):
        import torch

        every = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
        return [every[index % len(every)] for index in range(workers or len(every))]
    if not workers:
        workers = num_cores() if device.type == "cpu" and arithmetic(plan, data) > WORTH_A_FLEET else 1
    return [str(device)] * workers


def run_fleet(
    db: Database,
    url: str,
    plan: StagePlan,
    run: RunConfig,
    data: TrainingData,
    devices: Sequence[str],
    listener: Listener,
    stop: Stop,
) -> Evidence:
    """Create or resume a stage and work on it: in this process for one device, else in one process per device."""
    if len(devices) == 1:
        return run_stage(db, plan, run, data, listener, stop)
    check_plan(plan, data)
    study = open_stage(db, plan, data, structure_key)
    counts = count_states(db, study)
    if counts["WAITING"] or counts["RUNNING"]:
        threads = run.threads or max(1, num_cores() // len(devices))
        Supervisor(db, url, study, run, devices, listener, stop, threads=threads).run()
    return gather(db, plan.name)
