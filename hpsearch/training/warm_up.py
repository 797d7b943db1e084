"""Warm-up: the rate rises linearly over the first updates of a trial, in front of whatever its schedule says."""

from __future__ import annotations

from torch import Tensor


def warm_up(done_K: Tensor, length_K: Tensor) -> Tensor:
    """Factors min(1, done / length) of the schedule's rates, of shape [K]; 1 where the length is 0.

    The schedule's epochs count from the first one, so that it is the same with a warm-up as without. Update t = 1, 2,
    ... has the factor min(1, t / (train.warmup * steps of an epoch)), as of Goyal et al. 2017 and, where that product w
    is whole, torch's LinearLR of every step, with start_factor 1/w and total_iters w - 1.

    Args:
        done_K: updates, or epochs, the one that is made included: at least 1, or any number of a trial at rest.
        length_K: of the warm-up, as many.
    """
    # Shorter than one is as long as one, and spares 0 / 0 of those who have made no update.
    return (done_K / length_K.clamp(min=1)).clamp(max=1)
