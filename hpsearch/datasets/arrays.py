"""npz:PATH - x_train and y_train, with x_test, y_test and class_names if there are any.

The file may come from anyone: objects are refused, and sizes are read from the headers before anything is loaded.

Shape suffixes: N = images, C = channels, H = height, W = width, D = features.
"""

from __future__ import annotations

import lzma
import math
import os
import zipfile
import zlib
from pathlib import Path
from typing import IO

import numpy as np
from typing_extensions import override

from hpsearch.datasets.groups import number_groups, refuse_leaks
from hpsearch.datasets.images import Array, Images, Source
from hpsearch.datasets.labels import read_classes
from hpsearch.datasets.notes import groups_note
from hpsearch.errors import DataError

MAX_BYTES = 32 << 30  # largest array that is loaded, however much memory there is
MAX_HEADER = 10_000  # bytes; a few hundred are usual
CHANNELS = (1, 3, 4)  # what the last axis may be, to be taken for channels


class Npz(Source):
    """Arrays in a file of numpy's savez, of which only the members needed are read.

    Images: N,C,H,W, N,H,W,C, N,H,W or N,D (one row of D pixels), in uint8 (0 ... 255) or floats. Channels are taken to
    be last where the last axis is 1, 3 or 4 and the second is none of these; in every other case they are first.
    Labels: integers, whole floats, booleans or text, as N or N,1, or one-hot, N,C; see `labels.read_classes`.
    """

    def __init__(self, path: Path, max_bytes: int | None = None, group: str | None = None) -> None:
        self.path = path
        self.group = group
        self.max_bytes = max_bytes or memory_limit()
        self.description = f"arrays in {path}"

    def _load(self, *, train: bool) -> Images:
        y, name = self._member("y_train"), f"{self.path}: y_train"
        classes = read_classes(y, name, self._class_names(), f"{self.path}: ")
        split = "train" if train else "test"
        x = as_images(self._member(f"x_{split}"), f"{self.path}: x_{split}")
        if not train:
            y, name = self._member("y_test"), f"{self.path}: y_test"
            return Images(x, classes.number(y, name), classes.names, notes=classes.notes)
        groups, notes = None, classes.notes
        if self.group is not None:
            names = self._groups(self.group, len(y))
            groups, notes = number_groups(names), (*notes, groups_note(len(set(names))))
        return Images(x, classes.number(y, name), classes.names, notes=notes, groups=groups)

    @property
    def has_test(self) -> bool:  # type: ignore[override]
        """Whether the test split's images and labels are in the file.

        Raises:
            DataError: it cannot be read.
        """
        with self._open() as archive:
            return {"x_test.npy", "y_test.npy"} <= set(archive.namelist())

    @override
    def load_test_beside(self) -> Images | None:
        return self.load_test() if self.has_test else None

    def load_stored(self) -> tuple[Array, Array]:
        """x_train and y_train as they are stored.

        Raises:
            DataError: one is missing, or cannot be read.
        """
        return self._member("x_train"), self._member("y_train")

    def load_unlabelled(self) -> Array:
        """The array x, or the only one in the file, as it is stored: images of which nobody says what they are.

        Raises:
            DataError: there is none, or it cannot be read.
        """
        with self._open() as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
        return self._member(names[0] if len(names) == 1 else "x")

    def _groups(self, name: str, num: int) -> list[str]:
        """Of the training images: the array of that name, or with `_train` behind it; one with `_test` shares none.

        Raises:
            DataError: there is no such array, it does not fit, or a group is in both splits.
        """
        with self._open() as archive:
            members = {member.removesuffix(".npy") for member in archive.namelist()}
        given = f"{name}_train" if f"{name}_train" in members else name
        groups = self._member(given)
        if groups.shape not in ((num,), (num, 1)) or groups.dtype.kind not in "biuUST":
            raise DataError(
                f"{self.path}: {given} holds {groups.dtype} in shape {groups.shape}, as data.group.\n"
                f"Allowed: whole numbers or text in shape ({num},), one for each training image."
            )
        names = [str(group) for group in groups.ravel().tolist()]
        if f"{name}_test" in members:
            tested = [str(group) for group in self._member(f"{name}_test").ravel().tolist()]
            refuse_leaks({"train": names, "test": tested})
        return names

    def _class_names(self) -> Array | None:
        with self._open() as archive:
            named = "class_names.npy" in archive.namelist()
        return self._member("class_names") if named else None

    def _open(self) -> zipfile.ZipFile:
        try:
            return zipfile.ZipFile(self.path)
        except (OSError, zipfile.BadZipFile) as error:
            raise DataError(f"{self.path} cannot be read: {error}.\nAllowed: a file of numpy.savez.") from error

    def _member(self, name: str) -> Array:
        """One array, after a look at its header.

        Raises:
            DataError: it is not there, holds objects, claims too much, or is damaged.
        """
        with self._open() as archive:
            if f"{name}.npy" not in archive.namelist():
                found = ", ".join(sorted(member.removesuffix(".npy") for member in archive.namelist()[:20]))
                raise DataError(f"{self.path} has no {name}.\nIt has: {found or 'nothing'}.")
            try:
                with archive.open(f"{name}.npy") as file:
                    self._check_header(name, file, archive.getinfo(f"{name}.npy").file_size)
                with archive.open(f"{name}.npy") as file:
                    array: Array = np.lib.format.read_array(file, allow_pickle=False)
                    return array
            except (
                OSError,
                ValueError,
                EOFError,
                RuntimeError,
                zipfile.BadZipFile,
                zlib.error,
                lzma.LZMAError,
            ) as error:
                raise DataError(f"{self.path}: {name} cannot be read: {error}") from error

    def _check_header(self, name: str, file: IO[bytes], member_bytes: int) -> None:
        version = np.lib.format.read_magic(file)
        # NumPy looks at the length of a header after reading all of it, up to 4 GiB.
        length = int.from_bytes(file.read(2 if version == (1, 0) else 4), "little")
        if length > MAX_HEADER:
            raise DataError(
                f"{self.path}: {name} is refused: its header claims {length:,} bytes.\nAllowed: {MAX_HEADER:,}."
            )
        file.seek(np.lib.format.MAGIC_LEN)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
        if dtype.hasobject:
            raise DataError(
                f"{self.path}: {name} is refused: it holds pickled objects.\nAllowed: plain numbers and text."
            )
        claimed = math.prod(shape) * dtype.itemsize
        if claimed > self.max_bytes:
            raise DataError(
                f"{self.path}: {name} is refused: it claims {claimed / 2**30:,.1f} GiB.\n"
                f"Allowed: up to {self.max_bytes / 2**30:,.1f} GiB, which is half of the memory and at most 32 GiB."
            )
        if claimed != member_bytes - file.tell():
            raise DataError(
                f"{self.path}: {name} is refused: its header claims {claimed} bytes, "
                f"but {member_bytes - file.tell()} follow."
            )


