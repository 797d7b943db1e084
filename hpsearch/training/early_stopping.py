"""Early stopping: when a validation curve has not got better for so long that nobody would wait any more."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hpsearch.results import Direction, goodness

SMOOTHED = 3  # epochs in one mean: the curve is noisy, so one lucky epoch neither ends a trial nor saves it
MIN_GAIN = 1e-9  # of a mean: more than rounding, less than one image of any hold-out, or than a loss is worth


def stopped_early(values: Sequence[float], patience: int, direction: Direction = "maximize") -> bool:
    """Whether the last `patience` epochs brought nothing new.

    Each epoch counts as the mean of its value and the SMOOTHED - 1 before it (of fewer, where the curve begins). The
    trial stops where none of the last `patience` means is better than the best of those before them. It depends on the
    values alone, so a trial that goes on elsewhere stops after the same epoch.

    Args:
        values: one per epoch from the first on; nan is worse than all.
        patience: epochs, at least 1.
        direction: whether more is better.
    """
    if len(values) <= patience:
        return False
    values = [goodness(value, direction) for value in values]
    means = [sum(values[max(0, end - SMOOTHED) : end]) / min(SMOOTHED, end) for end in range(1, len(values) + 1)]
    before = max(means[:-patience])
    return math.isfinite(before) and max(means[-patience:]) <= before + MIN_GAIN
