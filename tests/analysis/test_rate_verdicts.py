"""What a rate did, from its curve, and the range that follows: tables with curves of real nets."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpsearch.analysis.rate_verdicts import (
    is_hopeless,
    judge_rate,
    judge_together,
    pad_for_training,
    rough_range,
)
from hpsearch.config import FloatRange
from hpsearch.results import EpochResult

BARELY, SLOWLY, DOWN, OVER, BOOM = "barely moves", "falls slowly", "goes down", "overshoots", "explodes"
LN10 = math.log(10)


def looks(*losses, ratio=1e-3, cost=None):
    """A curve of training losses; `cost` is that of the first look, the others cost what they lose."""
    costs = [losses[0] if cost is None else cost, *losses[1:]]
    return [
        EpochResult(0, epoch, each, loss, 0.1, loss, 0.1, update_ratio=ratio, lr=1e-3)
        for epoch, (loss, each) in enumerate(zip(losses, costs, strict=True), start=1)
    ]


@pytest.mark.parametrize(
    ("initial", "curve", "verdict"),
    [
        # CIFAR-10, 3072-50-10 with weights of std 1e-4: 3e-5, 1e-4, 1e-3
        (2.303, looks(2.303, 2.302, 2.301, 2.297, 2.284, ratio=1e-2), BARELY),
        (2.303, looks(2.302, 2.291, 2.204, 2.095, 2.017, ratio=3e-2), DOWN),
        (2.303, looks(2.294, 2.02, 1.981, 2.175, 3.369, ratio=0.1), OVER),
        # as reported of 1e-3 with another seed: lower before, then above where it began
        (2.303, looks(2.29, 2.1, 2.0, 2.2, 2.36, ratio=0.1), OVER),
        # LeNet with he, digits: 1e-5 has far to fall, 0.3 kills the net, which then guesses
        (4.272, looks(4.255, 3.964, 3.635, 3.343, ratio=5e-5), SLOWLY),
        (4.272, looks(2.327, 2.304, 2.303, 2.307, ratio=7e-2, cost=3.57), OVER),
        # four sigmoid layers: 0.003 comes to a plateau with small steps, 1 and 3 saturate the units
        (2.533, looks(2.427, 2.307, 2.303, 2.303, ratio=1e-3), SLOWLY),
        (2.533, looks(2.344, 2.313, 2.310, 2.309, ratio=6e-2, cost=2.63), OVER),
        (2.533, looks(2.718, 2.365, 2.389, 2.355, ratio=8e-2, cost=3.3), OVER),
        # a net that went down is that, whatever happened on the way, as long as it ends low
        (3.438, looks(1.73, 0.349, 0.612, 1.207, ratio=9e-2), DOWN),
        # batch normalization: the first looks, at statistics that are not there yet, say nothing of small steps
        (2.772, looks(3.07, 2.751, 2.707, 2.683, ratio=4e-6), BARELY),
        (math.inf, looks(2.3, 2.3, ratio=1e-5), SLOWLY),
    ],
)
def test_a_rate_by_its_curve(initial, curve, verdict):
    assert judge_rate(curve, initial, LN10) == verdict


def test_large_steps_of_tiny_weights_that_move_no_loss_are_not_too_high():
    """Weights next to 0 double in a step, and the loss stays where it was: such a net needs more steps, not fewer."""
    assert judge_rate(looks(2.303, 2.303, 2.29, ratio=0.5), 2.303, LN10) == BARELY


def test_above_a_rate_that_goes_down_none_is_too_low():
    assert judge_together([BARELY, SLOWLY, DOWN, SLOWLY, BARELY, BOOM]) == [BARELY, SLOWLY, DOWN, OVER, OVER, BOOM]
    assert judge_together([BARELY, SLOWLY, OVER]) == [BARELY, SLOWLY, OVER]
    assert judge_together([]) == []


def test_what_moves_the_weights_by_nothing_in_all_steps_is_hopeless():
    [look] = looks(2.3, ratio=1e-6)
    assert is_hopeless(look, 100)
    assert not is_hopeless(look, 1000)


@pytest.mark.parametrize(
    ("verdicts", "ends"),
    [
        ([BARELY, BARELY, DOWN, DOWN, BOOM], (1e-2, 1e-1)),
        ([BARELY, DOWN, DOWN, OVER, BOOM], (1e-3, 1e-2)),  # too high, though it did not explode
        ([SLOWLY, DOWN, OVER, DOWN, BOOM], (1e-3 / 10**0.25, 1e-3 * 10**0.25)),  # a single rate, widened
        ([BARELY, DOWN, BOOM, OVER, OVER], (1e-3 / 10**0.25, 1e-3 * 10**0.25)),
        ([BARELY, DOWN, DOWN, BOOM, DOWN], (1e-3, 1e-2)),  # luck above an explosion does not count
        ([OVER, DOWN, DOWN, DOWN, BOOM], (1e-3, 1e-1)),
        ([DOWN] * 5, (1e-4, 1e0)),
        ([BOOM, BOOM, DOWN, DOWN, BOOM], (1e-2, 1e-1)),
    ],
)
def test_the_rough_range(verdicts, ends):
    found = rough_range([(10.0**exponent, verdict) for exponent, verdict in zip(range(-4, 1), verdicts, strict=True)])
    assert found is not None
    assert found.log
    assert (found.low, found.high) == pytest.approx(ends, rel=1e-3)


def test_no_range_where_no_rate_goes_down():
    assert rough_range([(1e-3, BARELY), (1e-2, OVER), (1e-1, BOOM)]) is None


@pytest.mark.parametrize(
    ("low", "high", "steps", "trial_steps", "padded"),
    [
        (1e-4, 3.162e-4, 100, 2450, 1e-5),  # 49,000 images, 5 epochs: 24 times the steps, but a decade at most
        (1e-4, 3.162e-4, 100, 300, 3.333e-5),
        (1e-3, 1e-1, 100, 2450, 3.162e-4),  # no wider than 2.5 decades
        (1e-3, 1.0, 100, 2450, 1e-3),  # which it is already
        (1e-3, 1e-2, 100, 75, 1e-3),  # trials that take fewer steps than the check
    ],
)
def test_longer_trials_can_use_lower_rates(low, high, steps, trial_steps, padded):
    found = pad_for_training(FloatRange(low, high, log=True), steps, trial_steps)
    assert (found.low, found.high) == (pytest.approx(padded, rel=1e-3), high)


@given(
    low=st.floats(-6, 0),
    decades=st.floats(0.1, 5),
    steps=st.integers(1, 10_000),
    trial_steps=st.integers(1, 1_000_000),
)
def test_padding_only_goes_down_by_a_decade_at_most(low, decades, steps, trial_steps):
    found = FloatRange(10**low, 10 ** (low + decades), log=True)
    padded = pad_for_training(found, steps, trial_steps)
    assert padded.high == found.high
    assert found.low / 10 * 0.999 <= padded.low <= found.low
    if padded.low < found.low:
        assert trial_steps > steps
        assert padded.high / padded.low <= 10**2.5 * 1.001
    longer = pad_for_training(found, steps, 2 * trial_steps)
    assert longer.low <= padded.low
