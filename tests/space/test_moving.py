from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpsearch.space.moving import CHANCE, END_SHARE, crowds, move_past_end

NEAR, FAR = 0.05, 0.5


@pytest.mark.parametrize(
    ("width", "log", "distances", "num_top", "move"),
    [
        (5.0, True, [NEAR, NEAR, NEAR, FAR], 3, 1.0),  # four trials prove nothing
        (5.0, True, [NEAR] * 5 + [FAR] * 95, 13, 2.5),  # 5 of the top 13, none elsewhere
        (5.0, True, [NEAR] + [FAR] * 12 + [NEAR] * 9 + [FAR] * 78, 13, 1.0),  # one of them, as chance has it
        (5.0, True, [NEAR] * 50, 7, 1.0),  # a sampler that went there says nothing but that
        (1.0, True, [NEAR] * 5 + [FAR] * 95, 13, 0.5),
        (1.0, True, [NEAR] * 50, 7, 0.5),
        (5.0, False, [NEAR] * 50, 7, 2.5),  # an even scale has no decades
    ],
)
def test_half_a_range_at_most_and_a_decade_where_little_speaks_for_more(width, log, distances, num_top, move):
    assert move_past_end(width, log, distances, num_top) == move


@given(st.lists(st.booleans(), min_size=1, max_size=9), st.data())
def test_a_crowd_is_what_few_of_all_possible_tops_would_be(near, data):
    num_top = data.draw(st.integers(1, len(near)))
    as_many = [sum(top) >= sum(near[:num_top]) for top in combinations(near, num_top)]
    distances = [END_SHARE if each else 2 * END_SHARE for each in near]
    assert crowds(distances, num_top) == (sum(as_many) / len(as_many) < CHANCE)


def test_thousands_of_trials_are_counted_without_overflow():
    assert crowds([NEAR] * 1000 + [FAR] * 9000, 1250)
    assert not crowds(([NEAR] + [FAR] * 9) * 1000, 1250)
    assert not crowds([FAR] * 9000 + [NEAR] * 1000, 1250)
