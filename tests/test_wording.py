import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpsearch.wording import count_text, duration_text, value_text

UNITS = {"ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.0008154, "0.815 ms"),
        (0.0713, "71.3 ms"),
        (0.9996, "1.0 s"),
        (4.2, "4.2 s"),
        (9.96, "10 s"),
        (39.2, "39 s"),
        (71.3, "71 s"),
        (150, "2 min 30 s"),
        (119.7, "2 min"),
        (599.7, "10 min"),
        (3240, "54 min"),
        (3599, "1 h"),
        (23991, "6 h 40 min"),
        (86399, "1 d"),
        (273600, "3 d 4 h"),
    ],
)
def test_times_are_said_in_the_units_that_fit_them(seconds, text):
    assert duration_text(seconds) == text


@given(st.floats(1e-6, 1e9))
def test_a_time_is_told_to_within_a_twentieth(seconds):
    parts = re.findall(r"([\d.e+-]+) (\w+)", duration_text(seconds))
    assert sum(float(number) * UNITS[unit] for number, unit in parts) == pytest.approx(seconds, rel=0.05)
    assert all(float(number) < 100 or unit in ("ms", "d") for number, unit in parts)


@pytest.mark.parametrize(("value", "text"), [(None, "-"), (0.97571, "0.9757"), (12345.6, "1.235e+04"), (-3, "-3.0000")])
def test_values_have_the_digits_that_matter(value, text):
    assert value_text(value) == text


@pytest.mark.parametrize(("number", "text"), [(0, "0 epochs"), (1, "1 epoch"), (2000, "2000 epochs")])
def test_one_of_something_is_no_plural(number, text):
    assert count_text(number, "epoch") == text
