"""The probability that a curve reaches a value: its order, its scale, and what it refuses to say."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpsearch.analysis.curve_forecast import MIN_POINTS, probability_to_reach

VALUES = st.lists(st.integers(0, 1000).map(lambda count: count / 1000), min_size=MIN_POINTS, max_size=12)


def curve(values):
    return dict(enumerate(values, 1))


@given(VALUES, st.floats(0, 2), st.floats(0, 2))
def test_a_higher_target_is_never_more_probable(values, one, other):
    low, high = sorted((one, other))
    assert probability_to_reach(curve(values), high, 20) <= probability_to_reach(curve(values), low, 20)


@given(VALUES, st.floats(0, 2), st.sampled_from([0.25, 8.0, 1024.0]), st.sampled_from([-4.0, 0.0, 2.0]))
def test_units_and_origin_do_not_matter(values, target, scale, shift):
    there = probability_to_reach(curve([scale * value + shift for value in values]), scale * target + shift, 20)
    here = probability_to_reach(curve(values), target, 20)
    # A target just at the curve's top may fall on either side of it by rounding.
    if abs(target - max(values)) > 1e-9:
        assert there == pytest.approx(here, abs=1e-6)


@given(VALUES, st.floats(-1, 2))
def test_it_is_a_probability_and_one_where_the_target_was_reached(values, target):
    found = probability_to_reach(curve(values), target, 20)
    assert 0 <= found <= 1
    assert found == 1 or target > max(values)


@pytest.mark.parametrize(
    ("values", "target", "last"),
    [([0.1, 0.2, 0.3], 0.9, 20), ([0.1, math.nan, 0.3, 0.4], 0.9, 20), ([0.1, 0.2, 0.3, 0.4], 0.9, 4),
     ([0.1, 0.2, 0.3, 0.4], math.inf, 20), ([], 0.9, 20)],
)  # fmt: skip
def test_it_says_nothing_of_few_points_no_numbers_or_no_epochs(values, target, last):
    assert probability_to_reach(curve(values), target, last) is None


def test_a_curve_that_levels_off_below_and_one_that_still_climbs():
    flat = [0.5 - 0.4 * math.exp(-epoch) for epoch in range(1, 9)]
    climbs = [0.5 - 0.4 * math.exp(-epoch / 15) for epoch in range(1, 9)]
    assert probability_to_reach(curve(flat), 0.6, 30) < 0.01
    assert probability_to_reach(curve(climbs), 0.4, 30) > 0.7
    assert probability_to_reach(curve([0.1] * 5), 0.6, 30) == 0


def test_noise_makes_it_less_sure():
    rng = np.random.default_rng(0)
    smooth = np.array([0.5 - 0.4 * math.exp(-epoch / 2) for epoch in range(1, 11)])
    rough = smooth + 0.03 * rng.standard_normal(10)
    target = 0.55
    assert probability_to_reach(curve(smooth), target, 20) < probability_to_reach(curve(rough), target, 20) < 0.9
