"""What a metric is at its ends: whether it says anything about some images, and what it is told of an explosion."""

from __future__ import annotations

import math

import numpy as np
import torch

from hpsearch.config import StudyConfig, usercode
from hpsearch.config.losses import guessing_loss
from hpsearch.config.metric import METRICS, Metric
from hpsearch.datasets.device import TrainingData
from hpsearch.errors import ConfigError
from hpsearch.training.metrics import TOP, call

WORST = 0.0  # of measures that are shares


def exploded_value(config: StudyConfig, metric: Metric, data: TrainingData) -> float:
    """What samplers are told of a trial that exploded: finite, and no better than a guess.

    0 for shares. For the loss, what its cost was beyond at least: train.explosion times that of guessing. For a user's
    function, whose range nobody knows, what it gives where all classes are equally likely.

    Raises:
        UserCodeError: the function raises or returns no number.
    """
    if metric.name == "loss":
        return config.train.explosion * guessing_loss(config.train.loss, data.num_classes)
    if metric.name in METRICS:
        return WORST
    dtype = torch.empty(0, dtype=data.x_val_NCHW.dtype).numpy().dtype
    scores_NC = np.full((len(data.y_val_N), data.num_classes), 1 / data.num_classes, dtype)
    function, labels_N = usercode.load(metric.name), data.y_val_N.cpu().numpy()
    with usercode.blame(metric.name, "calling it as train.metric"):
        value = call(function, scores_NC, labels_N)
    return value if math.isfinite(value) else WORST


def refuse_undefined(config: StudyConfig, metric: Metric, data: TrainingData) -> None:
    """Whether the metric says anything about these images.

    Raises:
        ConfigError: it is the same for every net, or the user's function fails.
    """
    if metric.name == "top5" and data.num_classes <= TOP:
        raise ConfigError(
            f"train.metric = 'top5' is 1 for every net: there are {data.num_classes} classes.\n"
            f"Allowed: more than {TOP} classes, or another metric."
        )
    if metric.name == "auroc" and data.largest_share == 1:
        raise ConfigError(
            "train.metric = 'auroc' is not defined: all validation images are of one class.\n"
            "Hold out images of two classes or more (data.val), or take another metric."
        )
    exploded_value(config, metric, data)
