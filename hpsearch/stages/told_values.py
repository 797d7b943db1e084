"""The values that a Gaussian process and CMA-ES are told: a number of each trial, all on one scale. Pure.

A trial that exploded is told as the worst that did not: such samplers read complete trials alone, and would never learn
of it. What is far behind is told as less far: a Gaussian process scales values by their standard deviation, by which
one loss of 1e6 makes all good ones equal. Measured on surfaces whose values were made exponential (docs/log.md).
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from hpsearch.results import Direction, goodness

FAR = 3.0  # times the distance of the median from the best: no value is told as further behind the median


def told_values(values: Sequence[float | None], direction: Direction) -> list[float]:
    """What to tell of trials.

    Args:
        values: of each; None of one that exploded.
        direction: of the study.
    """
    known = [goodness(value, direction) for value in values if value is not None]
    if not known:
        return [0.0] * len(values)
    middle = statistics.median(known)
    worst = max(min(known), middle - FAR * (max(known) - middle))
    sign = goodness(1.0, direction)
    return [sign * (worst if value is None else max(worst, goodness(value, direction))) for value in values]
