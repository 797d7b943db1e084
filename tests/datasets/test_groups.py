"""What belongs together stays in one split."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pictures import flat, load, picture

from hpsearch.config import DataConfig, load_settings
from hpsearch.datasets.catalog import describe
from hpsearch.datasets.groups import draw_groups, number_groups, refuse_leaks
from hpsearch.datasets.sources import load_train
from hpsearch.datasets.splits import divide
from hpsearch.datasets.splits import test_share as share_for_the_test
from hpsearch.errors import ConfigError, DataError


@st.composite
def grouped_labels(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Labels and groups of any sizes, mixed or of one class."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    num, num_classes, num_groups = draw(st.integers(8, 90)), draw(st.integers(2, 4)), draw(st.integers(2, 30))
    groups = rng.integers(0, num_groups, num)
    y = rng.integers(0, num_classes, num)
    if draw(st.booleans()):
        y = groups % num_classes
    y = np.unique(y, return_inverse=True)[1].reshape(-1)
    return y.astype(np.int64), number_groups([str(group) for group in groups])


@given(grouped_labels(), st.integers(0, 2**40), st.floats(0.1, 0.5))
@settings(deadline=None, max_examples=8)
def test_no_group_is_on_both_sides_and_every_class_stays(
    case: tuple[np.ndarray, np.ndarray], seed: int, share: float
) -> None:
    y, groups = case
    num = max(1, int(share * len(y)))
    try:
        rest, drawn = draw_groups(y, groups, num, seed)
    except DataError:
        # Each group is all that there is of some class.
        for group in set(groups):
            assert set(y) - set(y[groups != group])
        return
    assert sorted([*rest, *drawn]) == list(range(len(y)))
    assert not set(groups[rest]) & set(groups[drawn])
    assert set(y[rest]) == set(y)
    np.testing.assert_array_equal(drawn, draw_groups(y, groups, num, seed)[1])


@given(st.integers(1, 7), st.integers(4, 30), st.integers(2, 4), st.floats(0.15, 0.5), st.integers(0, 99))
@settings(deadline=None, max_examples=8)
def test_groups_of_one_size_come_as_near_as_they_can(
    size: int, num_groups: int, num_classes: int, share: float, seed: int
) -> None:
    """Of each class as many, but for half a group."""
    groups = np.repeat(np.arange(num_groups * num_classes), size)
    y = groups % num_classes
    num = int(share * len(y) + 0.5)
    _, drawn = draw_groups(y, groups, num, seed)
    wanted = num / num_classes
    low, high = size, size * (num_groups - 1)
    for found in np.bincount(y[drawn], minlength=num_classes):
        assert abs(found - min(max(wanted, low), high)) <= size
    assert abs(len(drawn) - min(max(num, low * num_classes), high * num_classes)) <= size


@given(st.lists(st.integers(1, 9), min_size=3, max_size=9), st.floats(0.1, 0.5), st.integers(0, 99))
@settings(deadline=None, max_examples=8)
def test_groups_of_any_sizes_come_nearly_as_near_as_any_draw(sizes: list[int], share: float, seed: int) -> None:
    """Of all ways to draw whole groups that leave each class an image."""
    groups = np.repeat(np.arange(len(sizes)), sizes)
    y = (np.arange(len(groups)) % 2).astype(np.int64)
    num = max(1, int(share * len(y)))

    def distance(rows: np.ndarray) -> float:
        lack = np.bincount(y, minlength=2) * num / len(y) - np.bincount(y[rows], minlength=2)
        return float(np.sqrt(np.square(lack).sum() + lack.sum() ** 2))

    ways = [
        np.flatnonzero(np.isin(groups, each))
        for n in range(1, len(sizes))
        for each in combinations(range(len(sizes)), n)
    ]
    both = [rows for rows in ways if set(y[rows]) == {0, 1} == set(np.delete(y, rows))]
    assume(both)
    _, drawn = draw_groups(y, groups, num, seed)
    assert distance(drawn) <= min(map(distance, both)) + max(sizes) / 2


@pytest.mark.slow
@given(grouped_labels(), st.integers(0, 99))
@settings(deadline=None, max_examples=8)
def test_groups_of_single_images_are_drawn_like_images(case: tuple[np.ndarray, np.ndarray], seed: int) -> None:
    y, _ = case
    counts = np.bincount(y)
    assume(counts.min() >= 4)
    _, drawn = draw_groups(y, np.arange(len(y)), len(y) // 4, seed)
    assert abs(len(drawn) - len(y) // 4) <= 1
    assert np.abs(np.bincount(y[drawn], minlength=len(counts)) - counts / 4).max() <= 1.5


def test_the_draw_depends_on_the_seed() -> None:
    groups = np.repeat(np.arange(40), 5)
    y = groups % 2
    found = [tuple(draw_groups(y, groups, 40, seed)[1]) for seed in (0, 0, 1, 2)]
    assert len(set(found)) == 3


def test_the_limit_and_the_hold_out_keep_groups_apart() -> None:
    groups = np.repeat(np.arange(40), 5)
    y = (groups % 2).astype(np.int64)
    for limit in (None, 90):
        train, val = divide(DataConfig(limit=limit, val=0.25, seed=3), y, None, groups)
        assert not set(groups[train]) & set(groups[val])
        assert len(train) + len(val) == (limit or 200)
    rest, test = share_for_the_test(y, groups)
    assert not set(groups[rest]) & set(groups[test])
    assert len(test) == 40


def test_a_class_in_one_group_alone_stays() -> None:
    y = np.array([0] * 10 + [1] * 10)
    groups = np.array([*np.repeat(np.arange(5), 2), *[9] * 10])
    rest, drawn = draw_groups(y, number_groups(list(map(str, groups))), 4, 0)
    assert set(y[drawn]) == {0}
    assert 1 in y[rest]
    with pytest.raises(DataError, match=r"^2 groups of data\.group are too few.*\nAllowed: two groups"):
        draw_groups(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 1]), 1, 0)


def test_a_group_in_two_splits_is_refused() -> None:
    refuse_leaks({"train": ["a", "b"], "val": None, "test": ["c"]})
    with pytest.raises(DataError, match=r"^group 'a' and 1 more has images in the train and in the test split"):
        refuse_leaks({"train": ["a", "b"], "val": ["d"], "test": ["b", "a"]})


def patients(root: Path, num: int = 12) -> Path:
    """Of each patient two cats and a dog."""
    for patient in range(num):
        for i, name in enumerate(("cat", "cat", "dog")):
            picture(root / name / f"p{patient}_{i}.png", color=100 * patient + i)
    return root


def test_file_names_tell_the_groups_of_a_folder(tmp_path: Path) -> None:
    root = patients(tmp_path / "pictures")
    images = load(root, tmp_path, group=r"regex:^(.+)_\d+")
    test = load(root, tmp_path, group=r"regex:^(.+)_\d+", test=True)
    assert images.groups is not None
    assert "12 groups of images, each in one split alone" in images.notes
    assert np.bincount(images.groups).tolist() == [3] * len(set(images.groups))
    assert len(images) + len(test) == 36
    assert len(test) % 3 == 0
    config = DataConfig(source=f"folder:{root}", group=r"regex:^(.+)_\d+")
    assert describe(config, tmp_path)["num_val"] % 3 == 0
    assert load(root, tmp_path, group=r"regex:^p(.)").fingerprint() != images.fingerprint()


def test_a_group_in_two_folders_is_refused(tmp_path: Path) -> None:
    root = tmp_path / "pictures"
    patients(root / "train")
    picture(root / "test" / "cat" / "p3_7.png")
    load(root, tmp_path)
    with pytest.raises(DataError, match=r"^group 'p3' has images in the train and in the test split"):
        load(root, tmp_path, group="regex:^(.+)_")


@pytest.mark.parametrize(
    ("group", "match"),
    [
        ("patient", r"^data\.group = 'patient' is not for a folder\.\nAllowed: regex: and"),
        (r"regex:^(\d+)", r"finds no group in '.*\.png' \(.*cat/.*\)\.\nAllowed"),
        (r"regex:(q)?", r"finds no group in '.*\.png'"),
    ],
)
def test_an_expression_that_does_not_fit(tmp_path: Path, group: str, match: str) -> None:
    root = patients(tmp_path / "pictures")
    with pytest.raises((ConfigError, DataError), match=match):
        load(root, tmp_path, group=group)


@pytest.mark.parametrize("group", ["regex:", "regex:abc", "regex:(a)(b)", "regex:(a", "regex:*"])
def test_an_expression_that_is_none(group: str) -> None:
    with pytest.raises(ConfigError, match=r"data\.group = .*\nAllowed: regex: with .*"):
        load_settings(flags={"data.source": "folder:x", "data.group": group})


@pytest.mark.parametrize("name", ["patient", "patient_train"])
def test_an_array_tells_the_groups_of_an_npz(tmp_path: Path, name: str) -> None:
    rng = np.random.default_rng(0)
    patient = np.repeat(["anna", "bert", "cleo", "dora", "emil"], 6)
    arrays = {"x_train": rng.random((30, 4, 4)), "y_train": np.arange(30) % 2, name: patient}
    np.savez(tmp_path / "a.npz", **arrays)
    config = DataConfig(source=f"npz:{tmp_path / 'a.npz'}", group="patient")
    images = load_train(config)
    assert images.notes[-1] == "5 groups of images, each in one split alone"
    train, val = divide(config, images.y, images.val_rows, images.groups)
    assert not set(patient[train]) & set(patient[val])
    assert len(val) == 6

    np.savez(tmp_path / "a.npz", **arrays, x_test=rng.random((2, 4, 4)), y_test=[0, 1], patient_test=["zoe", "bert"])
    with pytest.raises(DataError, match="group 'bert' has images in the train and in the test split"):
        load_train(config)
    np.savez(tmp_path / "a.npz", **{**arrays, name: rng.random(30)})
    with pytest.raises(DataError, match=rf"{name} holds float64 in shape \(30,\), as data\.group\.\nAllowed: whole"):
        load_train(config)
    with pytest.raises(DataError, match="has no scanner"):
        load_train(config.model_copy(update={"group": "scanner"}))


def test_groups_of_folders_may_be_many(tmp_path: Path) -> None:
    root = flat(tmp_path / "pictures")
    images = load(root, tmp_path, group=r"regex:^(\d+)")
    assert "10 groups of images, each in one split alone" in images.notes
