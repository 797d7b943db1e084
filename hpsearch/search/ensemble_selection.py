"""Which nets to average, from what they say of the same images: pure functions of arrays.

Shape suffixes: T = nets, N = images, C = classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Goodness: TypeAlias = Callable[[Array, Array], float]
"""Of probabilities N,C and labels N; more is better, nan counts as the worst."""

MOST_ROUNDS = 100  # members that are added one by one; without a gain it ends before
GAIN = 1e-9  # less is rounding: sums in another order


def averaged(p_TNC: Array, weights_T: Array) -> Array:
    """Mean of the nets' probabilities, N,C in float64; weights are 0 or more, their sum need not be 1."""
    weights_T = np.asarray(weights_T, np.float64)
    mean_NC: Array = np.tensordot(weights_T / weights_T.sum(), np.asarray(p_TNC, np.float64), 1)
    return mean_NC


def greedy_weights(p_TNC: Array, y_N: Array, goodness: Goodness, rounds: int = MOST_ROUNDS) -> Array:
    """How often each net is in the ensemble that forward selection with replacement finds (Caruana et al. 2004).

    Nets are ranked by how good each is. The ensemble starts as the N best of them, with the N that is best; then, round
    by round, the net is added, again if it is in already, that makes the average best, until none makes it better. Of
    equals, that of the higher rank is taken; of equal ranks, the first one; of equal N, the smallest.

    Args:
        p_TNC: probabilities, of at least one net.
        y_N: labels.
        goodness: what is to become as great as possible.
        rounds: most additions.

    Returns:
        Counts, shape [T], with a sum of at least 1.
    """
    p_TNC = np.asarray(p_TNC, np.float64)

    def judged(p_NC: Array) -> float:
        value = goodness(p_NC, y_N)
        return -math.inf if math.isnan(value) else value

    own = [judged(p_NC) for p_NC in p_TNC]
    ranked = sorted(range(len(own)), key=lambda t: -own[t])
    counts_T = np.zeros(len(own), np.int64)
    best, num, sum_NC = _best_start(p_TNC[ranked], judged)
    counts_T[ranked[:num]] = 1
    for _ in range(rounds):
        found: int | None = None
        for t in ranked:
            value = judged((sum_NC + p_TNC[t]) / (num + 1))
            if value > best + GAIN:
                best, found = value, t
        if found is None:
            break
        counts_T[found] += 1
        num, sum_NC = num + 1, sum_NC + p_TNC[found]
    return counts_T


def _best_start(p_TNC: Array, judged: Callable[[Array], float]) -> tuple[float, int, Array]:
    """Of the averages of the first 1, 2, ... nets the best one: how good, of how many, and the sum."""
    best, num, kept_NC = judged(p_TNC[0]), 1, p_TNC[0]
    sum_NC = p_TNC[0]
    for t in range(1, len(p_TNC)):
        sum_NC = sum_NC + p_TNC[t]
        value = judged(sum_NC / (t + 1))
        if value > best + GAIN:
            best, num, kept_NC = value, t + 1, sum_NC
    return best, num, kept_NC
