"""Whether the best trial lies inside the ranges that were searched: if not, the ranges were wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hpsearch.config import Choice, Range
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
            "proposed": plain_range(self.proposed),
            "reason": self.reason,
        }


def boundary_verdicts(
    ranges: Mapping[str, Range],
    observations: Sequence[Observation],
    direction: Direction,
    limits: Callable[[str], Limits] = no_limits,
) -> list[Verdict]:
    """One verdict per parameter that the best trial has; none where no trial finished with a finite value.

    What the best trial does without, as a momentum beside plain sgd, says nothing of where the best lies.

    `proposed` and `reason` are those of `narrow`, whose arguments these are.
    """
    finished = rank(observations, "complete", direction)
    if not finished:
        return []
    best = finished[:1]
    return [
        _verdict(narrowing, best[0].params[narrowing.param])
        for narrowing in narrow(ranges, observations, direction, limits)
        if having(narrowing.param, narrowing.old, best)
    ]


def _verdict(narrowing: Narrowing, best: Any) -> Verdict:
    param, old = narrowing.param, narrowing.old
    single = num_values(old) == 1
    if isinstance(old, Choice):
        verdict: Literal["inside", "single"] = "single" if single else "inside"
        return Verdict(param, best, None, None, None, None, verdict, narrowing.new, narrowing.reason)
    unit = position(on_grid(old), best)
    return Verdict(
        param=param,
        best=best,
        low=old.low,
        high=old.high,
        log=old.log,
        position=min(1.0, max(0.0, unit)),
        verdict="single" if single else side_of(unit),
        proposed=narrowing.new,
        reason=narrowing.reason,
    )