def as_images(x: Array, name: str) -> Array:
    """N,C,H,W in uint8, float32 or float64, from any of the shapes and types that `Npz` names; a view where it can be.

    Raises:
        DataError: shape or type is another one.
    """
    x = x.astype(x.dtype.newbyteorder("="), copy=False)
    if x.dtype == np.float16:
        x = x.astype(np.float32)
    if x.dtype not in (np.uint8, np.float32, np.float64):
        raise DataError(f"{name} holds {x.dtype}.\nAllowed: uint8 (0 ... 255), float16, float32, float64.")
    if x.ndim not in (2, 3, 4):
        raise DataError(f"{name} has shape {x.shape}.\nAllowed: N,C,H,W or N,H,W,C or N,H,W or N,D.")
    return channels_first(x)


def memory_limit() -> int:
    """Bytes that one array may take: half of the machine's memory, at most 32 GiB."""
    try:
        return min(MAX_BYTES, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2)
    except (AttributeError, ValueError, OSError):  # not on this system
        return MAX_BYTES


def channels_first(x: Array) -> Array:
    """N,C,H,W of images in any of the shapes that `Npz` names; a view."""
    if x.ndim == 2:
        return x[:, None, None, :]
    if x.ndim == 3:
        return x[:, None]
    if x.shape[3] in CHANNELS and x.shape[1] not in CHANNELS:
        return x.transpose(0, 3, 1, 2)
    return x
