"""How many trials a worker takes, where several share what is left of a stage."""

from __future__ import annotations

import math


def even_share(num_waiting: int, left_elsewhere: float, num_workers: int, most: int) -> int:
    """Trials for the worker that asks: its next pack, where all are to end at about one time with packs of one size.

    Args:
        num_waiting: trials that nobody has.
        left_elsewhere: of those that others train, counted as parts: two that are half done are one.
        num_workers: that share all this, the one that asks among them; they are taken to be equally fast.
        most: trials.
    """
    even = (num_waiting + left_elsewhere) / num_workers
    num_packs = max(1, math.ceil(even / most))
    return max(1, math.ceil(even / num_packs))
