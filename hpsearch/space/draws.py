"""Hyperparameters drawn when a stage is created, so that they depend on the seed and not on the workers.

A draw is a unit in [0, 1) that `quantile` turns into a value. numpy and scipy are imported where they are used:
commands that only read a study must start fast.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from itertools import product
from typing import TYPE_CHECKING, Any

from hpsearch.config import Choice, IntRange, NumberRange, Range
from hpsearch.errors import ConfigError
from hpsearch.space.scale import from_place, from_unit, grid_value, nearest_value, num_values, to_place

if TYPE_CHECKING:
    import numpy as np


def draw_random(ranges: Mapping[str, Range], num_trials: int, seed: int) -> list[dict[str, Any]]:
    """Independent uniform draws in each parameter's scale.

    The value of a parameter in trial i depends on the seed, the parameter's name and range, and i: neither on
    `num_trials` nor on what else is searched.
    """
    units = {name: _generator(seed, name).random(num_trials) for name in ranges}
    return [
        {name: quantile(range_, float(units[name][trial])) for name, range_ in ranges.items()}
        for trial in range(num_trials)
    ]


def draw_qmc(ranges: Mapping[str, Range], num_trials: int, seed: int) -> list[dict[str, Any]]:
    """Points of a scrambled Sobol sequence (Owen 1998), which fill the space more evenly than random ones.

    Trial i does not depend on `num_trials`.
    """
    from scipy.stats import qmc

    if not ranges:
        return [{} for _ in range(num_trials)]
    # Whole powers of two keep the sequence balanced; scipy warns of anything else, so the rest is cut off.
    sobol = qmc.Sobol(d=len(ranges), scramble=True, rng=_generator(seed, "sobol"))
    units = sobol.random_base2(math.ceil(math.log2(num_trials)))[:num_trials]
    return [
        {name: quantile(range_, float(unit)) for (name, range_), unit in zip(ranges.items(), row, strict=True)}
        for row in units
    ]


def draw_grid(ranges: Mapping[str, Range], num_trials: int, seed: int) -> list[dict[str, Any]]:
    """The largest balanced grid of at most `num_trials` points, shuffled.

    Choices stand in full. Numbers are spread evenly over their scale, both ends included (one point: the middle),
    all with the same count, or one more for the first of them, and none with more than it has values.

    Raises:
        ConfigError: the choices alone have more combinations than there are trials.
    """
    axes = [_axis(range_, count) for range_, count in zip(ranges.values(), _counts(ranges, num_trials), strict=True)]
    points = [dict(zip(ranges, point, strict=True)) for point in product(*axes)]
    return [points[index] for index in _generator(seed, "grid").permutation(len(points))]


def quantile(range_: Range, unit: float) -> Any:
    """The value below which a share `unit` of uniform draws falls: floats uniform in their scale, others equally often.

    Ints on a log scale own the stretch from half a unit below to half a unit above.
    """
    if isinstance(range_, Choice):
        return range_.values[min(int(unit * len(range_.values)), len(range_.values) - 1)]
    if range_.step is None:
        return from_unit(range_, unit)
    if range_.log:
        low, high = (to_place(range_, end) for end in (range_.low - 0.5, range_.high + 0.5))
        return nearest_value(range_, from_place(range_, low + unit * (high - low)))
    count = int(num_values(range_))
    return grid_value(range_, min(int(unit * count), count - 1))


def _generator(seed: int, name: str) -> np.random.Generator:
    import numpy as np

    stable_hash = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, stable_hash])))


def _counts(ranges: Mapping[str, Range], num_trials: int) -> list[int]:
    """Points on each axis of the grid: the smallest axis that can still grow does, while the budget lasts."""
    counts = [len(range_.values) if isinstance(range_, Choice) else 1 for range_ in ranges.values()]
    if math.prod(counts) > num_trials:
        choices = [name for name, range_ in ranges.items() if isinstance(range_, Choice)]
        raise ConfigError(
            f"trials = {num_trials} is too few for a grid: {', '.join(choices)} alone have {math.prod(counts)} "
            f"combinations.\nAllowed: at least {math.prod(counts)} trials, fewer choices, or another sampler."
        )
    most = [num_values(range_) for range_ in ranges.values()]
    while growing := [axis for axis, count in enumerate(counts) if count < most[axis]]:
        smallest = min(growing, key=lambda axis: counts[axis])
        grown = math.prod(counts) // counts[smallest] * (counts[smallest] + 1)
        if grown > num_trials:
            break
        counts[smallest] += 1
    return counts


def _axis(range_: Range, count: int) -> list[Any]:
    if isinstance(range_, Choice):
        return list(range_.values)
    if count == 1:
        return [from_unit(range_, 0.5)]
    return _distinct(range_, [from_unit(range_, index / (count - 1)) for index in range(count)])


def _distinct(range_: NumberRange, points: list[float]) -> list[float]:
    """Low ints on a log scale fall together; each that does moves up one step, which never passes the high end."""
    if not isinstance(range_, IntRange):
        return points
    for index in range(1, len(points)):
        points[index] = max(points[index], points[index - 1] + range_.step)
    return points
