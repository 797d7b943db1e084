"""Where a parameter makes trials explode: evidence that a range should end there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from hpsearch.config import NumberRange

CHANCE = 0.05  # explosions at an end that chance would place there more often than this prove nothing
MIN_EXPLODED = 2  # trials


class Edges(NamedTuple):
    """The lowest and the highest value to go on with; None where no end explodes."""

    low: float | None
    high: float | None


def explosion_edges(range_: NumberRange, exploded: Sequence[float], survived: Sequence[float]) -> Edges:
    """The values beyond which every trial exploded, where chance would not explain it.

    Of N trials E exploded, m of them above all survivors. If the parameter had no part in it, any E of the N
    would be as likely, and the m highest would all be among them with probability C(E, m) / C(N, m). (The share
    (E/N)^m is simpler but too careful where most exploded: with 18 of 20 it would not see that the two survivors
    are the two lowest.) With no survivor there is no edge. On a grid the edge is the step before the first
    explosion; on a continuous scale it is that explosion.
    """
    if not survived:
        return Edges(None, None)
    below = [value for value in exploded if value < min(survived)]
    above = [value for value in exploded if value > max(survived)]
    step = range_.step or 0
    num_trials = len(exploded) + len(survived)
    return Edges(
        low=min(max(below) + step, *survived) if _proves(len(below), len(exploded), num_trials) else None,
        high=max(min(above) - step, *survived) if _proves(len(above), len(exploded), num_trials) else None,
    )


def _proves(num_beyond: int, num_exploded: int, num_trials: int) -> bool:
    by_chance = math.comb(num_exploded, num_beyond) / math.comb(num_trials, num_beyond)
    return num_beyond >= MIN_EXPLODED and by_chance < CHANCE
