"""How many trials train in one pack."""

from __future__ import annotations

import math

from hpsearch.config import RunConfig, StageConfig, StudyConfig
from hpsearch.datasets.device import TrainingData
from hpsearch.models import build
from hpsearch.search.proposals import needs_mirror

# Measured on 2 cores: 8 trials of a 3072-50-10 net (154,160 parameters) stay in the cache, 32 do not.
CPU_PARAMETERS = 8 * 160_000
MOST_ON_CPU = 32
MOST_ON_ACCELERATOR = 128
LEAST_ROUNDS = 6  # samplers and pruners learn from finished packs, so they need some of them


def choose_width(
    config: StudyConfig, data: TrainingData, run: RunConfig, settings: StageConfig, num_trials: int
) -> int:
    """The user's width, or one that fits the device's cache and leaves sampler and pruner some rounds to learn from."""
    if run.width:
        return min(run.width, num_trials)
    model = build(config.model, data.shape, data.num_classes)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    if data.x_train_NCHW.device.type == "cpu":
        width = max(4, min(MOST_ON_CPU, CPU_PARAMETERS // parameters))
    else:
        width = MOST_ON_ACCELERATOR
    if needs_mirror(settings):
        width = min(width, math.ceil(num_trials / LEAST_ROUNDS))
    return max(1, min(width, num_trials))
