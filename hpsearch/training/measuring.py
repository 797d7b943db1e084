"""What an epoch's end says of each slot of a pack.

Shapes: K = trials in the pack, B = images of the sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from hpsearch.config.metric import ACCURACY, Metric
from hpsearch.datasets.device import TrainingData
from hpsearch.results import EpochResult
from hpsearch.training.engine import Engine
from hpsearch.training.metrics import passes
from hpsearch.training.schedules import slot_rates, step_factor
from hpsearch.training.slots import Slots


class Measured(NamedTuple):
    """Of one slot: means over the epoch's steps, the sample of the training images, and the hold-out."""

    cost: float
    train_loss: float
    train_acc: float
    val_loss: float
    val_acc: float
    update_ratio: float
    score: float | None = None
    """Of the metric; None where that is the accuracy."""

    @property
    def value(self) -> float:
        """Of the metric."""
        return self.val_acc if self.score is None else self.score


def measure(
    engine: Engine,
    data: TrainingData,
    sample: tuple[Tensor, Tensor],
    num_steps: int,
    metric: Metric = ACCURACY,
    slots: Sequence[int] = (),
) -> list[Measured]:
    """By slot; waits for the device once, and once more for measures beside accuracy and loss.

    Args:
        engine: with the costs of so many steps in its state.
        data: has the hold-out.
        sample: x_BCHW and y_B of training images.
        num_steps: updates of the epoch.
        metric: what counts.
        slots: where trials are; others have no score.

    Raises:
        Exception: what the user's metric raises.
    """
    state = engine.state
    train_loss_K, train_correct_K = engine.evaluate(*sample)
    x_val_NCHW, y_val_N = data.x_val_NCHW, data.y_val_N
    num_scores, device = len(y_val_N) * data.num_classes, y_val_N.device.type
    rounds = passes(metric, slots, state.num_trials, num_scores, device)
    val_loss_K, val_correct_K = engine.evaluate(x_val_NCHW, y_val_N, rounds[0][1].add if rounds else None)
    scores: dict[int, float] = {}
    for number, (measured, one) in enumerate(rounds):
        if number:  # the first one has watched already
            engine.evaluate(x_val_NCHW, y_val_N, one.add)
        scores |= zip(measured, one.values(), strict=True)
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
    return [
        m._replace(
            train_acc=m.train_acc / of_sample,
            val_acc=m.val_acc / of_val,
            score=m.val_loss if metric.name == "loss" else scores.get(slot),
        )
        for slot, m in enumerate(found)
    ]


def epoch_results(
    engine: Engine,
    data: TrainingData,
    sample: tuple[Tensor, Tensor],
    num_steps: int,
    metric: Metric,
    slots: Slots,
) -> list[EpochResult]:
    """Of each trial in the slots, at the end of its next epoch; with train.ema, of the averages.

    Args: as of `measure`; slots with the epochs that were done before.
    """
    state, train, taken = engine.state, engine.state.train, [slot for slot, _ in slots.taken]
    with state.nets.averaged():
        measured = measure(engine, data, sample, num_steps, metric, taken)
    plain: dict[int, float] = {}
    if averaged := [slot for slot in taken if state.vectors.ema[slot]]:
        found = measure(engine, data, sample, num_steps, metric, averaged)
        plain = {slot: found[slot].value for slot in averaged}
    done_K = torch.tensor(slots.next_epochs) * num_steps
    factor_K = step_factor(train, done_K, num_steps, state.vectors.warmup)
    rates = (slot_rates(train, state.vectors, slots.next_epochs) * factor_K).tolist()  # of the epoch's last step
    return [
        EpochResult(
            number=number,
            epoch=slots.epochs[number] + 1,
            lr=rates[slot],
            plain_score=plain.get(slot),
            **measured[slot]._asdict(),
        )
        for slot, number in slots.taken
    ]
