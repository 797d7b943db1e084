"""Engine and width of a search by timing a few steps here and now, and the time that the search will take.

What is measured: each engine that can train the net, at a few widths, with the threads that a worker will have. What
is a rule: how many workers and threads (`width.choose_devices`, `width.choose_threads`), since timing processes costs
their start, several seconds each; and that a sampler or pruner which learns from finished packs keeps its width, since
another one would mean other proposals from the same seed. Workers on one machine are timed one alone: what they take
from each other of memory's speed, they take whatever the engine. On a Ray cluster nothing is timed.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from hpsearch.config import DataConfig, RunConfig, is_vector
from hpsearch.config.usercode import names_in, source_hashes
from hpsearch.datasets.device import MAX_SAMPLE, TrainingData
from hpsearch.logs import get_logger
from hpsearch.models import build
from hpsearch.stages.plan import StagePlan
from hpsearch.stages.proposals import needs_mirror, num_trials
from hpsearch.training import structure_key
from hpsearch.training.choice import PREFERENCE
from hpsearch.training.fused.update import compile_kernels
from hpsearch.tuning import timing_cache
from hpsearch.tuning.choosing import LEAST_REPEATS, SLOWER, Tuning, Workload, candidates, choose, compare
from hpsearch.tuning.timing import (
    HARMLESS_IF_SEARCHED,
    LEAST_STEPS,
    NUM_STEPS,
    Candidate,
    Clock,
    TimedPack,
    Timing,
    estimate,
    harmless,
)
from hpsearch.tuning.timing_cache import Measured
from hpsearch.tuning.workload import arithmetic, choose_width

MOST_SECONDS = 2.0  # that the measurements of a search take
MOST_SHARE = 0.02  # of the search
BFLOAT16_SHARE = 0.02  # of a long search; it saves a quarter or more where it is faster
LARGER = 1.5  # times as much time for measurements as there was: worth measuring again
# Floating-point operations below which a search is over before tuning would have paid: 60 s at 100 GFLOP/s on a CPU,
# as long at 10 TFLOP/s on an accelerator.
WORTH_ON_CPU = 6e12
WORTH_ON_ACCELERATOR = 6e14
# Parameters of all packs that are in memory at a time, with gradients and the optimizer's state beside them.
MOST_PARAMETERS = {"cpu": 10**8, "mps": 10**8, "cuda": 10**9}
LEAST_TRIALS = 4  # in a pack that says something of wider ones

log = get_logger(__name__)


def why_not(plan: StagePlan, data: TrainingData, run: RunConfig, workers: int = 1, share: float = 1.0) -> str | None:
    """Why engine and width are not tuned; None if they are.

    Args:
        plan: the stage.
        data: its images, on the device.
        run: settings; engine and width that are given there are not tuned.
        workers: of the stage; each has its part of the work.
        share: of the trials that are still to do.
    """
    worth = WORTH_ON_CPU if data.x_train_NCHW.device.type == "cpu" else WORTH_ON_ACCELERATOR
    if not run.tune:
        return "run.tune = false"
    if run.engine != "auto" and (run.width or needs_mirror(plan.settings)):
        return "the engine is given"
    if not all(is_vector(name) for name in plan.config.space):
        return "the search has nets or images of several kinds"
    if arithmetic(plan, data) * share / workers < worth:
        return "the search is small"
    return None


def settle(
    plan: StagePlan,
    data: TrainingData,
    run: RunConfig,
    workers: int = 1,
    share: float = 1.0,
    clock: Clock | None = None,
) -> RunConfig:
    """The settings of a search that begins now: engine and width are said in them where others than the default won.

    So is the width where it is that of several workers, each of which alone would take wider packs.

    Never raises for what a measurement does: the search goes on with the defaults.
    """
    default = _shared_out(plan, data, run, workers, share)
    if why_not(plan, data, run, workers, share) is not None:
        return default
    try:
        tuning = tune(plan, data, run, workers, share=share, clock=clock)
    except Exception as error:
        log.warning("engine and width could not be tuned: %s", error)
        return default
    if tuning.is_default:
        return default
    log.info("tuned: engine %s, %d trials in a pack, about %.0f s", tuning.engine, tuning.width, tuning.seconds)
    return run.model_copy(update={"engine": tuning.engine, "width": tuning.width})


def _shared_out(plan: StagePlan, data: TrainingData, run: RunConfig, workers: int, share: float) -> RunConfig:
    """The settings with the width of so many workers; one that a sampler learns by stays the stage's own."""
    if workers == 1 or run.width or needs_mirror(plan.settings):
        return run
    num_open = math.ceil(share * num_trials(plan.config.space, plan.settings))
    width = choose_width(plan.trial_config, data, run, plan.settings, num_open, workers)
    return run.model_copy(update={"width": width})


