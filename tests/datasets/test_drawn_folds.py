import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpsearch.config import DataConfig
from hpsearch.datasets.folds import draw_folds
from hpsearch.datasets.splits import divide, divisions
from hpsearch.errors import ConfigError, DataError


@given(st.lists(st.integers(0, 4), min_size=12, max_size=80), st.integers(2, 6), st.integers(0, 9))
def test_each_image_is_validated_on_once_and_folds_are_alike(labels, num_folds, seed):
    y = np.unique(labels, return_inverse=True)[1]
    counts_C = np.bincount(y)
    folds = draw_folds(y, num_folds, seed)
    assert sorted(np.concatenate(folds)) == [n for n in range(len(y)) if counts_C[y[n]] > 1]
    sizes = [len(fold) for fold in folds]
    assert max(sizes) - min(sizes) <= 1
    for label in range(len(counts_C)):
        of_class = [int((y[fold] == label).sum()) for fold in folds]
        assert max(of_class) - min(of_class) <= 1
    for fold in folds:
        assert set(np.delete(y, fold)) == set(y)


def test_folds_come_from_the_seed():
    y = np.arange(60) % 3
    assert [fold.tolist() for fold in draw_folds(y, 4, 1)] == [fold.tolist() for fold in draw_folds(y, 4, 1)]
    assert [fold.tolist() for fold in draw_folds(y, 4, 1)] != [fold.tolist() for fold in draw_folds(y, 4, 2)]


@pytest.mark.parametrize(("num_folds", "seed"), [(2, 0), (3, 1), (5, 0)])
def test_groups_stay_in_one_fold(num_folds, seed):
    rng = np.random.default_rng(seed)
    groups = rng.permutation(np.arange(200) // 5)
    y = rng.integers(0, 3, 200)
    folds = draw_folds(y, num_folds, seed, groups)
    assert sorted(np.concatenate(folds)) == list(range(200))
    for fold in folds:
        assert not set(groups[fold]) & set(np.delete(groups, fold))
        assert len(fold) == pytest.approx(200 / num_folds, abs=6)
        assert (np.bincount(y[fold], minlength=3) / np.bincount(y)).tolist() == pytest.approx(
            [1 / num_folds] * 3, abs=0.12
        )


def test_a_class_of_one_group_trains_in_all_folds():
    y = np.array([0, 0, 1, 1, 0, 0, 1, 1, 2, 2])
    groups = np.array([0, 0, 0, 0, 1, 1, 1, 1, 2, 2])
    folds = draw_folds(y, 2, 0, groups)
    assert sorted(np.concatenate(folds)) == list(range(8))


def test_more_folds_than_there_is_to_go_round_are_refused():
    y = np.array([0, 0, 0, 1])
    assert len(draw_folds(y, 3, 0)) == 3
    with pytest.raises(ConfigError, match=r"data.folds = 4 is more than there are images to go round: 3[^2]*2 to 3"):
        draw_folds(y, 4, 0)
    with pytest.raises(ConfigError, match=r"needs two images or more of a class"):
        draw_folds(np.array([0, 1]), 2, 0)
    with pytest.raises(ConfigError, match=r"groups to go round: 2"):
        draw_folds(np.zeros(9, int), 3, 0, np.repeat([0, 1], [4, 5]))


def test_groups_that_leave_a_class_out_are_refused():
    y = np.array([0, 2, 1, 2, 2, 3, 3, 0, 2, 0])
    groups = np.array([3, 2, 2, 0, 3, 0, 1, 1, 3, 2])
    with pytest.raises(DataError, match=r"2 folds of whole groups leave a class without a training image"):
        draw_folds(y, 2, 0, groups)


def test_folds_are_of_the_images_that_the_limit_leaves():
    y = np.arange(100) % 4
    parts = divisions(DataConfig(folds=5, limit=40), y)
    assert [(len(train), len(val)) for train, val in parts] == [(32, 8)] * 5
    used = {*np.concatenate([val for _, val in parts])}
    assert len(used) == 40
    for train, val in parts:
        assert {*train} | {*val} == used
        assert not {*train} & {*val}
    train, val = divide(DataConfig(folds=5, limit=40), y)
    assert (train.tolist(), val.tolist()) == (parts[0][0].tolist(), parts[0][1].tolist())


def test_a_source_with_validation_images_of_its_own_has_no_folds():
    with pytest.raises(ConfigError, match=r"data.folds = 3 is for images without validation images of their own"):
        divisions(DataConfig(folds=3), np.arange(20) % 2, np.arange(4))
