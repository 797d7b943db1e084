"""How the learning rate falls over the epochs."""

from __future__ import annotations

import math

from torch import Tensor

from hpsearch.config import TrainConfig


def learning_rate(train: TrainConfig, lr_K: Tensor, lr_decay_K: Tensor, epoch: int) -> Tensor:
    """The rates of one epoch (the first one is 1), of shape [K], from those of the first epoch."""
    match train.lr_schedule:
        case "exponential":
            return lr_K * lr_decay_K ** (epoch - 1)
        case "step":
            return lr_K * lr_decay_K ** ((epoch - 1) // train.lr_step)
        case "cosine":
            return lr_K * (0.5 * (1 + math.cos(math.pi * (epoch - 1) / train.epochs)))
