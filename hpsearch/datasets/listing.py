"""The files below class folders: which are images, and what lies beside them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hpsearch.datasets.images import Array, Labels
from hpsearch.errors import DataError

SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
)
HEIF = frozenset({".heic", ".heif"})  # photographs of telephones, which the package pillow-heif reads
OPTIONAL = HEIF | {".avif"}  # read where Pillow can
SYSTEM_FILES = {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"}  # of file managers
SYSTEM_FOLDERS = {"__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found"}
DATABASE = "hpsearch.db"  # in run.storage's folder, as it is called by default
LONGEST_SUFFIX = 8  # characters with the point; what is longer is part of a name


@dataclass(frozen=True)
class Listing:
    """The image files of one split, sorted by class and name, with their labels.

    `left_out` counts the other files by suffix: ".heic", "none", "other". Images of one of `groups`, by name, stay in
    one split.
    """

    files: Sequence[Path]
    y: Labels
    left_out: Counter[str] = field(default_factory=Counter)
    groups: Sequence[str] | None = None

    def take(self, rows: Array) -> Listing:
        """These images of it, without the count."""
        groups = None if self.groups is None else [self.groups[row] for row in rows]
        return Listing([self.files[row] for row in rows], self.y[rows], groups=groups)


def list_classes(folder: Path, class_names: Sequence[str]) -> Listing:
    """The images of one split; a class may have none, nor a folder.

    Raises:
        DataError: a folder cannot be read.
    """
    by_class = [list(files_below(folder / name)) for name in class_names]
    known = SUFFIXES | readable({_suffix(path) for found in by_class for path in found})
    files: list[Path] = []
    labels: list[int] = []
    left_out: Counter[str] = Counter()
    for label, found in enumerate(by_class):
        images = [path for path in found if _suffix(path) in known]
        files += sorted(images, key=lambda path: path.relative_to(folder).as_posix())
        labels += [label] * len(images)
        left_out.update(_kind(path) for path in found if _suffix(path) not in known)
    return Listing(files, np.array(labels, dtype=np.int64), left_out)


def images_below(folder: Path) -> tuple[list[Path], Counter[str]]:
    """The images in a folder, in any depth, sorted; and the other files, counted by suffix, as `Listing` has them.

    Raises:
        DataError: a folder cannot be read.
    """
    found = sorted(files_below(folder), key=lambda path: path.relative_to(folder).as_posix())
    known = SUFFIXES | readable({_suffix(path) for path in found})
    return [p for p in found if _suffix(p) in known], Counter(_kind(p) for p in found if _suffix(p) not in known)


def subfolders(folder: Path, own: Set[Path] = frozenset()) -> list[str]:
    """Names of the folders in a folder, sorted: not hidden, not a system's, not hpsearch's own.

    `own` are hpsearch's folders, resolved; they come to lie among the classes where these are in the working directory.
    Its studies are told by their database. Where there are images in one of them, it may be a class after all.

    Raises:
        DataError: the folder cannot be read.
    """
    try:
        entries = [entry for entry in folder.iterdir() if entry.is_dir() and not _is_noise(entry.name)]
    except OSError as error:
        raise _unreadable(error) from error

    def is_own(entry: Path) -> bool:
        return (entry.resolve() in own or (entry / DATABASE).is_file()) and not has_images(entry)

    return sorted(entry.name for entry in entries if not is_own(entry))


def files_below(folder: Path) -> Iterator[Path]:
    """All files that are not hidden and not a system's, in any depth, links followed.

    Raises:
        DataError: a folder cannot be read.
    """
    seen: set[str] = set()  # symlinks may run in circles
    if not folder.is_dir():
        return
    for parent, folders, names in os.walk(folder, followlinks=True, onerror=_refuse):
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not _is_noise(name))
        yield from (Path(parent, name) for name in names if not _is_noise(name))


def has_images(folder: Path) -> bool:
    """Whether there is an image in a folder, in any depth."""
    return any(_suffix(path) in SUFFIXES | OPTIONAL for path in files_below(folder))


def num_loose(folders: Iterable[Path]) -> int:
    """Images that lie in these folders themselves, not in one of a class."""
    entries = (entry for folder in set(folders) for entry in folder.iterdir())
    return sum(_suffix(entry) in SUFFIXES | OPTIONAL and not _is_noise(entry.name) for entry in entries)


def readable(suffixes: Set[str]) -> Set[str]:
    """Which of the optional kinds can be read here; asked only where there are any, as it takes Pillow."""
    if not (wanted := suffixes & OPTIONAL):
        return wanted
    from PIL import Image

    if wanted & HEIF:
        with suppress(ImportError):
            import pillow_heif

            pillow_heif.register_heif_opener()
    return wanted & Image.registered_extensions().keys()


def _suffix(path: Path) -> str:
    return path.suffix.lower()


def _kind(path: Path) -> str:
    """What a file that is left out counts as; a name may hold anything, and this is shown."""
    suffix = _suffix(path)
    if not suffix:
        return "none"
    return suffix if len(suffix) <= LONGEST_SUFFIX and suffix[1:].isalnum() else "other"


def _is_noise(name: str) -> bool:
    return name.startswith(".") or name.lower() in SYSTEM_FILES | SYSTEM_FOLDERS


def _refuse(error: OSError) -> None:
    raise _unreadable(error)


def _unreadable(error: OSError) -> DataError:
    return DataError(f"{error.filename} cannot be read: {error.strerror}.\nAllowed: folders that can be listed.")
