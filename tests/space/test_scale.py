import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpsearch.config import Choice, FloatRange, IntRange
from hpsearch.space import describe_width, format_range, format_value, from_unit, to_unit
from hpsearch.space.scale import choice_index, from_place, num_values, on_grid


@pytest.mark.parametrize(
    ("range_", "value", "unit"),
    [
        (FloatRange(0.0, 2.0), 0.5, 0.25),
        (FloatRange(1e-6, 1e-2, log=True), 1e-3, 0.75),
        (IntRange(1, 5), 2, 0.25),
        (IntRange(1, 100, log=True), 10, 0.5),
        (IntRange(0, 20, step=5), 15, 0.75),
        (FloatRange(0.0, 1.0, step=0.1), 0.3, 0.3),
        (FloatRange(0.3, 0.3), 0.3, 0.5),
    ],
)
def test_units(range_, value, unit):
    assert to_unit(range_, value) == pytest.approx(unit)
    assert from_unit(range_, unit) == pytest.approx(value)
    assert type(from_unit(range_, unit)) is type(range_.low)


@pytest.mark.parametrize("range_", [FloatRange(1e-3, 0.7, log=True), IntRange(-3, 9), IntRange(1, 7, log=True)])
def test_ends_are_exact_and_clip(range_):
    assert to_unit(range_, range_.low) == 0 == to_unit(range_, range_.low - 1e-4 * (range_.low > 0))
    assert to_unit(range_, range_.high) == 1 == to_unit(range_, range_.high * 2)
    assert (from_unit(range_, 0), from_unit(range_, 1)) == (range_.low, range_.high)
    assert (from_unit(range_, -3), from_unit(range_, 3)) == (range_.low, range_.high)


def test_steps_stay_on_the_grid():
    assert from_unit(IntRange(0, 10, step=3), 1.0) == 9
    assert from_unit(FloatRange(0.1, 0.5, step=0.1), 0.5) == 0.3  # and not 0.30000000000000004
    assert on_grid(FloatRange(0.0, 1.0, step=0.3)) == FloatRange(0.0, 0.9, step=0.3)
    assert on_grid(IntRange(0, 10, step=3)) == IntRange(0, 9, step=3)


@settings(deadline=None)
@given(st.integers(1, 10**6), st.integers(0, 10**6), st.floats(0, 1))
def test_every_int_comes_back(low, width, share):
    value = low + round(share * width)
    for log in (False, True):
        range_ = IntRange(low, low + width, log=log)
        assert from_unit(range_, to_unit(range_, value)) == value


@pytest.mark.parametrize(
    ("range_", "number"),
    [
        (Choice((1, 2, 3)), 3),
        (IntRange(0, 10, step=3), 4),
        (IntRange(3, 3), 1),
        (FloatRange(0.0, 0.3, step=0.1), 4),
        (FloatRange(0.0, 1.0), math.inf),
        (FloatRange(0.5, 0.5), 1),
    ],
)
def test_num_values(range_, number):
    assert num_values(range_) == number


def test_places_far_out_stay_finite():
    assert math.isfinite(from_place(FloatRange(1.0, 2.0, log=True), 400.0))
    assert from_place(FloatRange(1.0, 2.0, log=True), -400.0) > 0
    assert math.isfinite(from_place(FloatRange(1.0, 2.0), math.inf))


def test_choice_index_tells_types_apart():
    choice = Choice((1, True, (50,), "1"))
    assert [choice_index(choice, value) for value in (1, True, [50], "1", 2)] == [0, 1, 2, 3, None]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0412, "4.1e-02"),
        (0.34, "3.4e-01"),
        (1e-5, "1e-05"),
        (1.0, "1e+00"),
        (0.0, "0"),
        (math.nan, "nan"),
        (3, "3"),
        (128, "128"),
        (True, "true"),
        (None, "none"),
        ("adam", "adam"),
        ((50, 20), "[50, 20]"),
        ([50], "[50]"),
        ((), "[]"),
    ],
)
def test_format_value(value, text):
    assert format_value(value) == text


def test_format_value_in_its_range():
    assert format_value(0.45, FloatRange(0.0, 1.0)) == "0.45"
    assert format_value(0.45, FloatRange(1e-3, 1.0, log=True)) == "4.5e-01"


@pytest.mark.parametrize(
    ("range_", "text", "width"),
    [
        (FloatRange(1e-5, 1.0, log=True), "[1e-05, 1e+00]", "5.0 decades"),
        (FloatRange(0.0, 0.45), "[0, 0.45]", "0.45 units"),
        (IntRange(1, 100, log=True), "[1, 100]", "2.0 decades"),
        (Choice(("relu", (50, 20))), "{relu, [50, 20]}", None),
    ],
)
def test_format_range_and_width(range_, text, width):
    assert format_range(range_) == text
    if width:
        assert describe_width(range_) == width
