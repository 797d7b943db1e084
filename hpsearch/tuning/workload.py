"""How much work a stage is, and what that means by rule for the trials in one pack."""

from __future__ import annotations

import math

from hpsearch.config import RunConfig, StageConfig, StudyConfig
from hpsearch.datasets.device import TrainingData
from hpsearch.models import build, num_multiplications
from hpsearch.stages.halving import Halving
from hpsearch.stages.mirrors import needs_mirror
from hpsearch.stages.plan import StagePlan
from hpsearch.training.device_memory import SHARE, free_bytes, largest, trial_bytes

# Measured on 2 cores with the engine fused: 32 trials of a 3072-50-10 net (154,160 parameters) are as fast as 8.
CPU_PARAMETERS = 32 * 160_000
MAX_WIDTH_ON_CPU = 32
MAX_WIDTH_ON_ACCELERATOR = 128
MIN_ROUNDS = 6  # samplers and pruners learn from finished packs, so they need some of them; rungs, too


def choose_width(
    config: StudyConfig,
    data: TrainingData,
    run: RunConfig,
    settings: StageConfig,
    num_trials: int,
    workers: int = 1,
    device: str | None = None,
) -> int:
    """The user's width, or one that fits the device and leaves sampler and pruner some rounds to learn from.

    Where they learn nothing, all workers get as many packs: 20 trials for two are two packs of 10, not one of 20.
    Of a budget in epochs, as many trials count as it will suffice for. `device` is the type of the workers' device, if
    it is not that of the data.
    """
    if run.width:
        return min(run.width, num_trials)
    num_trials = Halving.of(settings).expected_trials(num_trials)
    trained, shape = data.trained_net(config.model)
    model = build(trained, shape, data.num_classes)
    parameters = max(1, sum(p.numel() for p in model.parameters() if p.requires_grad))
    if (device or data.x_train_NCHW.device.type) == "cpu":
        width = max(4, min(MAX_WIDTH_ON_CPU, CPU_PARAMETERS // parameters))
    else:
        width = MAX_WIDTH_ON_ACCELERATOR
        if (free := free_bytes(data.x_val_NCHW.device)) is not None:
            taken = trial_bytes(model, shape, largest(config), data.x_val_NCHW) * len(data.folds)
            width = max(1, min(width, int(SHARE * free / taken)))
    if needs_mirror(settings) or settings.halving != "none":
        return balanced(num_trials, min(width, math.ceil(num_trials / MIN_ROUNDS)))
    return balanced(num_trials, width, workers)


def balanced(num_trials: int, width: int, workers: int = 1) -> int:
    """The greatest width up to this one with packs of about one size, as many for each worker: they end together."""
    rounds = -(-num_trials // (workers * width))
    return -(-num_trials // (workers * rounds))


def arithmetic(plan: StagePlan, data: TrainingData) -> float:
    """Floating-point operations of the stage: forward, and the gradients of weights and inputs as much again each."""
    trained, shape = data.trained_net(plan.trial_config.model)
    operations = 6.0 * num_multiplications(build(trained, shape, data.num_classes), shape)
    return operations * data.num_train * len(data.folds) * plan.settings.epochs * plan.num_whole_trials
