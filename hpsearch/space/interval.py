"""Where the next range of a number should lie: arithmetic on one parameter's scale, no trials and no words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias

from hpsearch.config import IntRange, NumberRange
from hpsearch.config.ranges import Limits as Limits
from hpsearch.space.explosions import Edges
from hpsearch.space.moving import move_past_end
from hpsearch.space.scale import from_place, grid_value, position, to_place, with_ends

Side: TypeAlias = Literal["inside", "lower", "upper"]

MIN_PAD = 0.05  # of the old width, on each side of the top
BOUNDARY_SHARE = 0.05  # of the width: a best that close to an end is on the boundary
MIN_LOG_WIDTH = math.log10(2)  # decades
MIN_LINEAR_WIDTH = 0.1  # of the old width


def side_of(unit: float) -> Side:
    """Whether a best at this share of its range is inside or on a boundary; an end belongs to its boundary."""
    if unit <= BOUNDARY_SHARE:
        return "lower"
    return "upper" if unit >= 1 - BOUNDARY_SHARE else "inside"


def narrow_interval(
    old: NumberRange, values: Sequence[float], num_top: int, edges: Edges, limits: Limits, *, stays: bool = False
) -> NumberRange:
    """The range around the top trials' values that stays between the edges and within the limits.

    Args:
        old: the range that was searched; more than one value, and its high end on its grid.
        values: of the trials that the top was chosen from, best first. The first lies in the result unless the limits
            exclude it.
        num_top: how many of them are the top.
        edges: beyond which every trial exploded; the best lies between them.
        limits: beyond which the parameter has no meaning.
        stays: whether all of the old range stays between the edges, and moves only outwards.
    """
    limits = _meaningful(old, limits)
    low, high = _around_top(old, values, num_top, stays)
    low, high = (_clip(old, _clip(old, place, edges), limits) for place in (low, high))
    low, high = _widen_to_floor(old, low, high, edges, limits)
    if old.step is not None:
        return _snap_outwards(old, low, high, limits)
    known = [old.low, old.high, *edges, *limits]
    new_low, new_high = (_exact(from_place(old, place), known) for place in (low, high))
    return with_ends(old, _within(min(new_low, values[0]), limits), _within(max(new_high, values[0]), limits))


def _around_top(old: NumberRange, values: Sequence[float], num_top: int, stays: bool) -> tuple[float, float]:
    """Places of the ends before edges and limits: the top, padded; past the end where the best is on it."""
    first, last = _places(old)
    width = last - first
    # n points thrown on a line leave gaps of width / (n + 1) on average: the optimum may lie one gap off the top.
    pad = width * max(MIN_PAD, 1 / (len(values) + 1))
    units = [position(old, value) for value in values]
    top = [to_place(old, value) for value in values[:num_top]]
    low, high = (first, last) if stays else (max(first, min(top) - pad), min(last, max(top) + pad))
    match side_of(units[0]):
        case "lower":
            low = min(first, top[0]) - move_past_end(width, old.log, units, num_top)
        case "upper":
            high = max(last, top[0]) + move_past_end(width, old.log, [1 - unit for unit in units], num_top)
    return low, high


def _widen_to_floor(old: NumberRange, low: float, high: float, edges: Edges, limits: Limits) -> tuple[float, float]:
    """Ends at least the floor apart, as far as old range, edges and limits have room for it."""
    first, last = _places(old)
    floor = MIN_LOG_WIDTH if old.log else MIN_LINEAR_WIDTH * (last - first)
    missing = floor - (high - low)
    if missing <= 0:
        return low, high
    lowest, highest = (_clip(old, _clip(old, place, edges), limits) for place in (first, last))
    lowest, highest = min(low, lowest), max(high, highest)
    low = max(lowest, low - missing / 2)
    high = min(highest, low + floor)
    return max(lowest, high - floor), high


def _snap_outwards(old: NumberRange, low: float, high: float, limits: Limits) -> NumberRange:
    """Ends on the old range's grid: outwards, except where that would pass a limit."""
    step = old.step or 1

    def steps(value: float) -> float:
        count = (value - old.low) / step
        return round(count) if math.isclose(count, round(count), rel_tol=1e-9, abs_tol=1e-9) else count

    first, last = math.floor(steps(from_place(old, low))), math.ceil(steps(from_place(old, high)))
    if limits[0] is not None:
        first = max(first, math.ceil(steps(limits[0])))
    if limits[1] is not None:
        last = min(last, math.floor(steps(limits[1])))
    return with_ends(old, grid_value(old, min(first, last)), grid_value(old, last))


def _places(range_: NumberRange) -> tuple[float, float]:
    return to_place(range_, range_.low), to_place(range_, range_.high)


def _meaningful(old: NumberRange, limits: Limits) -> Limits:
    """Limits that the scale can show: 0 and below have no logarithm, and log ints start at 1."""
    if not old.log:
        return limits
    low, high = (limit if limit is not None and limit > 0 else None for limit in limits)
    return (max(low or 1, 1), high) if isinstance(old, IntRange) else (low, high)


def _clip(old: NumberRange, place: float, bounds: Limits | Edges) -> float:
    low, high = (to_place(old, bound) if bound is not None else None for bound in bounds)
    place = place if low is None else max(place, low)
    return place if high is None else min(place, high)


def _within(value: float, limits: Limits) -> float:
    low, high = limits
    value = value if low is None else max(value, low)
    return value if high is None else min(value, high)


def _exact(value: float, known: Sequence[float | None]) -> float:
    """The known value that this one is but for the rounding of logarithms: ends that did not move stay equal."""
    return next((k for k in known if k is not None and math.isclose(value, k, rel_tol=1e-12)), value)
