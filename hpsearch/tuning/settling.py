"""How a stage is trained on this machine, decided once before it is opened, and handed on as one value.

Devices, workers and threads: as asked for; else one worker per GPU, or per core where that ends the search clearly
sooner. Engine, width and precision: by timing a few steps where the search is large enough (`measuring`). What "auto"
means for the precision belongs to the study from its creation on: a study that exists keeps its own.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import Any

import torch

from hpsearch.config import RunConfig
from hpsearch.datasets.device import TrainingData
from hpsearch.logs import get_logger
from hpsearch.runtime import num_cores, resolve_device, set_threads
from hpsearch.stages.mirrors import needs_mirror
from hpsearch.stages.plan import StagePlan
from hpsearch.stages.sampler_knowledge import SamplerKnowledge, knowledge_of
from hpsearch.stages.time_budget import fit_to_time
from hpsearch.tuning.choosing import Tuning, Workload, choose
from hpsearch.tuning.measuring import compare_ways, time_bfloat16, time_default, why_not_compared, workload
from hpsearch.tuning.timing import Clock, Timing
from hpsearch.tuning.workload import arithmetic, choose_width

MIN_SPEEDUP = 1.1  # of bfloat16; below, nobody would give precision for it
# Floating-point operations below which a search takes a few seconds on any machine (5 s at 30 GFLOP/s), so that
# nothing is timed and one worker with one thread does it: a second thread costs a small search on busy cores several
# times its time (digits: 4.4 s alone, 25 s in company).
WORTH_TIMING = 1.5e11
# Seconds of a search by one worker with one thread above which it gets one per core: others begin to train after 2.5 s,
# and two are done sooner from 5 to 7 s on (docs/log.md).
WORTH_WORKERS = 7.0

log = get_logger(__name__)


@dataclass(frozen=True)
class Settled:
    """A stage with all that is decided about its training.

    Attributes:
        plan: its precision is no longer auto, and it fits the time that it has.
        run: settings of each worker; engine and width are said in it where others than the defaults are taken.
        devices: of the workers, one each; none where Ray places them.
        threads: CPU threads of each worker.
        num_trials: those that the stage has, or will have.
        tuning: what was timed; None where the search is too small, or cannot be timed.
        unknown: why there is no estimate; None if there is one.
        knowledge: what an adaptive sampler will know when it proposes; None without one.
    """

    plan: StagePlan
    run: RunConfig
    devices: tuple[str, ...]
    threads: int
    num_trials: int
    tuning: Tuning | None = None
    unknown: str | None = None
    knowledge: SamplerKnowledge | None = None
    share: float = 1.0
    """Of the trials that are still to do."""
    asked_precision: str = "auto"
    """As the study file has it."""
    has_epochs: bool = True
    """Whether a trial is told a number of epochs; some objectives are not."""

    @property
    def num_epochs(self) -> int | None:
        """Of each trial, where it has any."""
        return self.plan.settings.epochs if self.has_epochs else None

    @property
    def precision(self) -> str:
        """Of the training."""
        return self.plan.config.train.precision

    @property
    def seconds(self) -> float | None:
        """Estimated time of the training that is left."""
        return self.share * self.tuning.seconds if self.tuning is not None else None

    @property
    def num_packs(self) -> int | None:
        """Packs of the stage, where none of them splits by structure."""
        if self.tuning is None:
            return None
        trials = self.plan.num_whole_trials if self.plan.settings.has_rungs else self.num_trials
        return -(-trials // self.tuning.width)

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        tuning = self.tuning
        return {
            "trials": self.num_trials,
            "epochs": self.num_epochs,
            "packs": self.num_packs,
            "engine": tuning and tuning.engine,
            "width": tuning and tuning.width,
            "threads": self.threads,
            "device": self.devices[0] if self.devices else None,
            "precision": self.precision,
            "workers": len(self.devices) or None,
            "estimated_seconds": self.seconds,
            "estimate_unknown": self.unknown,
            "seconds_per_step": tuning and tuning.step,
            "ways_compared": tuning and tuning.num_compared,
            "bfloat16_speedup": tuning and tuning.bfloat16,
            "learning": self.knowledge and self.knowledge.as_dict(),
        }


def get_ready(plan: StagePlan, data: TrainingData, run: RunConfig) -> bool:
    """Set the threads of this process for what comes before the decision; whether several workers are likely.

    A second thread costs a small search on busy cores several times its time.
    """
    large = arithmetic(plan, data) > WORTH_TIMING
    set_threads(run.threads or (0 if large else 1))
    if run.fleet == "ray":
        return False
    asked = _used(_asked_devices(run), run, plan.num_trials)
    several = large and num_cores() > 1 and plan.settings.trials > 1
    return len(asked) > 1 or (not asked and several and not needs_mirror(plan.settings))


def settle(
    plan: StagePlan,
    data: TrainingData,
    run: RunConfig,
    *,
    stored_precision: str | None = None,
    share: float = 1.0,
    estimates: bool = False,
    seconds: float | None = None,
    clock: Clock = time.perf_counter,
) -> Settled:
    """Decide how a stage is trained here. This process gets the threads of a worker.

    A measurement that fails costs the estimate and a faster way, not the search.

    Args:
        plan: the stage.
        data: its images, on the device of this process.
        run: settings, as asked for.
        stored_precision: that of the study, if it exists.
        share: of the trials that are still to do.
        estimates: time small searches, too.
        seconds: that the stage may take: it gets as many trials and epochs as fit.
        clock: seconds.

    Raises:
        ConfigError: a device is not there.
    """
    trials = plan.num_trials
    asked = plan.config.train.precision
    is_new = asked == "auto" and stored_precision is None
    if asked == "auto":
        plan = plan.with_precision(stored_precision or "float32")
    if run.fleet == "ray":
        return Settled(plan, run, (), run.threads or 1, trials, unknown="the workers are on other machines")
    large = share * arithmetic(plan, data) > WORTH_TIMING
    threads = set_threads(run.threads or 1)
    timed = large or estimates or seconds is not None
    known, unknown = _time_default(plan, data, run, clock) if timed else (None, "the search is small")
    devices = _asked_devices(run) or _chosen_devices(plan, run, known, workload(plan, data), share)
    devices = _used(devices, run, trials)
    workers = len(devices)
    if known is not None and workers == 1 and not run.threads and num_cores() > 1 and devices == ("cpu",) and large:
        threads = set_threads(0)
        known, unknown = _time_default(plan, data, run, clock)
    elif workers > 1:
        threads = set_threads(run.threads, workers)
    if known is not None and seconds is not None:
        plan = fit_to_time(plan, workload(plan, data, workers).seconds(known), seconds)
        trials = plan.num_trials
    run = _with_shared_width(plan, data, run, workers, share)
    tuning = None
    if known is not None and len({name.partition(":")[0] for name in devices}) == 1:  # devices of one kind
        tuning = _tune(plan, data, run, known, workers, share, clock, threads, bfloat16=is_new)
        if not tuning.is_default:
            run = run.model_copy(update={"engine": tuning.engine, "width": tuning.width})
        if is_new and (tuning.bfloat16 or 0.0) >= MIN_SPEEDUP:
            plan, tuning = plan.with_precision("bfloat16"), tuning.in_bfloat16()
    width = choose_width(plan.trial_config, data, run, plan.settings, trials)  # not tuned where a sampler learns
    knowledge = knowledge_of(plan.settings, width, workers)
    return Settled(plan, run, devices, threads, trials, tuning, unknown, knowledge, share, asked)


def _asked_devices(run: RunConfig) -> tuple[str, ...]:
    """As asked for: --devices, with --workers more than one on each; or one per GPU; empty where that is left to us."""
    if run.devices:
        for name in run.devices:
            resolve_device(name)
        return tuple(run.devices[index % len(run.devices)] for index in range(max(run.workers, len(run.devices))))
    device = resolve_device(run.device)
    if device.type == "cuda" and run.device in ("auto", "cuda"):
        every = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
        return tuple(every[index % len(every)] for index in range(run.workers or len(every)))
    if run.workers or device.type != "cpu":
        return (str(device),) * (run.workers or 1)
    return ()


def _used(devices: tuple[str, ...], run: RunConfig, trials: int) -> tuple[str, ...]:
    """Those that get a worker: without a trial it would have nothing to do, unless it was asked for."""
    return devices if run.devices or run.workers else devices[:trials]


def _chosen_devices(
    plan: StagePlan, run: RunConfig, known: Timing | None, work: Workload, share: float
) -> tuple[str, ...]:
    """One worker on the CPU, or one per core where that ends the search clearly sooner.

    A sampler or pruner that learns gets one: with several, its proposals depend on the machine's cores, and on luck.
    """
    device = str(resolve_device(run.device))
    worth = known is not None and not needs_mirror(plan.settings) and share * work.seconds(known) > WORTH_WORKERS
    return (device,) * (num_cores() if worth else 1)


def _with_shared_width(plan: StagePlan, data: TrainingData, run: RunConfig, workers: int, share: float) -> RunConfig:
    """The width of so many workers is said, each of which alone would take wider packs; one that a sampler learns by
    stays the stage's own."""
    if workers == 1 or run.width or needs_mirror(plan.settings):
        return run
    num_open = max(1, math.ceil(share * plan.num_trials))  # none is left of what has ended
    width = choose_width(plan.trial_config, data, run, plan.settings, num_open, workers)
    return run.model_copy(update={"width": width})


