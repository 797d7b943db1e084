"""How the learning rate changes over the epochs, and within them.

Most schedules give each epoch one rate. Within it, one-cycle and warm-up set that of each step, by factors that follow
from the updates a trial has made: on the device, so that no step waits, and the same after a snapshot.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from hpsearch.config import TrainConfig
from hpsearch.training.vectors import Vectors

# Of one-cycle, as of torch.optim.lr_scheduler.OneCycleLR.
RISE = 0.3  # of all steps
FIRST_FACTOR = 1 / 25
LAST_FACTOR = FIRST_FACTOR / 1e4


def learning_rate(train: TrainConfig, lr_K: Tensor, lr_decay_K: Tensor, epoch: int) -> Tensor:
    """The rates of one epoch (the first one is 1), of shape [K], from those of the first epoch."""
    done = epoch - 1
    match train.lr_schedule:
        case "exponential":
            return lr_K * lr_decay_K**done
        case "step":
            return lr_K * lr_decay_K ** (done // train.lr_step)
        case "cosine":
            return lr_K * _half_wave(done / train.epochs)
        case "linear":
            return lr_K * (1 - done / train.epochs)
        case "sgdr":  # Loshchilov & Hutter 2017
            return lr_K * _half_wave(_share_of_period(done, train.lr_period, train.lr_period_factor))
        case "inverse-sqrt":
            return lr_K / math.sqrt(epoch)
        case "constant" | "one-cycle":
            return lr_K


def slot_rates(train: TrainConfig, vectors: Vectors, epochs: Sequence[int]) -> Tensor:
    """The rates of slots of which each is at an epoch of its own, of shape [K]."""
    rates = {epoch: learning_rate(train, vectors.lr, vectors.lr_decay, epoch) for epoch in set(epochs)}
    if len(rates) == 1:
        return rates[epochs[0]]
    return torch.stack([rates[epoch][slot] for slot, epoch in enumerate(epochs)])


def cycle_ends(train: TrainConfig, epochs: int) -> list[int]:
    """The epochs, of the first so many, with which a cycle of the rate ends before it restarts: none but with sgdr.

    A cycle that the last epoch cuts short has no end: its rate is still high.
    """
    if train.lr_schedule != "sgdr":
        return []
    ends, end, period = list[int](), train.lr_period, train.lr_period
    while end <= epochs:
        ends.append(end)
        period *= train.lr_period_factor
        end += period
    return ends


def has_step_factors(train: TrainConfig, warmup_K: Tensor) -> bool:
    """Whether steps of one epoch have different rates."""
    return train.lr_schedule == "one-cycle" or bool(warmup_K.any())


def step_factor(train: TrainConfig, updates_K: Tensor, num_steps: int, warmup_K: Tensor) -> Tensor:
    """What the rates of the epoch are multiplied with in one step, of shape [K].

    Args:
        train: the structural values.
        updates_K: of each trial, the one that is made included; of a trial at rest, any number.
        num_steps: of an epoch.
        warmup_K: in epochs, in the precision and on the device of the factors.
    """
    factor_K = warm_up(updates_K, warmup_K * num_steps)
    if train.lr_schedule == "one-cycle":
        factor_K = factor_K * one_cycle(updates_K.to(warmup_K), train.epochs * num_steps)
    return factor_K


def warm_up(updates_K: Tensor, length_K: Tensor) -> Tensor:
    """Factors min(1, t / length) of update t = 1, 2, ...; 1 where the length is 0.

    The length is train.warmup * steps of an epoch. The schedule's epochs count from the first one, so that it is the
    same with a warm-up as without. As of Goyal et al. 2017 and, where the length is whole, torch's LinearLR of every
    step, with start_factor 1/length and total_iters length - 1.
    """
    # Shorter than one is as long as one, and spares 0 / 0 of those who have made no update.
    return (updates_K / length_K.clamp(min=1)).clamp(max=1)


def one_cycle(updates_K: Tensor, total: int) -> Tensor:
    """Factors of the highest rate: half a wave up, and another one down (Smith 2018), as of torch's OneCycleLR.

    Args:
        updates_K: 1, 2, ... `total`, as floats.
        total: steps of a training.
    """
    step_K = (updates_K - 1).clamp(min=0)
    top = RISE * total - 1
    down_K = _between(1.0, LAST_FACTOR, (step_K - top) / (total - 1 - top))
    return torch.where(step_K <= top, _between(FIRST_FACTOR, 1.0, step_K / top), down_K)


def _between(start: float, end: float, share_K: Tensor) -> Tensor:
    return end + (start - end) / 2 * (1 + torch.cos(math.pi * share_K))


def _half_wave(share: float) -> float:
    """From 1 to 0."""
    return 0.5 * (1 + math.cos(math.pi * share))


def _share_of_period(done: int, period: int, factor: int) -> float:
    if factor == 1:
        return done % period / period
    while done >= period:
        done, period = done - period, period * factor
    return done / period