def tune(
    plan: StagePlan,
    data: TrainingData,
    run: RunConfig,
    workers: int = 1,
    *,
    share: float = 1.0,
    bfloat16: bool = False,
    clock: Clock | None = None,
) -> Tuning:
    """Time the default, and other ways where the search is large enough, with this process's threads.

    Args:
        plan: the stage.
        data: its images, on the device.
        run: settings.
        workers: of the stage.
        share: of the trials that are still to do.
        bfloat16: time that, too, to be able to tell of it.
        clock: seconds.

    Raises:
        EngineError: the default cannot train this net, or its first cost is no number.
    """
    clock = clock or time.perf_counter
    trials = num_trials(plan.config.space, plan.settings)
    config, threads = plan.trial_config, torch.get_num_threads()
    default = Candidate(run.engine, choose_width(config, data, run, plan.settings, trials, workers))
    num_evaluated = min(MAX_SAMPLE, data.num_train) + len(data.y_val_N)
    num_batches = data.num_batches(config.train.batch_size)
    work = Workload(trials, plan.settings.epochs, num_batches, num_evaluated, workers)
    looks = why_not(plan, data, run, workers, share) is None
    about = _about(plan, data, run, default, trials, workers, threads) if looks else {}
    kept = timing_cache.read(about) if looks else None
    if kept is not None and _granted(work, kept.timings[0], share) > LARGER * kept.seconds:
        kept = None
    measured = kept
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # engines that are only tried have a lot to say
        if measured is None and looks and data.x_train_NCHW.device.type == "cpu":
            compile_kernels(config.train.optimizer)  # whose time is none of a step's
        if measured is None:
            measured = _measure(plan, data, run, default, work, share, clock, looks)
        tuning = choose(measured.timings, work, threads)
        if bfloat16 and looks and not measured.bfloat16 and config.train.precision in ("auto", "float32"):
            measured = replace(measured, bfloat16=_bfloat16(plan, data, tuning, clock))
    if looks and measured != kept and len(measured.timings) > 1:
        timing_cache.write(about, measured)
    return replace(tuning, cached=kept is not None, bfloat16=measured.bfloat16)


def _measure(
    plan: StagePlan,
    data: TrainingData,
    run: RunConfig,
    default: Candidate,
    work: Workload,
    share: float,
    clock: Clock,
    looks: bool,
) -> Measured:
    """The default's timing and, if we are to look for a faster one, those of others beside it."""
    begun = clock()
    make = _maker(plan, data, clock)
    most_steps = LEAST_STEPS if looks else NUM_STEPS
    known = estimate(make, default, plan.trial_config.train.batch_size, MOST_SECONDS / 4, most_steps)
    if not looks:
        return Measured((known,), 0.0)
    granted = _granted(work, known, share)
    seconds = granted - (clock() - begun)
    engines = PREFERENCE if run.engine == "auto" else ()
    width = min(known.width, affordable_width(known, seconds, len(engines)))
    tried = candidates(
        Candidate(known.engine, width),
        engines,
        work.num_trials,
        on_cpu=data.x_train_NCHW.device.type == "cpu",
        workers=work.workers,
        any_width=width == known.width and not (run.width or needs_mirror(plan.settings)),
    )
    tried = _that_fit(plan, data, tried)
    if len(tried) == 1 or width < min(known.width, LEAST_TRIALS):
        return Measured((known,), granted)
    num_steps = max(LEAST_STEPS, min(NUM_STEPS, int(seconds / 60 / known.step)))
    makes = [lambda c=each: make(c, num_steps=num_steps) for each in tried]
    per_trial = known.short_epoch(num_steps) / known.width
    predicted = [per_trial * each.width * (1 if each.engine == known.engine else SLOWER) for each in tried]
    scale = known.width / width
    found = compare(makes, predicted, seconds, clock, lambda timing: work.seconds(timing.scaled(scale)))
    timings = [timing.scaled(scale) for timing in found]
    for timing in timings:
        log.info("timed: %s, %.0f s in all", timing, work.seconds(timing))
    return Measured(tuple(timings) or (known,), granted)


