import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpsearch.storage.shares import even_share


@pytest.mark.parametrize(
    ("num_waiting", "left_elsewhere", "num_workers", "expected"),
    [
        (75, 25.0, 2, 25),  # two packs for each
        (50, 5.0, 2, 14),  # 27.5 for each: two packs, not one and the rest
        (25, 20.0, 2, 23),  # the other one takes the last two when it comes
        (20, 0.5, 2, 11),
        (3, 15.0, 2, 9),  # all three of them
        (10, 0.0, 1, 10),
        (0, 0.0, 3, 1),
    ],
)
def test_all_get_as_much_to_do(num_waiting, left_elsewhere, num_workers, expected):
    assert even_share(num_waiting, left_elsewhere, num_workers, 25) == expected


@given(num_trials=st.integers(1, 500), num_workers=st.integers(1, 9), most=st.integers(1, 64))
def test_workers_end_together(num_trials, num_workers, most):
    """None has more than a trial too many, by shares that are rounded up."""
    ends, taken = [0.0] * num_workers, 0
    while taken < num_trials:
        now = min(ends)
        left_elsewhere = sum(end - now for end in ends)
        share = even_share(num_trials - taken, left_elsewhere, num_workers, most)
        assert 1 <= share <= most
        share = min(share, num_trials - taken)
        ends[ends.index(now)] += share
        taken += share
    assert max(ends) <= math.ceil(num_trials / num_workers) + 1
