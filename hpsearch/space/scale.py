"""A parameter's own scale: the line on which its values are evenly spread, logarithmic or linear.

Three ways to say where a value is:
    value     as the trial uses it: 1e-4
    place     on the scale: decades (log10 of the value) or plain units
    unit      share of the range: 0 at its low end, 1 at its high end
"""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from decimal import Decimal
from typing import Any

from hpsearch.config import Choice, FloatRange, IntRange, NumberRange, Range
from hpsearch.config.ranges import freeze, thaw


def to_place(range_: NumberRange, value: float) -> float:
    """Where the value lies on the parameter's scale: in decades where it is logarithmic, else in units."""
    return math.log10(value) if range_.log else float(value)


def from_place(range_: NumberRange, place: float) -> float:
    """The inverse of `to_place`; not rounded to ints or steps, and finite however far out the place is."""
    if not range_.log:
        return min(max(place, -sys.float_info.max), sys.float_info.max)
    try:
        return max(math.pow(10.0, place), sys.float_info.min)
    except OverflowError:
        return sys.float_info.max


def position(range_: NumberRange, value: float) -> float:
    """The unit of a value, below 0 or above 1 where it lies outside the range; 0.5 in a range of one value."""
    low, high = to_place(range_, range_.low), to_place(range_, range_.high)
    return (to_place(range_, value) - low) / (high - low) if high > low else 0.5


def to_unit(range_: NumberRange, value: float) -> float:
    """`position`, clipped to [0, 1]."""
    return min(max(position(range_, value), 0.0), 1.0)


def from_unit(range_: NumberRange, unit: float) -> float:
    """The allowed value nearest to a unit: a float, or an int for an IntRange; steps are kept."""
    low, high = to_place(range_, range_.low), to_place(range_, range_.high)
    return nearest_value(range_, from_place(range_, low + unit * (high - low)))


def nearest_value(range_: NumberRange, value: float) -> float:
    """The value of the range that is nearest: clipped, and on the grid of ints or steps where there is one."""
    value = min(max(value, range_.low), range_.high)
    if range_.step is None:
        return value
    index = math.floor((value - range_.low) / range_.step + 0.5)
    return grid_value(range_, min(index, int(num_values(range_)) - 1))


def grid_value(range_: NumberRange, index: int) -> float:
    """The value `index` steps above the low end (below it where negative), free of rounding: 0.3, not 0.1 + 0.2."""
    if isinstance(range_, IntRange):
        return range_.low + index * range_.step
    if range_.step is None:
        raise ValueError(f"{range_} has no steps to count.")
    return float(Decimal(str(range_.low)) + index * Decimal(str(range_.step)))


def with_ends(range_: NumberRange, low: float, high: float) -> NumberRange:
    """The same kind of range from low to high."""
    if isinstance(range_, IntRange):
        return replace(range_, low=int(low), high=int(high))
    return replace(range_, low=float(low), high=float(high))


def on_grid(range_: NumberRange) -> NumberRange:
    """The same values with the high end on the grid of the low one: [0, 10] in steps of 3 ends at 9."""
    if range_.step is None:
        return range_
    return with_ends(range_, range_.low, grid_value(range_, int(num_values(range_)) - 1))


def num_values(range_: Range) -> float:
    """How many values the range has: an int, or infinity for floats without steps."""
    match range_:
        case Choice(values):
            return len(values)
        case IntRange(low, high, _, step):
            return (high - low) // step + 1
        case FloatRange(low, high, _, None):
            return 1 if low == high else math.inf
        case FloatRange(low, high, _, step):
            return int((Decimal(str(high)) - Decimal(str(low))) // Decimal(str(step))) + 1


def choice_index(choice: Choice, value: Any) -> int | None:
    """The index of a value among those of the choice, None where it is not one of them; `True` is not 1."""
    wanted = repr(freeze(value))
    return next((index for index, known in enumerate(choice.values) if repr(freeze(known)) == wanted), None)


def describe_width(range_: NumberRange) -> str:
    """How wide the range is, for messages: `3.0 decades` or `0.45 units`."""
    width = to_place(range_, range_.high) - to_place(range_, range_.low)
    return f"{width:.1f} decades" if range_.log else f"{width:.3g} units"


def format_value(value: Any, range_: Range | None = None) -> str:
    """Compact text of a value: 4.1e-02 and, where one digit is exact, 1e-05; 0.45 where the range is linear."""
    match value:
        case bool() | None:
            return str(value).lower()
        case float():
            if value == 0 or not math.isfinite(value) or (isinstance(range_, FloatRange) and not range_.log):
                return f"{value:.3g}"
            return f"{value:.0e}" if float(f"{value:.0e}") == value else f"{value:.1e}"
        case tuple() | list():
            return f"[{', '.join(format_value(item) for item in value)}]"
        case _:
            return str(value)


def format_range(range_: Range) -> str:
    """Compact text of a range: `[1e-05, 1e+00]`, or `{relu, tanh}` for a choice."""
    if isinstance(range_, Choice):
        return f"{{{', '.join(map(format_value, range_.values))}}}"
    return f"[{format_value(range_.low, range_)}, {format_value(range_.high, range_)}]"


def plain_range(range_: Range) -> list[Any]:
    """The range as JSON holds it: [low, high], or the list of a choice's values."""
    plain: list[Any] = thaw(range_.values) if isinstance(range_, Choice) else [range_.low, range_.high]
    return plain
