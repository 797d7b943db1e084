"""What a factor of the body's rate did beside a frozen body, and which are worth a search: plain numbers, no torch.

A body that has trained before is to gain from training on, or at least not to lose what it knows by steps that are too
large: Howard & Ruder 2018 call that forgetting, and give the body lower rates than the head.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from hpsearch.config import FloatRange

BodyVerdict = Literal["does better", "does as well", "does worse", "explodes"]
GOOD: tuple[BodyVerdict, ...] = ("does better", "does as well")

MARGIN = 0.05  # share of ln C: losses on a few hundred images that are nearer to each other are alike
FACTORS = tuple(float(f"{10 ** (half / 2):.4g}") for half in range(-8, 1))  # 1e-4 ... 1, two a decade
LEAST_STEPS = 20  # of each factor; fewer would say nothing of the body


def judge_body(losses: Sequence[float] | None, frozen: Sequence[float], guessing: float) -> BodyVerdict:
    """What a factor did in its steps, by the lowest validation loss on the way.

    Args:
        losses: at each look; None for one that exploded.
        frozen: of a frozen body with the same rate of the head, at the same looks or more.
        guessing: the loss of a net that knows nothing, ln C in nats, or that of another loss.
    """
    if not losses:
        return "explodes"
    gain = min(frozen[: len(losses)]) - min(losses)
    if abs(gain) <= MARGIN * guessing:
        return "does as well"
    return "does better" if gain > 0 else "does worse"


def body_range(verdicts: Sequence[tuple[float, BodyVerdict]]) -> FloatRange | None:
    """From where the body begins to matter to the last factor before the first that does worse or explodes.

    Where some factors do better than a frozen body, the low end is the one below the lowest of these; else that of all
    that do as well. A single factor is widened to half the way to its neighbours, but not above 1; None where all do
    worse.

    Args:
        verdicts: (factor, what it did), at least two, factors ascending by equal ratios.
    """
    factors = [factor for factor, _ in verdicts]
    first = next((i for i, (_, verdict) in enumerate(verdicts) if verdict in GOOD), None)
    if first is None:
        return None
    behind = next((i for i, (_, v) in enumerate(verdicts) if i > first and v not in GOOD), len(verdicts))
    better = next((i for i in range(first, behind) if verdicts[i][1] == "does better"), first)
    low, high = factors[max(first, better - 1)], factors[behind - 1]
    if low == high:
        half = math.sqrt(factors[1] / factors[0])
        low, high = (float(f"{end:.4g}") for end in (low / half, min(1.0, high * half)))
    return FloatRange(low, high, log=True)


def tries_within(seconds: float, step_seconds: float, steps: int) -> tuple[tuple[float, ...], int]:
    """Factors, ascending, and steps of each that fit a time: all, else one a decade, else with fewer steps.

    Without any where even these take longer.

    Args:
        seconds: for all of them.
        step_seconds: of one step of one factor.
        steps: at most.
    """
    affordable = seconds / step_seconds if step_seconds > 0 else math.inf
    if affordable >= len(FACTORS) * steps:
        return FACTORS, steps
    decades = FACTORS[::2]
    fewer = int(min(steps, affordable / len(decades)))
    return (decades, fewer) if fewer >= min(steps, LEAST_STEPS) else ((), 0)
