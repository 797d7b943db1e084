"""The values that a Gaussian process and CMA-ES are told: a number of each trial, all on one scale. Pure.

A trial that exploded is told as the worst that did not: such samplers read complete trials alone, and would never learn
of it. What is far behind is told as less far: a Gaussian process scales values by their standard deviation, by which
one loss of 1e6 makes all good ones equal. Measured on surfaces whose values were made exponential (docs/log.md).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import TypeGuard

from hpsearch.results import Direction, goodness

FAR = 3.0  # times the distance of the median from the best: no value is told as further behind the median
LARGEST = 1e100  # that is told: the squares of larger ones, of which variances are made, soon overflow


def told_values(values: Sequence[float | None], direction: Direction) -> list[float]:
    """What to tell of trials.

    Args:
        values: of each; None of one that exploded, which nan and inf, of other programs, say as well.
        direction: of the study.
    """
    largest = max((abs(value) for value in values if _is_finite(value)), default=None)
    if largest is None:
        return [0.0] * len(values)
    if largest > LARGEST:  # all of them smaller alike: what counts is how they differ
        values = [value * (LARGEST / largest) if _is_finite(value) else None for value in values]
    known = [goodness(value, direction) for value in values if _is_finite(value)]
    middle = statistics.median(known)
    worst = max(min(known), middle - FAR * (max(known) - middle))
    sign = goodness(1.0, direction)
    return [sign * (max(worst, goodness(value, direction)) if _is_finite(value) else worst) for value in values]


def _is_finite(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)
