"""Hyperparameters drawn when a stage is created, so that they depend on the seed and not on the workers.

A draw is a unit in [0, 1) that `quantile` turns into a value. numpy and scipy are imported where they are used:
commands that only read a study must start fast.

Where hyperparameters are conditional, all of a trial are drawn, and those that do not apply are left out: what a trial
has does not depend on the others' conditions. A grid has each combination of what applies once.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, product
from typing import TYPE_CHECKING, Any

from hpsearch.config import Choice, IntRange, NumberRange, Range
from hpsearch.config.conditions import ALWAYS, Conditions
from hpsearch.errors import ConfigError
from hpsearch.space.scale import from_place, from_unit, grid_value, nearest_value, num_values, to_place

if TYPE_CHECKING:
    import numpy as np


def draw_random(
    ranges: Mapping[str, Range], num_trials: int, seed: int, conditions: Conditions = ALWAYS
) -> list[dict[str, Any]]:
    """Independent uniform draws in each parameter's scale.

    The value of a parameter in trial i depends on the seed, the parameter's name and range, and i: neither on
    `num_trials` nor on what else is searched.
    """
    units = {name: _generator(seed, name).random(num_trials) for name in ranges}
    drawn = (
        {name: quantile(range_, float(units[name][trial])) for name, range_ in ranges.items()}
        for trial in range(num_trials)
    )
    return [conditions.restricted(params) for params in drawn]


def draw_one(name: str, range_: Range, trial: int, seed: int) -> Any:
    """What `draw_random` draws of this parameter for the trial of this number."""
    return quantile(range_, float(_generator(seed, name).random(trial + 1)[trial]))


def draw_qmc(
    ranges: Mapping[str, Range], num_trials: int, seed: int, conditions: Conditions = ALWAYS
) -> list[dict[str, Any]]:
    """Points of a scrambled Sobol sequence (Owen 1998), which fill the space more evenly than random ones.

    Trial i does not depend on `num_trials`.
    """
    from scipy.stats import qmc

    if not ranges:
        return [{} for _ in range(num_trials)]
    # Whole powers of two keep the sequence balanced; scipy warns of anything else, so the rest is cut off.
    sobol = qmc.Sobol(d=len(ranges), scramble=True, rng=_generator(seed, "sobol"))
    units = sobol.random_base2(math.ceil(math.log2(num_trials)))[:num_trials]
    drawn = (
        {name: quantile(range_, float(unit)) for (name, range_), unit in zip(ranges.items(), row, strict=True)}
        for row in units
    )
    return [conditions.restricted(params) for params in drawn]


def draw_grid(
    ranges: Mapping[str, Range], num_trials: int, seed: int, conditions: Conditions = ALWAYS
) -> list[dict[str, Any]]:
    """The largest balanced grid of at most `num_trials` points, shuffled.

    Choices stand in full. Numbers are spread evenly over their scale, both ends included (one point: the middle),
    all with the same count, or one more for the first of them, and none with more than it has values. (Beside
    conditional ones, the first ones may have more: it is the points that are counted.)

    Raises:
        ConfigError: the choices alone have more combinations than there are trials.
    """
    counts = _counts(ranges, num_trials, conditions)
    axes = {name: _axis(range_, count) for (name, range_), count in zip(ranges.items(), counts, strict=True)}
    points = list(grid_points(axes, conditions))
    return [points[index] for index in _generator(seed, "grid").permutation(len(points))]


def grid_points(axes: Mapping[str, Sequence[Any]], conditions: Conditions = ALWAYS) -> Iterator[dict[str, Any]]:
    """All combinations of the values on some axes, each once: an axis that does not apply has no part in it."""
    if not conditions:
        yield from (dict(zip(axes, point, strict=True)) for point in product(*axes.values()))
        return
    order = conditions.in_order(axes)

    def branches(position: int, params: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if position == len(order):
            yield {name: params[name] for name in axes if name in params}
        elif conditions.applies(name := order[position], params):
            for value in axes[name]:
                yield from branches(position + 1, {**params, name: value})
        else:
            yield from branches(position + 1, params)

    yield from branches(0, {})


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


def _counts(ranges: Mapping[str, Range], num_trials: int, conditions: Conditions) -> list[int]:
    """Points on each axis of the grid: the smallest axis that can still grow does, while the budget lasts."""
    counts = [len(range_.values) if isinstance(range_, Choice) else 1 for range_ in ranges.values()]
    if (least := _num_points(ranges, counts, conditions)) > num_trials:
        choices = [name for name, range_ in ranges.items() if isinstance(range_, Choice)]
        raise ConfigError(
            f"trials = {num_trials} is too few for a grid: {', '.join(choices)} alone have {least} "
            f"combinations.\nAllowed: at least {least} trials, fewer choices, or another sampler."
        )
    most = [num_values(range_) for range_ in ranges.values()]
    while growing := [axis for axis, count in enumerate(counts) if count < most[axis]]:
        smallest = min(growing, key=lambda axis: counts[axis])
        grown = [count + (axis == smallest) for axis, count in enumerate(counts)]
        if _num_points(ranges, grown, conditions, num_trials + 1) > num_trials:
            break
        counts = grown
    return counts


def _num_points(
    ranges: Mapping[str, Range], counts: Sequence[int], conditions: Conditions, most: int | None = None
) -> int:
    """Points of a grid with so many on each axis; conditional ones are counted up to `most`."""
    if not conditions:
        return math.prod(counts)
    axes: dict[str, Sequence[Any]] = {
        name: range_.values if isinstance(range_, Choice) else _axis(range_, count)
        for (name, range_), count in zip(ranges.items(), counts, strict=True)
    }
    return sum(1 for _ in islice(grid_points(axes, conditions), most))


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
