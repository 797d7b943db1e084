"""Folds of the training images for cross-validation: each image is a validation image of one fold.

Shape suffixes: N = images, C = classes.
"""

from __future__ import annotations

import numpy as np

from hpsearch.datasets.groups import draw_groups
from hpsearch.datasets.images import Array, Labels
from hpsearch.errors import ConfigError, DataError


def draw_folds(y: Labels, num_folds: int, seed: int, groups: Labels | None = None) -> list[Array]:
    """Rows of the validation images of each fold, ascending: stratified, at random in `seed`.

    Folds differ by one image in all and in each class, or, where images have `groups`, as whole groups make them
    differ. What would leave a class without a training image, a class of one image or of one group, is in no fold's
    validation images: it trains in all of them.

    Raises:
        ConfigError: there are more folds than images, or groups, to go round.
        DataError: whole groups leave a class out of the training images of a fold.
    """
    counts_C = np.bincount(y)
    if groups is None:
        going_N = np.flatnonzero(counts_C[y] >= 2)
    else:
        going_N = np.flatnonzero(~np.isin(groups, _alone(y, groups)))
    num_going = len(going_N) if groups is None else len(np.unique(groups[going_N]))
    if num_going < num_folds:
        what = "images" if groups is None else "groups"
        raise ConfigError(
            f"data.folds = {num_folds} is more than there are {what} to go round: {num_going}, without what is the only"
            f" one of a class.\nAllowed: 2 to {num_going}."
            if num_going >= 2
            else f"data.folds = {num_folds} needs two {what} or more of a class.\nAllowed: data.val, or no folds."
        )
    if groups is None:
        return _dealt(y, going_N, num_folds, seed)
    try:
        folds = _dealt_groups(y, going_N, groups, num_folds, seed)
    except DataError:
        folds = []
    if not folds or any(len(np.unique(np.delete(y, fold))) < np.count_nonzero(counts_C) for fold in folds):
        raise DataError(
            f"{num_folds} folds of whole groups leave a class without a training image: its groups are too few.\n"
            "Allowed: fewer folds, or a class in more groups of data.group."
        )
    return folds


def _dealt(y: Labels, going_N: Array, num_folds: int, seed: int) -> list[Array]:
    """Class after class, shuffled, one image to each fold in turn."""
    shuffled_N = np.random.default_rng(seed).permutation(going_N)
    by_class_N = shuffled_N[np.argsort(y[shuffled_N], kind="stable")]
    return [np.sort(by_class_N[fold::num_folds]) for fold in range(num_folds)]


def _dealt_groups(y: Labels, going_N: Array, groups: Labels, num_folds: int, seed: int) -> list[Array]:
    """Fold after fold, its share of the groups that are left; the last one has the rest."""
    folds, left_N = [], going_N
    for fold in range(num_folds - 1):
        _, numbers_N = np.unique(groups[left_N], return_inverse=True)
        share = round(len(left_N) / (num_folds - fold))
        stay, taken = draw_groups(y[left_N], numbers_N.reshape(-1).astype(np.int64), share, seed + fold)
        folds.append(left_N[taken])
        left_N = left_N[stay]
    return [*folds, left_N]


def _alone(y: Labels, groups: Labels) -> Array:
    """Groups that have all images of a class."""
    cells = np.unique(np.stack([y, groups]), axis=1)
    classes, num_groups = np.unique(cells[0], return_counts=True)
    return np.unique(cells[1][np.isin(cells[0], classes[num_groups == 1])])
