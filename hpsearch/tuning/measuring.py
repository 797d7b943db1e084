"""Engine, width and precision of a stage by timing a few steps here and now.

What is measured: each engine that can train the net, at a few widths, with the threads that a worker will have, and
whether a step is faster in bfloat16. What is a rule: that a sampler or pruner which learns from finished packs keeps
its width, since another one would mean other proposals from the same seed. Workers on one machine are timed one alone:
what they take from each other of memory's speed, they take whatever the engine.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hpsearch.config import RunConfig, StudyConfig, is_vector
from hpsearch.datasets.device import MAX_SAMPLE, TrainingData
from hpsearch.logs import get_logger
from hpsearch.models import build
from hpsearch.stages.mirrors import needs_mirror
from hpsearch.stages.plan import StagePlan
from hpsearch.training.choice import compared_engines
from hpsearch.training.device_memory import SHARE, free_bytes, largest, trial_bytes
from hpsearch.training.fused.update import compile_kernels
from hpsearch.tuning.choosing import MIN_REPEATS, SLOWER, Tuning, Workload, candidates, compare
from hpsearch.tuning.timing import MAX_STEPS, MIN_STEPS, Candidate, Clock, TimedPack, Timing, estimate
from hpsearch.tuning.workload import arithmetic, choose_width

MAX_SECONDS = 2.0  # that the measurements of a search take
MAX_SHARE = 0.02  # of the search
BFLOAT16_SHARE = 0.02  # of a long search; it saves a quarter or more where it is faster
TIMED_SHARE = 1e-3  # of what a search seems to take, for timing its default
MOST_TIMED = 10.0  # seconds, at most
# Floating-point operations below which a search is over before comparing engines would have paid: 60 s at 100 GFLOP/s
# on a CPU, as long at 10 TFLOP/s on an accelerator.
WORTH_COMPARING_ON_CPU = 6e12
WORTH_COMPARING_ON_ACCELERATOR = 6e14
# Parameters of all packs that are in memory at a time, with gradients and the optimizer's state beside them, where no
# device tells what it has free.
MAX_PARAMETERS = 10**8
MIN_WIDTH_COMPARED = 4  # trials in a pack that says something of wider ones

log = get_logger(__name__)


def why_not_compared(
    plan: StagePlan, data: TrainingData, run: RunConfig, workers: int = 1, share: float = 1.0
) -> str | None:
    """Why no other engine or width than the default is looked at; None if they are.

    Args:
        plan: the stage.
        data: its images, on the device.
        run: settings; engine and width that are given there are kept.
        workers: of the stage; each has its part of the work.
        share: of the trials that are still to do.
    """
    on_cpu = data.x_train_NCHW.device.type == "cpu"
    if not run.tune:
        return "run.tune = false"
    if run.engine != "auto" and (run.width or needs_mirror(plan.settings)):
        return "the engine is given"
    if not all(is_vector(name) for name in plan.config.space):
        return "the search has nets or images of several kinds"
    worth = WORTH_COMPARING_ON_CPU if on_cpu else WORTH_COMPARING_ON_ACCELERATOR
    if arithmetic(plan, data) * share / workers < worth:
        return "the search is small"
    return None


def workload(plan: StagePlan, data: TrainingData, workers: int = 1) -> Workload:
    """What a stage has to do."""
    num_folds = len(data.folds)
    num_evaluated = num_folds * (min(MAX_SAMPLE, data.num_train) + len(data.y_val_N))
    num_batches = num_folds * data.num_batches(plan.trial_config.train.batch_size)
    return Workload(plan.num_whole_trials, plan.settings.epochs, num_batches, num_evaluated, workers)


def time_default(
    plan: StagePlan, data: TrainingData, run: RunConfig, workers: int = 1, clock: Clock = time.perf_counter
) -> Timing:
    """A full pack as it is trained where nothing better is known, with this process's threads.

    In half a second; where the search seems to be long, with more images, as what a few took is scaled up with all that
    is overhead: on a machine with much other work, four images had made 18 hours of less than one.

    Raises:
        EngineError: the default cannot train this net, or its first cost is no number.
    """
    config, trials = plan.trial_config, plan.num_trials
    default = Candidate(run.engine, choose_width(config, data, run, plan.settings, trials, workers))
    work = workload(plan, data, workers)

    def worth(found: Timing) -> float:
        return max(MAX_SECONDS / 4, min(MOST_TIMED, TIMED_SHARE * work.seconds(found)))

    with _quietly(data, config):
        return estimate(_maker(plan, data, clock), default, config.train.batch_size, worth, MAX_STEPS)


def compare_ways(
    plan: StagePlan,
    data: TrainingData,
    run: RunConfig,
    known: Timing,
    work: Workload,
    share: float = 1.0,
    clock: Clock = time.perf_counter,
) -> list[Timing]:
    """The default's timing, and those of other engines and widths behind it, as far as they pay for this search."""
    seconds = min(MAX_SECONDS, MAX_SHARE * share * work.seconds(known))
    engines = compared_engines(data.x_train_NCHW.device) if run.engine == "auto" else ()
    in_time = min(known.width, affordable_width(known, seconds, len(engines)))
    width = min(in_time, _held_at_once(plan, data, len(engines)))
    tried = candidates(
        Candidate(known.engine, width),
        engines,
        work.num_trials,
        on_cpu=data.x_train_NCHW.device.type == "cpu",
        workers=work.workers,
        any_width=width == known.width and not (run.width or needs_mirror(plan.settings)),
    )
    tried = _that_fit(plan, data, tried)
    if len(tried) == 1 or in_time < min(known.width, MIN_WIDTH_COMPARED):
        return [known]
    num_steps = max(MIN_STEPS, min(MAX_STEPS, int(seconds / 60 / known.step)))
    make = _maker(plan, data, clock)
    makes = [lambda c=each: make(c, num_steps=num_steps) for each in tried]
    per_trial = known.short_epoch(num_steps) / known.width
    predicted = [per_trial * each.width * (1 if each.engine == known.engine else SLOWER) for each in tried]
    scale = known.width / width
    with _quietly(data, plan.trial_config):
        found = compare(makes, predicted, seconds, clock, lambda timing: work.seconds(timing.scaled(scale)))
    timings = [timing.scaled(scale) for timing in found]
    for timing in timings:
        log.info("timed: %s, %.0f s in all", timing, work.seconds(timing))
    return timings or [known]


