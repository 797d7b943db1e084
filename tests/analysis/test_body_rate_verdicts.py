"""What factors of a body's rate did beside a frozen body, and the range that follows."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpsearch.analysis.body_rate_verdicts import FACTORS, GOOD, body_range, judge_body, tries_within
from hpsearch.config import FloatRange

BETTER, WELL, WORSE, BOOM = "does better", "does as well", "does worse", "explodes"
LN2 = math.log(2)


@pytest.mark.parametrize(
    ("losses", "verdict"),
    [
        (None, BOOM),
        ([], BOOM),
        ([0.6, 0.5, 0.45, 0.42], WELL),  # the frozen body has 0.4
        ([0.5, 0.3, 0.2, 0.9], BETTER),  # what it was on the way is what is kept
        ([0.9, 0.8, 0.7, 0.6], WORSE),
        ([0.6, 0.52], WELL),  # the time was over: beside the first two looks of the frozen body
        ([0.6, 0.4], BETTER),
    ],
)
def test_a_factor_is_judged_beside_the_frozen_body(losses, verdict):
    assert judge_body(losses, [0.6, 0.5, 0.45, 0.4], LN2) == verdict


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ([WELL, WELL, BETTER, BETTER, BOOM], (1e-3, 1e-1)),  # from the last that is like a frozen body
        ([BETTER, BETTER, BETTER, BETTER, BETTER], (1e-4, 1.0)),
        ([WELL, WELL, WELL, WORSE, BOOM], (1e-4, 1e-2)),
        ([WORSE, WELL, BETTER, WORSE, BETTER], (1e-3, 1e-2)),  # not beyond one that is too high
        ([WORSE, WORSE, WORSE, WORSE, BETTER], (0.3162, 1.0)),
        ([BETTER, BOOM, BOOM, BOOM, BOOM], (3.162e-05, 3.162e-04)),
        ([WORSE, WORSE, WORSE, BOOM, BOOM], None),
    ],
)
def test_the_range_is_where_the_body_matters_and_does_no_harm(verdicts, expected):
    found = body_range(list(zip(FACTORS[::2], verdicts, strict=True)))
    assert found == (None if expected is None else FloatRange(*expected, log=True))


@given(st.lists(st.sampled_from([BETTER, WELL, WORSE, BOOM]), min_size=len(FACTORS), max_size=len(FACTORS)))
def test_no_factor_in_the_range_does_harm(verdicts):
    found = body_range(list(zip(FACTORS, verdicts, strict=True)))
    assert (found is None) == (not set(GOOD) & set(verdicts))
    if found is not None:
        assert 0 < found.low < found.high <= 1
        inside = [v for f, v in zip(FACTORS, verdicts, strict=True) if found.low <= f <= found.high]
        assert inside
        assert set(inside) <= set(GOOD)


@pytest.mark.parametrize(
    ("seconds", "step_seconds", "steps", "expected"),
    [
        (60, 0.01, 100, (9, 100)),
        (60, 0.1, 100, (5, 100)),
        (60, 0.2, 100, (5, 60)),
        (60, 0.7, 100, (0, 0)),
        (60, 0.7, 10, (5, 10)),  # fewer than 20 were asked for
        (math.inf, 1e3, 100, (9, 100)),
        (60, 0.0, 100, (9, 100)),
    ],
)
def test_a_slow_net_gets_fewer_factors_and_steps(seconds, step_seconds, steps, expected):
    factors, made = tries_within(seconds, step_seconds, steps)
    assert (len(factors), made) == expected
    assert len(factors) * made * step_seconds <= seconds