def _time_default(
    plan: StagePlan, data: TrainingData, run: RunConfig, clock: Clock
) -> tuple[Timing | None, str | None]:
    """The timing, or why there is none: the search will say so, trial by trial."""
    try:
        return time_default(plan, data, run, clock=clock), None
    except Exception as error:
        log.warning("the search could not be timed: %s", error)
        return None, str(error).partition("\n")[0]


def _tune(
    plan: StagePlan,
    data: TrainingData,
    run: RunConfig,
    known: Timing,
    workers: int,
    share: float,
    clock: Clock,
    threads: int,
    *,
    bfloat16: bool,
) -> Tuning:
    work = workload(plan, data, workers)
    width = choose_width(plan.trial_config, data, run, plan.settings, plan.num_trials, workers)
    timings = [known.scaled(width / known.width)]
    if why_not_compared(plan, data, run, workers, share) is not None:
        return choose(timings, work, threads)
    try:
        timings = compare_ways(plan, data, run, timings[0], work, share, clock)
        tuning = choose(timings, work, threads)
        return replace(tuning, bfloat16=time_bfloat16(plan, data, tuning, clock) if bfloat16 else None)
    except Exception as error:
        log.warning("engine, width and precision could not be chosen by timing: %s", error)
        return choose(timings, work, threads)
