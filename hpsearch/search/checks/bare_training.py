"""What a check trains: a net with a few images, and nothing that keeps it from fitting them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hpsearch.config import StudyConfig
from hpsearch.config.metric import ACCURACY
from hpsearch.datasets.device import TrainingData
from hpsearch.models import NOISES


def few_images(data: TrainingData, num: int) -> TrainingData:
    """A few training images, never augmented, which serve as the hold-out, too: a check has no use for another."""
    x_NCHW, y_N = data.train_sample(num)
    few = replace(data, x_train_NCHW=x_NCHW, y_train_N=y_N, x_val_NCHW=x_NCHW[:1], y_val_N=y_N[:1])
    return replace(few, augment=(), sampling="shuffled")


def bare_config(config: StudyConfig, train: dict[str, Any]) -> StudyConfig:
    """The net and its optimizer with nothing that keeps it from fitting; `train` says the rest."""
    off: dict[str, Any] = dict.fromkeys(("reg", "l1", "weight_decay", "label_smoothing", "focal", "warmup", "ema"), 0.0)
    off |= {
        "teacher": None,
        "distill": 0.0,
        "lr_schedule": "exponential",
        "lr_decay": 1.0,
        "metric": ACCURACY.name,
        "class_weights": "none",
        "accumulate": 1,
    }
    return config.model_copy(
        update={
            "train": config.train.model_copy(update=off | train),
            "model": config.model.model_copy(update=dict.fromkeys(NOISES, 0.0)),
        }
    )
