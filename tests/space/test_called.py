"""Ranges that an objective names, beside what is said of the same parameters elsewhere."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpsearch.config import Choice, FloatRange, IntRange
from hpsearch.errors import ConfigError
from hpsearch.space import holds, searched_range
from hpsearch.space.scale import grid_value, num_values

LOG = FloatRange(1e-5, 1.0, log=True)
STEPS = IntRange(16, 128, step=16)
KINDS = Choice(("sgd", "adam"))


@pytest.mark.parametrize(
    ("called", "given", "searched"),
    [
        (LOG, None, LOG),
        (LOG, FloatRange(1e-3, 10, log=True), FloatRange(1e-3, 1.0, log=True)),
        (LOG, FloatRange(2, 10), LOG),  # nothing in common
        (STEPS, IntRange(20, 70), IntRange(32, 64, step=16)),
        (STEPS, IntRange(33, 40), STEPS),  # nothing of the grid
        (STEPS, FloatRange(31.5, 500.0), IntRange(32, 128, step=16)),
        (FloatRange(0.0, 1.0, step=0.1), FloatRange(0.15, 0.3), FloatRange(0.2, 0.3, step=0.1)),
        (KINDS, Choice(("adam",)), KINDS),
        (IntRange(3, 3), IntRange(1, 2), IntRange(3, 3)),
    ],
)
def test_an_earlier_stage_bounds_a_call(called, given, searched):
    assert searched_range("x", called, given, narrows=True) == searched


@pytest.mark.parametrize(
    ("called", "given", "searched"),
    [
        (LOG, FloatRange(1, 100, log=True), FloatRange(1, 100, log=True)),
        (LOG, Choice((0.1, 7.0)), Choice((0.1, 7.0))),
        (STEPS, IntRange(32, 250), IntRange(32, 240, step=16)),
        (STEPS, FloatRange(0.5, 40.0), IntRange(1, 33, step=16)),
        (STEPS, IntRange(1, 64, log=True), IntRange(1, 64, log=True)),
        (STEPS, Choice((16, 50)), Choice((16, 50))),
        (KINDS, Choice(("adam",)), Choice(("adam",))),
    ],
)
def test_what_is_given_takes_the_place_of_a_call(called, given, searched):
    assert searched_range("x", called, given, narrows=False) == searched


@pytest.mark.parametrize(
    ("called", "given", "said"),
    [
        (KINDS, Choice(("adamw",)), r"space.x = {adamw} does not fit .* suggest_categorical of {sgd, adam}"),
        (KINDS, LOG, "Allowed: choice of sgd, adam"),
        (STEPS, Choice((16, 20.5)), "suggest_int of .16, 128.\\.\nAllowed: whole numbers"),
        (LOG, Choice(("a",)), "Allowed: numbers"),
    ],
)
def test_what_a_call_could_not_give_is_refused(called, given, said):
    with pytest.raises(ConfigError, match=said):
        searched_range("x", called, given, narrows=False)


@given(st.integers(-20, 20), st.integers(1, 9), st.integers(0, 12), st.integers(-40, 40), st.integers(0, 40))
def test_bounded_values_are_those_that_are_in_both(low, step, count, other, width):
    called = IntRange(low, low + step * count, step=step)
    given_ = IntRange(other, other + width)
    searched = searched_range("x", called, given_, narrows=True)
    both = [value for value in range(low, low + step * count + 1, step) if holds(given_, value)]
    found = [grid_value(searched, index) for index in range(int(num_values(searched)))]
    assert found == (both or list(range(low, low + step * count + 1, step)))
    assert all(holds(called, value) for value in found)


@pytest.mark.parametrize(
    ("range_", "inside", "outside"),
    [
        (LOG, [1e-5, 0.3, 1], [0, 1.1, "a", True, float("nan")]),
        (STEPS, [16, 32, 128, 32.0], [17, 144, 16.5]),
        (FloatRange(0.0, 1.0, step=0.1), [0.3, 0.7], [0.35]),
        (Choice((True, 1, (3, 4))), [True, 1, (3, 4), [3, 4]], [False, 2, 1.0]),
    ],
)
def test_what_a_range_holds(range_, inside, outside):
    assert all(holds(range_, value) for value in inside)
    assert not any(holds(range_, value) for value in outside)