@contextmanager
def _quietly(data: TrainingData, config: StudyConfig) -> Iterator[None]:
    """Engines that are only tried have a lot to say; what is compiled once on a machine is none of a step's time."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if data.x_train_NCHW.device.type == "cpu":
            compile_kernels(config.train.optimizer)
        yield


def affordable_width(default: Timing, seconds: float, num_engines: int) -> int:
    """Trials in a pack that can be timed with each engine in so many seconds.

    Where that is less than the default's, steps are long and full of arithmetic, so their time grows with the trials:
    engines can be compared in narrower packs, if not widths.
    """
    num_epochs = (1 + MIN_REPEATS) * max(1, num_engines)
    return max(0, int(seconds / num_epochs / (default.short_epoch(MIN_STEPS) / default.width)))


def _maker(plan: StagePlan, data: TrainingData, clock: Clock) -> Callable[..., TimedPack]:
    config = plan.trial_config

    def make(candidate: Candidate, **options: Any) -> TimedPack:
        return TimedPack(config, data, candidate.engine, candidate.width, clock=clock, **options)

    return make


def _held_at_once(plan: StagePlan, data: TrainingData, num_engines: int) -> int:
    """Trials in a pack of each engine, so that all packs are in memory at a time; at least one.

    Where fewer fit than are in a pack of the search, each of them fills the device, so narrow packs tell about wide.
    """
    taken, room = _memory(plan, data)
    return max(1, int(room / (taken * max(1, num_engines)))) if free_bytes(data.x_val_NCHW.device) else sys.maxsize


def _that_fit(plan: StagePlan, data: TrainingData, tried: list[Candidate]) -> list[Candidate]:
    """The default, and as many others as memory holds beside it."""
    taken, room = _memory(plan, data)
    fit = tried[:1]
    room -= taken * tried[0].width
    for each in tried[1:]:
        if taken * each.width <= room:
            fit.append(each)
            room -= taken * each.width
    return fit


def _memory(plan: StagePlan, data: TrainingData) -> tuple[float, float]:
    """What a trial takes, and what there is for all packs: bytes, or parameters where no device tells its bytes."""
    config, device = plan.trial_config, data.x_val_NCHW.device
    net = build(*data.trained_net(config.model), data.num_classes)
    if (free := free_bytes(device)) is not None:
        return trial_bytes(net, data.trained_net(config.model)[1], largest(config), data.x_val_NCHW), SHARE * free
    return sum(parameter.numel() for parameter in net.parameters()), MAX_PARAMETERS


def time_bfloat16(
    plan: StagePlan, data: TrainingData, tuning: Tuning, clock: Clock = time.perf_counter
) -> float | None:
    """How many times as fast the chosen pack is in bfloat16; None if it cannot be trained so, or not in time."""
    config = plan.trial_config
    other = config.model_copy(update={"train": config.train.model_copy(update={"precision": "bfloat16"})})
    num_steps = max(MIN_STEPS, min(MAX_STEPS, int(MAX_SECONDS / 40 / tuning.step)))
    makes = [
        lambda c=each: TimedPack(c, data, tuning.engine, tuning.width, num_steps=num_steps, clock=clock)
        for each in (config, other)
    ]
    predicted = [num_steps * tuning.step, SLOWER * num_steps * tuning.step]
    # A LeNet, of which bfloat16 saves a quarter, takes more than a second to be timed twice.
    seconds = max(MAX_SECONDS / 2, min(2 * MAX_SECONDS, BFLOAT16_SHARE * tuning.seconds))
    with _quietly(data, config):
        timings = compare(makes, predicted, seconds, clock, lambda timing: timing.step)
    return timings[0].step / timings[1].step if len(timings) == 2 else None