def affordable_width(default: Timing, seconds: float, num_engines: int) -> int:
    """Trials in a pack that can be timed with each engine in so many seconds.

    Where that is less than the default's, steps are long and full of arithmetic, so their time grows with the trials:
    engines can be compared in narrower packs, if not widths.
    """
    num_epochs = (1 + LEAST_REPEATS) * max(1, num_engines)
    return max(0, int(seconds / num_epochs / (default.short_epoch(LEAST_STEPS) / default.width)))


def _granted(work: Workload, default: Timing, share: float) -> float:
    """Seconds that the measurements of this search may take."""
    return min(MOST_SECONDS, MOST_SHARE * share * work.seconds(default))


def _maker(plan: StagePlan, data: TrainingData, clock: Clock) -> Callable[..., TimedPack]:
    config = plan.trial_config

    def make(candidate: Candidate, **options: Any) -> TimedPack:
        return TimedPack(config, data, candidate.engine, candidate.width, clock=clock, **options)

    return make


def _that_fit(plan: StagePlan, data: TrainingData, tried: list[Candidate]) -> list[Candidate]:
    """The default, and as many others as memory holds beside it."""
    net = build(plan.trial_config.model, data.shape, data.num_classes)
    parameters = sum(parameter.numel() for parameter in net.parameters())
    room = MOST_PARAMETERS.get(data.x_train_NCHW.device.type, 10**8) - parameters * tried[0].width
    fit = tried[:1]
    for each in tried[1:]:
        if parameters * each.width <= room:
            fit.append(each)
            room -= parameters * each.width
    return fit


def _bfloat16(plan: StagePlan, data: TrainingData, tuning: Tuning, clock: Clock) -> float | None:
    """How many times as fast the chosen pack is in bfloat16; None if it cannot be trained so, or not in time."""
    config = plan.trial_config
    other = config.model_copy(update={"train": config.train.model_copy(update={"precision": "bfloat16"})})
    num_steps = max(LEAST_STEPS, min(NUM_STEPS, int(MOST_SECONDS / 40 / tuning.step)))
    makes = [
        lambda c=each: TimedPack(c, data, tuning.engine, tuning.width, num_steps=num_steps, clock=clock)
        for each in (config, other)
    ]
    predicted = [num_steps * tuning.step, SLOWER * num_steps * tuning.step]
    # A LeNet, of which bfloat16 saves a quarter, takes more than a second to be timed twice.
    seconds = max(MOST_SECONDS / 2, min(2 * MOST_SECONDS, BFLOAT16_SHARE * tuning.seconds))
    timings = compare(makes, predicted, seconds, clock, lambda timing: timing.step)
    return timings[0].step / timings[1].step if len(timings) == 2 else None


def _about(
    plan: StagePlan,
    data: TrainingData,
    run: RunConfig,
    default: Candidate,
    trials: int,
    workers: int,
    threads: int,
) -> dict[str, Any]:
    config = harmless(plan.trial_config)
    plain = config.plain()
    values = {**plain["train"], **{f"model.{key}": value for key, value in plain["model"].items()}}
    device = data.x_train_NCHW.device
    # Of the images, a step knows shape, type and what is done to a batch; not where they come from.
    any_source = DataConfig(augment=plan.trial_config.data.augment)
    alike = plan.trial_config.model_copy(update={"data": any_source})
    return timing_cache.describe(
        device,
        structure_key(alike, {}),
        data.shape,
        pixels=str(data.x_train_NCHW.dtype),
        code=source_hashes(names_in(plan.config.plain())),
        terms=sorted(name for name in HARMLESS_IF_SEARCHED if values[name]),
        classes=data.num_classes,
        engine=run.engine,
        width=default.width,
        any_width=not (run.width or needs_mirror(plan.settings)),
        trials=trials,
        workers=workers,
        threads=threads,
    )
