"""Whether two trials would try the same."""

import pytest

from hpsearch.config import Choice, FloatRange, IntRange
from hpsearch.space.nearness import try_the_same

SPACE = {"lr": FloatRange(1e-5, 1.0, log=True), "n": IntRange(1, 400), "c": Choice(("a", True))}
ONE = {"lr": 1e-2, "n": 10, "c": "a"}


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (ONE, True),
        ({**ONE, "lr": 1.05e-2}, True),  # of five decades, 0.4%
        ({**ONE, "lr": 2e-2}, False),
        ({**ONE, "n": 11}, True),
        ({**ONE, "n": 20}, False),
        ({**ONE, "c": True}, False),
        ({"lr": 1e-2, "n": 10}, False),
        ({}, False),
    ],
)
def test_same_or_near(other, same):
    assert try_the_same(SPACE, ONE, other) == try_the_same(SPACE, other, ONE) == same
