"""Which folders of a data set are splits and which are classes; splits are told by their names, in any case.

    PATH/<class>/...          in one: 20% of each class are always set aside as the test split
    PATH/train/<class>/...    training split; also called training
    PATH/test/<class>/...     test split, beside train; also testing. Where there is none, 20% of train are set aside
    PATH/val/<class>/...      hold-out, beside train; also valid, validation. Where there is none, data.val draws one

A folder that is called like a split and cannot be one is refused: as a class it would be learnt in silence.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass
from pathlib import Path

from hpsearch.datasets.listing import has_images, subfolders
from hpsearch.errors import DataError

SPLITS = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}


@dataclass(frozen=True)
class Layout:
    """Where the class folders of each split are; None where it has to be drawn from the training images."""

    train: Path
    val: Path | None = None
    test: Path | None = None


def find_layout(path: Path, own: Set[Path] = frozenset()) -> Layout:
    """The layout of a folder; `own` are folders that are no part of it, see `listing.subfolders`.

    Raises:
        DataError: it is no folder, or one of its folders is called like a split and cannot be one.
    """
    if not path.is_dir():
        raise DataError(f"{path} is not a folder.\nAllowed: a folder with one folder of images per class.")
    names = subfolders(path, own)
    found = splits_among(names)
    if not found:
        return Layout(path)
    for split, several in found.items():
        if len(several) > 1:
            raise DataError(
                f"{path} has {' and '.join(several)}, which are both called like the {split} split.\n"
                "Allowed: one of them; join them, or move one away."
            )
    first = next(iter(found.values()))[0]
    as_a_class = f"if {first!r} is a class, rename its folder, as {first}-images"
    splits = {name for several in found.values() for name in several}
    if others := [name for name in names if name not in splits and has_images(path / name)]:
        raise DataError(
            f"{path / first} is called like a split, but lies beside other images, in {others[0]!r}.\n"
            f"Allowed: train, val and test alone, with the class folders in them; or, {as_a_class}."
        )
    if "train" not in found:
        raise DataError(
            f"{path / first} is called like a split, but there is no train folder beside it.\n"
            f"Allowed: train/ with the same class folders; or, {as_a_class}."
        )
    return Layout(**{split: path / several[0] for split, several in found.items()})


def splits_among(names: Iterable[str]) -> dict[str, list[str]]:
    """Names that are those of splits, by split, train first: `{"train": ["Train"], "test": ["TEST"]}`."""
    names = list(names)
    found = {split: [name for name in names if name.casefold() in known] for split, known in SPLITS.items()}
    return {split: several for split, several in found.items() if several}
