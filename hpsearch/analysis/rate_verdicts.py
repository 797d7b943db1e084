"""What a learning rate did in its steps, and which rates are worth a search: plain numbers, no torch.

Source: CS231n, "babysitting the learning process": the loss barely moves: too low; the cost explodes: too high. Between
the two lie rates that move the loss much and gain nothing by it: too high as well, without an explosion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from hpsearch.config import FloatRange
from hpsearch.results import EpochResult

RateVerdict = Literal["barely moves", "falls slowly", "goes down", "overshoots", "explodes"]
TOO_HIGH: tuple[RateVerdict, ...] = ("overshoots", "explodes")

MOVES = 0.05  # share of ln C, or of the initial loss where that is lower: less is barely moving
LARGE_STEP = 0.03  # of the weights, in one update: thirty times what is usual; rates that learn stay below 0.09
MIN_WAY = 3e-4  # of the weights, by all updates together; 7e-4 moved the loss of a deep net by 6%
GRID_STEP = 10**0.25  # half the way to the next rate
MAX_PAD = 10.0  # times lower than the check's lowest rate
WIDEST = 10**2.5  # high over low: a range that is padded further is no rough range any more


def judge_rate(looks: Sequence[EpochResult], initial_loss: float, guessing: float) -> RateVerdict:
    """What a rate that did not explode did.

    It goes down if its loss on training images ends 5% below that of guessing, or below the initial loss where that is
    lower. Else it overshoots if its steps were large and the loss moved by as much: it rose above where it began, or
    had been lower, or ended far from where it began without learning, as a net does that is killed by its first steps
    and guesses from then on. Else it was too low: the loss falls slowly, from what initial weights that are not small
    cost towards guessing, or it barely moves.

    Args:
        looks: at the loss, costs and steps, at least one.
        initial_loss: before the first step.
        guessing: the loss of a net that knows nothing, ln C in nats, or that of another loss.
    """
    losses, end = [look.train_loss for look in looks], looks[-1].train_loss
    scale = min(guessing, initial_loss)
    if end < (1 - MOVES) * scale:
        return "goes down"
    highest = max([*losses, *(look.cost for look in looks)])
    moved = max(highest - initial_loss, end - min(losses), abs(end - initial_loss))
    if moved > MOVES * scale and max(look.update_ratio for look in looks) >= LARGE_STEP:
        return "overshoots"
    return "falls slowly" if initial_loss - end > MOVES * scale else "barely moves"


def is_hopeless(look: EpochResult, steps: int) -> bool:
    """Whether a rate is too low to change the net in so many steps: no need to make them all."""
    return look.update_ratio * steps < MIN_WAY


def judge_together(verdicts: Sequence[RateVerdict]) -> list[RateVerdict]:
    """The verdicts of all rates, ascending: above one that goes down none is too low.

    What does not go down there overshoots, however small its last steps were: those of a dead net are 0.
    """
    low = verdicts.index("goes down") if "goes down" in verdicts else len(verdicts)
    too_low = ("barely moves", "falls slowly")
    return ["overshoots" if i > low and each in too_low else each for i, each in enumerate(verdicts)]


def rough_range(verdicts: Sequence[tuple[float, RateVerdict]]) -> FloatRange | None:
    """From the lowest rate that goes down to the last one before the first above it that is too high.

    Where none is, to the highest that goes down. A single rate is widened to half the way to its neighbours; None where
    no rate goes down.

    Args:
        verdicts: (rate, what it did), rates ascending.
    """
    down = [rate for rate, verdict in verdicts if verdict == "goes down"]
    if not down:
        return None
    low = down[0]
    too_high = first_too_high(verdicts, low)
    high = down[-1] if too_high is None else max(rate for rate, _ in verdicts if rate < too_high)
    if low == high:
        low, high = (_short(end) for end in (low / GRID_STEP, high * GRID_STEP))
    return FloatRange(low, high, log=True)


def first_too_high(verdicts: Sequence[tuple[float, RateVerdict]], low: float) -> float | None:
    """The lowest rate above `low` that overshoots or explodes."""
    return next((rate for rate, verdict in verdicts if verdict in TOO_HIGH and rate > low), None)


def pad_for_training(found: FloatRange, steps: int, trial_steps: int) -> FloatRange:
    """A rough range with the lower rates that trials of more steps than the check's can use.

    A rate that is k times lower makes about the same progress in k times as many steps, as long as steps are small. So
    the low end goes down by trial_steps / steps, but by a factor of 10 at most, since the lowest rate that still learns
    is not the best one, and no further than 2.5 decades below the high end. It never goes up.

    Args:
        found: by the check.
        steps: of each rate of the check.
        trial_steps: of each trial of the search.
    """
    if trial_steps <= steps:
        return found
    lowest = _short(max(found.low * steps / trial_steps, found.low / MAX_PAD, found.high / WIDEST))
    return replace(found, low=lowest) if lowest < found.low else found


def _short(rate: float) -> float:
    return float(f"{rate:.4g}")
