from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpsearch.config import DataConfig
from hpsearch.datasets.splits import divide, holdout, limited, sample, test_share
from hpsearch.errors import ConfigError, DataError

test_share.__test__ = False  # its name only looks like a test


@st.composite
def labels_and_count(draw: st.DrawFn) -> tuple[np.ndarray, int]:
    counts = draw(st.lists(st.integers(2, 40), min_size=2, max_size=8))
    y = np.random.default_rng(draw(st.integers(0, 9))).permutation(np.repeat(np.arange(len(counts)), counts))
    return y, draw(st.integers(len(counts), len(y) - len(counts)))


@given(labels_and_count(), st.integers(0, 2**40))
@settings(deadline=None)
def test_holdout_is_exact_disjoint_and_has_every_class(case: tuple[np.ndarray, int], seed: int) -> None:
    y, num_val = case
    train, val = holdout(y, num_val, seed)
    assert len(val) == num_val
    np.testing.assert_array_equal(np.sort(np.concatenate([train, val])), np.arange(len(y)))
    assert set(y[train]) == set(y[val]) == set(y)


@given(st.lists(st.integers(20, 60), min_size=2, max_size=6), st.floats(0.1, 0.9))
@settings(deadline=None)
def test_holdout_keeps_the_shares_of_the_classes(counts: list[int], share: float) -> None:
    y = np.repeat(np.arange(len(counts)), counts)
    _, val = holdout(y, share, 0)
    assert len(val) == int(len(y) * share + 0.5)
    expected = np.array(counts) * len(val) / len(y)
    assert np.abs(np.bincount(y[val]) - expected).max() <= 1


def test_holdout_of_cifar10_is_49000_and_1000() -> None:
    y = np.arange(50_000) % 10
    train, val = holdout(y, 1000, seed=3)
    assert (len(train), len(val)) == (49_000, 1000)
    assert np.bincount(y[val]).tolist() == [100] * 10


def test_holdout_depends_on_the_seed_alone() -> None:
    y = np.arange(100) % 4
    np.testing.assert_array_equal(holdout(y, 0.2, 5)[1], holdout(y, 20, 5)[1])
    assert holdout(y, 0.2, 5)[1].tolist() != holdout(y, 0.2, 6)[1].tolist()


def test_a_class_of_one_image_stays_in_the_training_part() -> None:
    y = np.array([0] * 10 + [1] * 10 + [2])
    train, val = holdout(y, 5, 0)
    assert 2 in y[train]
    assert set(y[val]) == {0, 1}


@pytest.mark.parametrize("val", [100, 97, 3, 0.999, 0.01])
def test_an_impossible_holdout_is_refused_with_what_is_allowed(val: float) -> None:
    with pytest.raises(ConfigError, match=rf"data\.val = {val:g}.*\nAllowed: 4 to 96 images"):
        holdout(np.arange(100) % 4, val, 0)


def test_too_few_images_for_any_holdout() -> None:
    with pytest.raises(DataError, match="7 images of 4 classes are too few"):
        holdout(np.arange(7) % 4, 4, 0)


@given(labels_and_count())
@settings(deadline=None)
def test_limit_is_exact_and_keeps_every_class(case: tuple[np.ndarray, int]) -> None:
    y, limit = case
    kept = limited(y, limit, 0)
    assert len(kept) == len(np.unique(kept)) == limit
    assert set(y[kept]) == set(y)


def test_limit_above_the_number_of_images_keeps_all() -> None:
    assert limited(np.arange(10) % 2, 99, 0).tolist() == list(range(10))


def test_limit_below_one_a_class_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\.limit = 3 .*\nAllowed: at least 4"):
        limited(np.arange(100) % 4, 3, 0)


def test_holdout_comes_out_of_the_limit() -> None:
    y = (np.arange(100) % 4).astype(np.int64)
    train, val = divide(DataConfig(val=8, limit=40), y)
    assert (len(train), len(val)) == (32, 8)
    assert set(train).isdisjoint(val)
    assert set(train) | set(val) == set(limited(y, 40, 0))


def test_a_hold_out_that_is_given_is_taken_as_it_is() -> None:
    y = (np.arange(100) % 4).astype(np.int64)
    given = np.array([3, 4, 50, 99])
    train, val = divide(DataConfig(val=0.5), y, given)
    assert val.tolist() == given.tolist()
    assert sorted([*train, *val]) == list(range(100))
    train, val = divide(DataConfig(limit=40), y, given)
    assert (len(train), val.tolist()) == (40, given.tolist())
    assert np.bincount(y[train]).tolist() == [10] * 4
    assert set(train).isdisjoint(val)


def test_sample_may_be_smaller_than_the_number_of_classes() -> None:
    assert len(sample(np.arange(100) % 10, 3, 0)) == 3
    assert len(sample(np.arange(5) % 2, 1000, 0)) == 5


def test_the_test_share_is_a_fifth_and_fixed() -> None:
    y = np.arange(100) % 5
    train, test = test_share(y)
    assert len(test) == 20
    np.testing.assert_array_equal(test, test_share(y)[1])
    assert set(train).isdisjoint(test)
