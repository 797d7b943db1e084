"""What a number can be where nothing is known of it but the range in which somebody searched it.

Programs give their parameters ranges that say more than their ends: nobody searches [0, 6] for what may be negative.
So, of a range with even spacing:

    sign    what is 0 or above stays so; what is above 0 stays above, and goes to a tenth of the old low end at most;
            whole numbers from 1 on, which count something, stay at 1 or above
    share   what lies in [0, 1] stays there; where 1 itself was left out, as of a momentum, it stays out, and the range
            goes nine tenths of the way at most: 0.9 to 0.99, 0.99 to 0.999

A logarithmic range has no limits but those of its scale; how far it moves in one stage is said in `moving`. Range and
limits are in the parameter's own unit.
"""

from __future__ import annotations

from hpsearch.config import FloatRange, IntRange, NumberRange
from hpsearch.space.interval import Limits

NEARER = 0.1  # of the distance to an end that was left out (0 or 1): what is left of it after one stage


def natural_limits(range_: NumberRange) -> Limits:
    """The lowest and the highest value that are natural for what was searched in this range; None: no end.

    The range lies within them.
    """
    low, high = range_.low, range_.high
    match range_:
        case IntRange():
            return (1 if low >= 1 else 0 if low >= 0 else None), (1 if low >= 0 and high <= 1 else None)
        case FloatRange(log=True):
            return None, None
        case FloatRange():
            lowest = NEARER * low if low >= 0 else None
            return lowest, (1.0 - NEARER * (1.0 - high) if low >= 0 and high <= 1 else None)
