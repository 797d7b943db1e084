"""Stratified draws with exact counts: the hold-out, the limit, the fixed test share.

Shape suffixes: N = images, C = classes. Own code rather than scikit-learn's train_test_split: that one refuses
classes of a single image, and lets a small class miss one side.
"""

from __future__ import annotations

import numpy as np

from hpsearch.config import DataConfig
from hpsearch.datasets.folds import draw_folds
from hpsearch.datasets.groups import draw_groups
from hpsearch.datasets.images import Array, Labels
from hpsearch.errors import ConfigError, DataError

TEST_SHARE = 0.2  # of the images of a source that comes without a test split
TEST_SEED = 0  # draws that share; a constant, so that no study can move images out of the test split


def quotas(counts_C: Array, num: int, low_C: Array, high_C: Array) -> Array:
    """How many of each class to take: `num` in all, in proportion to `counts_C`, each between its low and high.

    Largest remainders; `num` must lie between the sums of low and high.
    """
    assert low_C.sum() <= num <= high_C.sum()
    ideal_C = counts_C * num / counts_C.sum()
    quotas_C: Array = np.clip(counts_C * num // counts_C.sum(), low_C, high_C)
    while gap := num - int(quotas_C.sum()):
        direction = 1 if gap > 0 else -1
        movable_C = quotas_C < high_C if gap > 0 else quotas_C > low_C
        lag_C = np.where(movable_C, (ideal_C - quotas_C) * direction, -np.inf)
        quotas_C[lag_C.argmax()] += direction
    return quotas_C


def draw(y: Array, quotas_C: Array, seed: int) -> Array:
    """Rows of `y`, ascending: `quotas_C[c]` of class c, at random in `seed`."""
    shuffled_N = np.random.default_rng(seed).permutation(len(y))
    grouped_N = shuffled_N[np.argsort(y[shuffled_N], kind="stable")]
    counts_C = np.bincount(y, minlength=len(quotas_C))
    starts_C = np.cumsum(counts_C) - counts_C
    rank_N = np.arange(len(y)) - starts_C[y[grouped_N]]
    return np.sort(grouped_N[rank_N < quotas_C[y[grouped_N]]])


def sample(y: Array, num: int, seed: int) -> Array:
    """Rows of a stratified sample of `num` images (all, if there are fewer), with every class where `num` allows."""
    counts_C = np.bincount(y)
    present_C = counts_C > 0
    low_C = present_C if num >= present_C.sum() else np.zeros_like(counts_C)
    return draw(y, quotas(counts_C, min(num, len(y)), low_C.astype(np.int64), counts_C), seed)


def limited(y: Array, limit: int | None, seed: int) -> Array:
    """Rows of the stratified subset that data.limit leaves.

    Raises:
        ConfigError: the limit is below one image a class.
    """
    num_classes = len(np.unique(y))
    if limit is not None and limit < num_classes:
        raise ConfigError(
            f"data.limit = {limit} leaves classes without an image.\nAllowed: at least {num_classes}, one a class."
        )
    return np.arange(len(y)) if limit is None or limit >= len(y) else sample(y, limit, seed)


def holdout(y: Array, val: float, seed: int, groups: Labels | None = None) -> tuple[Array, Array]:
    """Rows of the training part and of the validation images, both ascending: a stratified draw, exact in number.

    `val` is a share below 1 (rounded to whole images) or a count. A class with a single image stays in the training
    part; every other class is on both sides. Where images have `groups`, whole groups are drawn: see `draw_groups`.

    Raises:
        ConfigError: `val` leaves a class out on one side.
        DataError: there are too few images or groups for any hold-out.
    """
    counts_C = np.bincount(y)
    num, num_classes = len(y), int((counts_C > 0).sum())
    if num < 2 * num_classes:
        raise DataError(
            f"{num} images of {num_classes} classes are too few to hold out validation images.\n"
            f"Allowed: at least {2 * num_classes}, two a class, beside those that are set aside as the test split."
        )
    num_val = int(val) if val >= 1 else int(num * val + 0.5)
    if not num_classes <= num_val <= num - num_classes:
        shown = f"{val:g}" if val >= 1 else f"{val:g} ({num_val} images)"
        raise ConfigError(
            f"data.val = {shown} of {num} training images leaves a class out of the training part or the hold-out.\n"
            f"Allowed: {num_classes} to {num - num_classes} images, or a share that gives as many."
        )
    return _two_sides(y, num_val, seed, groups)


def test_share(y: Array, groups: Labels | None = None) -> tuple[Array, Array]:  # noqa: PT028 - it is no test
    """Rows of the training split and of the test split, for a source that comes as one.

    Always the same for the same labels: 20%, stratified; at least one of each class that has two images. Where images
    have `groups`, whole groups, as near to that as they allow.

    Raises:
        DataError: there are too few images.
    """
    num, num_classes = len(y), len(np.unique(y))
    if num < 2 * num_classes:
        raise DataError(
            f"{num} images of {num_classes} classes are too few to set a test split aside.\n"
            f"Allowed: at least {2 * num_classes}, two a class."
        )
    num_test = min(max(int(num * TEST_SHARE + 0.5), num_classes), num - num_classes)
    return _two_sides(y, num_test, TEST_SEED, groups)


def _two_sides(y: Array, num: int, seed: int, groups: Labels | None) -> tuple[Array, Array]:
    if groups is not None:
        return draw_groups(y, groups, num, seed)
    counts_C = np.bincount(y)
    low_C = (counts_C >= 2).astype(np.int64)
    taken = draw(y, quotas(counts_C, num, low_C, np.maximum(counts_C - 1, 0)), seed)
    return np.setdiff1d(np.arange(len(y)), taken, assume_unique=True), taken


def divide(
    config: DataConfig, y: Labels, val_rows: Array | None = None, groups: Labels | None = None
) -> tuple[Array, Array]:
    """Rows of the training part and of the hold-out of a training split, after data.limit.

    A hold-out that the source gives is taken as it is, whole: data.val does not draw, data.limit leaves it alone. With
    data.folds, those of the first fold.

    Raises:
        ConfigError, DataError: as `divisions`.
    """
    return divisions(config, y, val_rows, groups)[0]


def divisions(
    config: DataConfig, y: Labels, val_rows: Array | None = None, groups: Labels | None = None
) -> list[tuple[Array, Array]]:
    """The same of each fold, where there are folds; else of the one hold-out.

    Raises:
        ConfigError, DataError: as `limited`, `holdout` and `draw_folds`; or there is a hold-out where folds are asked.
    """
    if config.folds is not None:
        if val_rows is not None:
            raise ConfigError(
                f"data.folds = {config.folds} is for images without validation images of their own, and"
                f" {config.source} has {len(val_rows):,}.\nAllowed: data.folds = none; or put those among the others."
            )
        kept = limited(y, config.limit, config.seed)
        folds = draw_folds(y[kept], config.folds, config.seed, None if groups is None else groups[kept])
        return [(np.delete(kept, val), kept[val]) for val in folds]
    return [_divided(config, y, val_rows, groups)]


def _divided(config: DataConfig, y: Labels, val_rows: Array | None, groups: Labels | None) -> tuple[Array, Array]:
    if val_rows is not None:
        rest = np.setdiff1d(np.arange(len(y)), val_rows)
        return rest[limited(y[rest], config.limit, config.seed)], val_rows
    kept = limited(y, config.limit, config.seed)
    train, val = holdout(y[kept], config.val, config.seed, None if groups is None else groups[kept])
    return kept[train], kept[val]
