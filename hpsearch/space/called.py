"""Ranges that an objective names as it runs, and what a study file or an earlier stage says of the same parameter."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

from hpsearch.config import Choice, FloatRange, IntRange, NumberRange, Range
from hpsearch.errors import ConfigError
from hpsearch.space.scale import choice_index, format_range, format_value, grid_value, num_values, on_grid, with_ends


def searched_range(name: str, called: Range, given: Range | None, *, narrows: bool) -> Range:
    """From where a trial's value is drawn.

    Args:
        name: of the parameter, for messages.
        called: what the call names.
        given: what [space] has of it, if it has.
        narrows: whether that bounds what the call names, on its scale and grid (where nothing is left, the call counts;
            choices stay whole), or takes its place (numbers keep the call's kind and steps).

    Raises:
        ConfigError: what takes the call's place has values that the call could not give.
    """
    if given is None or num_values(called) == 1:
        return called
    if narrows:
        return called if isinstance(called, Choice) or isinstance(given, Choice) else _within(called, given)
    if isinstance(given, Choice):
        fits = all(
            holds(called, value) if isinstance(called, Choice) else _is_of(called, value) for value in given.values
        )
    else:
        fits = not isinstance(called, Choice)
    if not fits:
        raise ConfigError(
            f"space.{name} = {format_range(given)} does not fit what the objective calls, {_named(called)}.\n"
            f"Allowed: {_allowed(called)}."
        )
    if isinstance(called, Choice) or isinstance(given, Choice):
        return given
    return _as_called(called, given)


def holds(range_: Range, value: Any) -> bool:
    """Whether the value is one of the range."""
    if isinstance(range_, Choice):
        return choice_index(range_, value) is not None
    if not _is_of(range_, value) or not range_.low <= value <= range_.high:
        return False
    if range_.step is None:
        return True
    steps = (value - range_.low) / range_.step
    return math.isclose(steps, round(steps), rel_tol=1e-9, abs_tol=1e-9)


def _is_of(range_: NumberRange, value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return False
    return isinstance(range_, FloatRange) or value == int(value)


def _within(called: NumberRange, given: NumberRange) -> NumberRange:
    low, high = max(called.low, given.low), min(called.high, given.high)
    if called.step is not None:
        start, step = Decimal(str(called.low)), Decimal(str(called.step))
        first = max(0, math.ceil(round((Decimal(str(low)) - start) / step, 9)))
        last = math.floor(round((Decimal(str(high)) - start) / step, 9))
        if last < first:
            return called
        low, high = grid_value(called, first), grid_value(called, last)
    return with_ends(called, low, high) if low <= high else called


def _as_called(called: NumberRange, given: NumberRange) -> NumberRange:
    """The ends and scale of one range, of the kind and with the steps of the other."""
    if isinstance(called, FloatRange):
        step = None if given.log or called.step is None else called.step
        return FloatRange(float(given.low), float(given.high), given.log, step)
    low, high = math.ceil(given.low), math.floor(given.high)
    return on_grid(IntRange(low, max(low, high), given.log, 1 if given.log else called.step))


def _named(called: Range) -> str:
    kind = {Choice: "suggest_categorical", IntRange: "suggest_int", FloatRange: "suggest_float"}[type(called)]
    return f"{kind} of {format_range(called)}"


def _allowed(called: Range) -> str:
    if isinstance(called, Choice):
        return f"choice of {', '.join(map(format_value, called.values))}"
    return "numbers" if isinstance(called, FloatRange) else "whole numbers"
