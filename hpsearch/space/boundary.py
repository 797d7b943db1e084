"""Whether the best trial lies inside the ranges that were searched: if not, the ranges were wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hpsearch.config import Choice, NumberRange, Range
from hpsearch.config.ranges import thaw
from hpsearch.space.interval import Limits, side_of
from hpsearch.space.narrowing import Narrowing, having, narrow, no_limits
from hpsearch.space.observation import Direction, Observation, rank
from hpsearch.space.scale import num_values, on_grid, plain_range, position


@dataclass(frozen=True, slots=True)
class Verdict:
    """Where the best trial's value of one parameter lies in the range that was searched.

    `position` is its share of the range in the parameter's scale: 0 at the low end, 1 at the high end, and no
    more where the value was outside. Choices have no low, high, log and position.
    """

    param: str
    best: Any
    low: float | None
    high: float | None
    log: bool | None
    position: float | None
    verdict: Literal["inside", "lower", "upper", "single"]
    proposed: Range
    reason: str
    at_limit: bool = False
    """Whether that end is the last value that the parameter can have."""

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON: `proposed` as [low, high], or the list of a choice's values."""
        return {
            "param": self.param,
            "best": thaw(self.best),
            "low": self.low,
            "high": self.high,
            "log": self.log,
            "position": self.position,
            "verdict": self.verdict,
            "at_limit": self.at_limit,
            "proposed": plain_range(self.proposed),
            "reason": self.reason,
        }


def boundary_verdicts(
    ranges: Mapping[str, Range],
    observations: Sequence[Observation],
    direction: Direction,
    limits: Callable[[str], Limits] = no_limits,
    amended: Callable[[Narrowing], Narrowing] = lambda narrowing: narrowing,
    number: int | None = None,
) -> list[Verdict]:
    """One verdict per parameter that the best trial has; none where no trial finished with a finite value.

    What the best trial does without, as a momentum beside plain sgd, says nothing of where the best lies.

    `proposed` and `reason` are those of `narrow`, whose arguments the first four are, as `amended` by the caller.
    `number` is that of the best trial, where something else than its one value says so.
    """
    finished = rank(observations, "complete", direction)
    if not finished:
        return []
    best = [seen for seen in finished if seen.number == number] or finished[:1]
    return [
        _verdict(amended(narrowing), best[0].params[narrowing.param], limits(narrowing.param))
        for narrowing in narrow(ranges, observations, direction, limits)
        if having(narrowing.param, narrowing.old, best)
    ]


def _verdict(narrowing: Narrowing, best: Any, limits: Limits) -> Verdict:
    param, old = narrowing.param, narrowing.old
    single = num_values(old) == 1
    if isinstance(old, Choice):
        which: Literal["inside", "single"] = "single" if single else "inside"
        return Verdict(param, best, None, None, None, None, which, narrowing.new, narrowing.reason)
    unit = position(on_grid(old), best)
    verdict = "single" if single else side_of(unit)
    return Verdict(
        param=param,
        best=best,
        low=old.low,
        high=old.high,
        log=old.log,
        position=min(1.0, max(0.0, unit)),
        verdict=verdict,
        proposed=narrowing.new,
        reason=narrowing.reason,
        at_limit=_is_at_limit(old, verdict, limits),
    )


def _is_at_limit(old: NumberRange, verdict: str, limits: Limits) -> bool:
    low, high = limits
    if verdict == "lower":
        return low is not None and old.low <= low
    return verdict == "upper" and high is not None and old.high >= high
