import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpsearch.config import FloatRange, IntRange
from hpsearch.space.natural import natural_limits
from hpsearch.space.scale import with_ends


@pytest.mark.parametrize(
    ("range_", "limits"),
    [
        (IntRange(1, 6), (1, None)),  # a number of layers
        (IntRange(16, 512, step=16), (1, None)),
        (IntRange(0, 6), (0, None)),
        (IntRange(-3, 3), (None, None)),
        (IntRange(0, 1), (0, 1)),  # a switch
        (IntRange(1, 64, log=True), (1, None)),
        (FloatRange(0.0, 0.99), (0.0, 0.999)),  # a momentum
        (FloatRange(0.0, 0.5), (0.0, 0.95)),  # a dropout
        (FloatRange(0.0, 1.0), (0.0, 1.0)),
        (FloatRange(0.5, 1.0), (0.05, 1.0)),
        (FloatRange(0.5, 2.0), (0.05, None)),
        (FloatRange(0.0, 300.0), (0.0, None)),
        (FloatRange(-1.0, 0.5), (None, None)),
        (FloatRange(1e-5, 1.0, log=True), (None, None)),  # a rate of 3 is none the worse
    ],
)
def test_what_is_natural_for_a_range(range_, limits):
    assert natural_limits(range_) == pytest.approx(limits)


@st.composite
def ranges(draw):
    if draw(st.booleans()):
        low = draw(st.integers(-5, 20))
        return IntRange(low, low + draw(st.integers(1, 50)))
    low = draw(st.floats(-2, 2))
    return FloatRange(low, low + draw(st.floats(1e-3, 3)))


@given(ranges())
def test_the_range_lies_within_its_limits_and_its_limits_within_theirs(range_):
    low, high = natural_limits(range_)
    assert low is None or low <= range_.low
    assert high is None or range_.high <= high
    wider = with_ends(range_, range_.low if low is None else low, range_.high if high is None else high)
    next_low, next_high = natural_limits(wider)
    assert (next_low is None) == (low is None)
    assert (next_high is None) == (high is None)
    assert low is None or 0 <= next_low <= low
    assert high is None or high <= next_high <= 1
