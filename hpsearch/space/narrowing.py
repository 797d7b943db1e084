"""From the trials of one stage to the ranges of the next, with a reason for each change."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

from hpsearch.config import Choice, NumberRange, Range
from hpsearch.space.explosions import Edges, explosion_edges
from hpsearch.space.interval import Limits, narrow_interval, side_of
from hpsearch.space.natural import natural_limits
from hpsearch.space.observation import Direction, Observation, Top, find_top
from hpsearch.space.scale import choice_index, format_value, num_values, on_grid, plain_range, position


@dataclass(frozen=True, slots=True)
class Narrowing:
    """What became of one parameter's range, and why."""

    param: str
    old: Range
    new: Range
    reason: str

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON: ranges as [low, high], choices as the list of their values."""
        return {
            "param": self.param,
            "old": plain_range(self.old),
            "new": plain_range(self.new),
            "reason": self.reason,
        }


def no_limits(param: str) -> Limits:
    """Limits of a parameter that may be anything."""
    return None, None


def narrow(
    ranges: Mapping[str, Range],
    observations: Sequence[Observation],
    direction: Direction,
    limits: Callable[[str], Limits] = no_limits,
    stays_as: str = "",
) -> list[Narrowing]:
    """The range of each parameter for the next stage, from the trials of this one.

    In the parameter's own scale: the span of the top trials, padded by the expected gap between two trials, so
    that an optimum between the best and its untried neighbour stays inside; within the old range and the edges
    where everything explodes; never narrower than a factor of 2 (log) or a tenth of the old width (linear). Where
    the best lies on a boundary, the range moves past that end, unless trials explode there or it is the last value
    that is allowed or natural (see `space.natural`); how far, says `space.moving`. Choices keep the values found
    among the top.

    Args:
        ranges: the space that was searched.
        observations: its trials, in any order. Only those that have a parameter count for it.
        direction: which values are better.
        limits: the lowest and highest value that a parameter can have at all; None where there is no end. What has no
            end on either side, as if nothing were known of it, has natural limits.
        stays_as: why ranges should not become narrower but where trials explode: they move only outwards then, and
            choices stay whole.
    """
    return [_narrow_one(name, old, observations, direction, limits(name), stays_as) for name, old in ranges.items()]


def having(param: str, range_: Range, observations: Sequence[Observation]) -> list[Observation]:
    """The trials with a value of this parameter that has a place in its scale or among its choices."""
    return [o for o in observations if param in o.params and _has_place(range_, o.params[param])]


def _has_place(range_: Range, value: Any) -> bool:
    if isinstance(range_, Choice):
        return choice_index(range_, value) is not None
    is_number = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    return is_number and (value > 0 or not range_.log)


def _narrow_one(
    param: str, old: Range, observations: Sequence[Observation], direction: Direction, limits: Limits, stays_as: str
) -> Narrowing:
    trials = having(param, old, observations)
    top = find_top(trials, direction)
    if num_values(old) == 1:
        return Narrowing(param, old, old, "a single value")
    if top is None:
        return Narrowing(param, old, old, _why_no_top(trials))
    new: Range
    if isinstance(old, Choice):
        new, reason = _narrow_choice(old, [o.params[param] for o in top.trials], top, stays_as)
    else:
        exploded = [o.params[param] for o in trials if o.outcome == "exploded"]
        survived = [o.params[param] for o in trials if o.outcome != "exploded"]
        ranked = [o.params[param] for o in top.ranked]
        edges = explosion_edges(old, exploded, survived)
        new, reason = _narrow_number(old, ranked, top, edges, limits, stays_as)
    if top.all_halved:
        reason = f"no trial came to its last epoch; {reason}"
    elif top.pruned:
        reason = f"no trial finished; {reason}"
    return Narrowing(param, old, new, reason)


def _why_no_top(trials: Sequence[Observation]) -> str:
    if not trials:
        return "no trial has a value of it"
    if all(o.outcome == "exploded" for o in trials):
        return "every trial exploded"
    return "no trial finished with a usable result"


def _narrow_choice(old: Choice, values: Sequence[Any], top: Top, stays_as: str) -> tuple[Choice, str]:
    found = {choice_index(old, value) for value in values}
    kept = [value for index, value in enumerate(old.values) if index in found]
    dropped = [value for index, value in enumerate(old.values) if index not in found]
    reason = f"{top} {'has' if len(top.trials) == 1 else 'have'} {', '.join(map(format_value, kept))}"
    if dropped and stays_as:
        return old, f"{reason}; all stay, as {stays_as}"
    if dropped:
        reason += f"; dropped: {', '.join(map(format_value, dropped))}"
    return Choice(tuple(kept)), reason


def _narrow_number(
    old: NumberRange, ranked: Sequence[float], top: Top, edges: Edges, limits: Limits, stays_as: str
) -> tuple[NumberRange, str]:
    old = on_grid(old)
    known = limits != (None, None)
    if not known:
        limits = _natural_limits(old, ranked)
    new = narrow_interval(old, ranked, len(top.trials), edges, limits, stays=bool(stays_as))
    why = _why(old, new, ranked[: len(top.trials)], top, edges, "allowed" if known else "natural for it")
    return new, f"{why}; all of it stays, as {stays_as}" if stays_as else why


def _natural_limits(old: NumberRange, ranked: Sequence[float]) -> Limits:
    """Those of the range, but for the end that a trial lies beyond: somebody knew that it is none."""
    low, high = natural_limits(old)
    return (
        low if low is None or low <= min(ranked) else None,
        high if high is None or high >= max(ranked) else None,
    )


def _why(
    old: NumberRange, new: NumberRange, values: Sequence[float], top: Top, edges: Edges, within_limits: str
) -> str:
    low, high = format_value(min(values), old), format_value(max(values), old)
    verb = "lies" if len(values) == 1 else "lie"
    parts = [f"{top} {verb} at {low}" if low == high else f"{top} {verb} in [{low}, {high}]"]
    if edges.low is not None:
        parts.append(f"below {format_value(edges.low, old)} every trial exploded")
    if edges.high is not None:
        parts.append(f"above {format_value(edges.high, old)} every trial exploded")
    parts += _why_boundary(old, new, values[0], edges, within_limits)
    return "; ".join(parts)


def _why_boundary(old: NumberRange, new: NumberRange, best: float, edges: Edges, within_limits: str) -> list[str]:
    match side_of(position(old, best)):
        case "inside":
            return []
        case "lower":
            side, moved, exploding = "lower", new.low < old.low, new.low == edges.low
        case "upper":
            side, moved, exploding = "upper", new.high > old.high, new.high == edges.high
    if moved:
        consequence = "the range moves past it"
    elif exploding:
        consequence = "the range ends where trials explode"
    else:
        consequence = f"no {'lower' if side == 'lower' else 'higher'} value is {within_limits}"
    return [f"the best, {format_value(best, old)}, is on the {side} boundary: {consequence}"]
