"""What the parameters of a study can be at all: as its study file says, and as ours are bounded."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from hpsearch.analysis.records import StageRecord
from hpsearch.config import Choice, hard_limits
from hpsearch.config.ranges import Limits, parse_range
from hpsearch.errors import ConfigError


def limits_of(record: StageRecord, *, own: bool) -> Callable[[str], Limits]:
    """The lowest and the highest value of each parameter; None where there is no end.

    Args:
        record: of the study that searched them.
        own: whether they are an objective's, whose names are the user's and say nothing to us.
    """
    given = given_limits(record)

    def limits(name: str) -> Limits:
        ours = (None, None) if own else hard_limits(name)
        low, high = given.get(name, (None, None))
        return tighter(max, ours[0], low), tighter(min, ours[1], high)

    return limits


def given_limits(record: StageRecord) -> dict[str, Limits]:
    """Those that the study file of a study says, by parameter."""
    space = record.config_value("space")
    found = {}
    for name, plain in space.items() if isinstance(space, Mapping) else ():
        try:
            range_ = parse_range(name, plain)
        except ConfigError:  # of another version
            continue
        if not isinstance(range_, Choice) and range_.limits != (None, None):
            found[name] = range_.limits
    return found


def tighter(choose: Callable[[float, float], float], one: float | None, other: float | None) -> float | None:
    """The end that leaves less; None is none."""
    return other if one is None else one if other is None else choose(one, other)
