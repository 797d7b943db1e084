"""A grid with a random offset, so that repeated grid searches are as different as repeated random ones.

`draw_grid` puts its points on the same places whatever the seed. Repeats of it would differ by the noise of training
alone, and whether it beats random search would hang on where the optimum happens to lie between its points. Here each
axis of n points is cut into n equal cells, and one offset per axis and seed places the point inside all of its cells
(a randomly shifted lattice: Cranley & Patterson 1976). So every value is equally likely to be tried, as in random
search, while the points still stand on a grid: n^d trials, n values per axis.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpsearch.config import Choice, IntRange, NumberRange, Range
from hpsearch.config.conditions import ALWAYS, Conditions
from hpsearch.space.draws import _generator, draw_grid, grid_points, quantile


def draw_shifted_grid(
    ranges: Mapping[str, Range], num_trials: int, seed: int, conditions: Conditions = ALWAYS
) -> list[dict[str, Any]]:
    """A grid with as many points on each axis as `draw_grid` has, moved by an offset per axis, shuffled.

    Choices stand in full. The offset of an axis depends on the seed and the parameter's name alone.

    Raises:
        ConfigError: the choices alone have more combinations than there are trials.
    """
    regular = draw_grid(ranges, num_trials, seed, conditions)
    axes = {
        name: list(range_.values)
        if isinstance(range_, Choice)
        else _shifted_axis(range_, len({point[name] for point in regular if name in point}), _offset(seed, name))
        for name, range_ in ranges.items()
    }
    points = list(grid_points(axes, conditions))
    return [points[index] for index in _generator(seed, "grid").permutation(len(points))]


def _offset(seed: int, name: str) -> float:
    return float(_generator(seed, f"offset of {name}").random())


def _shifted_axis(range_: NumberRange, count: int, offset: float) -> list[Any]:
    values = [quantile(range_, (cell + offset) / count) for cell in range(count)]
    if isinstance(range_, IntRange) and range_.log:  # cells of low ints are narrower than 1: spread what falls together
        for index in range(1, count):
            values[index] = max(values[index], values[index - 1] + range_.step)
        for index in reversed(range(count)):
            values[index] = min(values[index], range_.high - (count - 1 - index) * range_.step)
    return values
