"""The time that is left: near the truth after the first pack, and it never jumps."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpsearch.cli.time_left import TimeLeft


def followed(jumps, estimate=None, done=0.0, pack=1.0):
    """(now, what was said to be left) after each jump of (now, done)."""
    left = TimeLeft(0.0, done, estimate, pack)
    told = []
    for now, share in jumps:
        left.advance(share, now)
        told.append((now, left.seconds(now)))
    return told


@pytest.mark.slow
@given(st.floats(10, 1e5), st.integers(1, 300), st.integers(1, 20), st.floats(0.5, 2))
def test_work_at_an_even_pace_is_told_within_30_percent_after_the_first_pack(total, num_packs, epochs, wrong):
    """Whatever was estimated beforehand, within a factor of two."""
    parts = num_packs * epochs
    jumps = [(total * part / parts, part / parts) for part in range(1, parts)]
    for part, (now, left) in enumerate(followed(jumps, estimate=wrong * total, pack=1 / num_packs), 1):
        if part >= epochs or now >= 0.15 * total:
            assert left == pytest.approx(total - now, rel=0.3)


@given(st.floats(10, 1e5), st.integers(2, 300), st.integers(1, 20), st.floats(0.5, 2))
def test_it_never_moves_past_the_truth_nor_the_estimate(total, num_packs, epochs, wrong):
    """So it does not swing: at an even pace, what it says of the end goes from the estimate's to the true one."""
    parts = num_packs * epochs
    jumps = [(total * part / parts, part / parts) for part in range(1, parts)]
    ends = [wrong * total] + [now + left for now, left in followed(jumps, estimate=wrong * total, pack=1 / num_packs)]
    for before, after in itertools.pairwise(ends):
        assert abs(after - total) <= abs(before - total) + 1e-6 * total
        assert (after - total) * (wrong - 1) >= -1e-6 * total


@given(st.floats(10, 1e5), st.integers(2, 50))
def test_without_an_estimate_it_is_unknown_and_then_right(total, num_parts):
    assert TimeLeft(0.0).seconds(5.0) is None
    jumps = [(total * part / num_parts, part / num_parts) for part in range(1, num_parts)]
    for now, left in followed(jumps):
        assert left == pytest.approx(total - now)


def test_it_falls_with_the_clock_between_jumps():
    left = TimeLeft(0.0, estimate=100.0)
    assert [left.seconds(now) for now in (0.0, 10.0, 99.0, 150.0)] == [100.0, 90.0, 1.0, 0.0]
    left.advance(0.5, 50.0)
    assert left.seconds(60.0) == pytest.approx(40.0, rel=0.01)


def test_a_jump_after_a_long_wait_moves_it_a_little():
    """Epochs of a pack end at once: that is no speed of its own."""
    left = TimeLeft(0.0, estimate=3000.0)
    told = []
    for number in range(1, 50):
        before = left.seconds(60.0 * number)
        left.advance(number / 50, 60.0 * number)
        told.append(abs(left.seconds(60.0 * number) - before))
    assert max(told) < 10.0


def test_work_that_was_done_before_counts_for_no_speed():
    left = TimeLeft(100.0, done=0.9, estimate=10.0)
    left.advance(0.95, 105.0)
    assert left.seconds(105.0) == pytest.approx(5.0)


def test_epochs_of_trials_that_exploded_count_for_no_speed():
    """A third of the first pack explodes at once: what is left takes the pace of what was trained."""
    left = TimeLeft(0.0, pack=0.25)
    left.advance(0.05, 1.0, skipped=0.05)
    assert left.seconds(1.0) is None  # nothing was trained yet
    left.advance(0.25, 21.0)
    assert left.seconds(21.0) == pytest.approx(0.75 / 0.2 * 21.0)


def test_with_an_estimate_what_is_skipped_takes_its_share_of_it_off():
    left = TimeLeft(0.0, estimate=100.0, pack=0.25)
    left.advance(0.5, 0.0, skipped=0.5)
    assert left.seconds(0.0) == pytest.approx(50.0)
