"""How far a range moves past an end that holds the best: as far as the trials speak for it.

Half of a wide logarithmic range is a long way: three trials of four near 1e-5, in a range of five decades, are no
reason to search at 3e-8. One decade at a time finds the same optimum, mostly one stage later. Where more of the top
lies near that end than chance would put there, the values still rise towards it, and half a range is searched at once.

Simulated (100 random trials, then 50 of TPE; a bowl 1.2 to 4 decades wide, its optimum 2 to 4 decades outside a range
of 5 or 10; the median over 9 seeds of what was found, where 0.9 is the optimum): one decade whatever the trials say
found 0.57 to 0.83 after the fine stage and 0.75 to 0.90 after the second; half the range 0.83 to 0.90 and 0.89 to 0.90;
this rule 0.60 to 0.90 and 0.86 to 0.90.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

MOVE_SHARE = 0.5  # of the old width
MAX_DECADES = 1.0  # of a logarithmic range, unless the top crowds at its end
END_SHARE = 0.1  # of the old width: nearer to an end is near it
CHANCE = 0.05  # a crowd that chance would place there more often than this proves nothing


def move_past_end(width: float, log: bool, distances: Sequence[float], num_top: int) -> float:
    """How far to move, in the unit of `width`: decades where the scale is logarithmic.

    Args:
        width: of the old range.
        log: whether the scale is logarithmic.
        distances: of all ranked trials from the end that holds the best, as shares of the width, best first;
            negative where a trial lies beyond it.
        num_top: how many of them are the top.
    """
    move = MOVE_SHARE * width
    return move if not log or crowds(distances, num_top) else min(move, MAX_DECADES)


def crowds(distances: Sequence[float], num_top: int) -> bool:
    """Whether more of the top lies near the end than chance explains.

    Of N trials M are near the end, k of them among the n of the top. If being near had no part in it, any n trials
    would be the top as likely: the probability of k or more is a tail of the hypergeometric distribution. A sampler
    that has put all its trials there thus proves nothing, and neither do fewer than seven trials.
    """
    near = [distance <= END_SHARE for distance in distances]
    num_trials, num_near, found = len(near), sum(near), sum(near[:num_top])
    if found * num_trials <= num_top * num_near:
        return False  # no more than their share
    ways = math.comb(num_near, found) * math.comb(num_trials - num_near, num_top - found)
    chance = term = ways / math.comb(num_trials, num_top)
    for k in range(found, min(num_near, num_top)):  # each term from the one before: large binomials are slow
        term *= (num_near - k) * (num_top - k) / ((k + 1) * (num_trials - num_near - num_top + k + 1))
        chance += term
    return chance < CHANCE
