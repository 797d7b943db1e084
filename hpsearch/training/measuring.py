"""What an epoch's end says of each slot of a pack.

Shapes: K = trials in the pack, B = images of the sample.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from hpsearch.datasets.device import TrainingData
from hpsearch.training.engine import Engine


class Measured(NamedTuple):
    """Of one slot: means over the epoch's steps, the sample of the training images, and the hold-out."""

    cost: float
    train_loss: float
    train_acc: float
    val_loss: float
    val_acc: float
    update_ratio: float


def measure(engine: Engine, data: TrainingData, sample: tuple[Tensor, Tensor], num_steps: int) -> list[Measured]:
    """By slot; waits for the device once.

    Args:
        engine: with the costs of so many steps in its state.
        data: has the hold-out.
        sample: x_BCHW and y_B of training images.
        num_steps: of the epoch.
    """
    state = engine.state
    train_loss_K, train_correct_K = engine.evaluate(*sample)
    val_loss_K, val_correct_K = engine.evaluate(data.x_val_NCHW, data.y_val_N)
    columns = (
        state.cost_sum_K / num_steps,
        train_loss_K,
        train_correct_K,
        val_loss_K,
        val_correct_K,
        state.update_ratio_K,
    )
    rows = torch.stack(columns, dim=1).tolist()
    of_sample, of_val = len(sample[1]), len(data.y_val_N)
    found = (Measured(*row) for row in rows)
    return [m._replace(train_acc=m.train_acc / of_sample, val_acc=m.val_acc / of_val) for m in found]
