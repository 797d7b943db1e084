"""Images in one file of NumPy's, with a checksum of each block of them: written piece by piece, trusted where whole.

A file that is being written lies beside its place, hidden, and with it a line for each block that was written. Whoever
goes on with it keeps the blocks that are as their lines say, so a kill or a power cut costs no more than one.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
from collections.abc import Sequence
from concurrent.futures import Executor
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np

MAX_IMAGES = 512  # in a block
MAX_BYTES = 2**26  # in a block, unless a single image has more


def images_per_block(image_shape: Sequence[int]) -> int:
    """So many that memory stays bounded."""
    return max(1, min(MAX_IMAGES, MAX_BYTES // math.prod(image_shape)))


def are_whole(path: Path, shape: Sequence[int], sums: Sequence[str], pool: Executor) -> bool:
    """Whether a file holds images N,C,H,W of this shape, and each block is as it was written."""
    header, size = _header(shape), images_per_block(shape[1:]) * math.prod(shape[1:])
    starts = range(len(header), len(header) + math.prod(shape), size)
    try:
        with path.open("rb") as file:
            if file.read(len(header)) != header or os.fstat(file.fileno()).st_size != starts.stop:
                return False
        ends = [min(start + size, starts.stop) for start in starts]
        found = pool.map(lambda start, end: _sum(_between(path, start, end)), starts, ends)
        return list(found) == list(sums)
    except OSError:
        return False


class PartFile:
    """The file at `path` while it is written, in order.

    Args:
        path: where it is to be in the end.
        suffix: of the files beside it until then.

    Raises:
        OSError: in any call; the files stay as they are then, to go on with.
    """

    def __init__(self, path: Path, suffix: str = "part") -> None:
        self.path = path
        self._array = path.with_name(f".{path.name}.{suffix}")
        self._lines = path.with_name(f".{path.name}.sums.{suffix}")
        self._open = ExitStack()
        self.sums: list[str] = []
        """Of the blocks that are there."""

    def __enter__(self) -> PartFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._open.close()

    def described(self) -> dict[str, Any] | None:
        """What `begin` was given; None if nothing was begun that can be gone on with."""
        try:
            found = json.loads(self._lines.read_bytes().partition(b"\n")[0])
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) and self._array.exists() else None

    def begin(self, described: dict[str, Any], shape: Sequence[int]) -> None:
        """A new one, in place of any other."""
        self.remove()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        first = {**described, "images_per_block": images_per_block(shape[1:])}
        self._lines.write_bytes(json.dumps(first).encode() + b"\n")
        self._array.write_bytes(_header(shape))
        self._append(shape)

    def go_on(self, shape: Sequence[int]) -> None:
        """With the blocks that are there and whole; what is behind them goes."""
        first, *lines = self._lines.read_bytes().split(b"\n")
        header, size = _header(shape), images_per_block(shape[1:]) * math.prod(shape[1:])
        if _between(self._array, 0, len(header)) != header:
            self._array.write_bytes(header)
        end, last = len(header), len(header) + math.prod(shape)
        for line in lines:
            block = _between(self._array, end, min(end + size, last))
            if not block or _sum(block) != line.decode(errors="replace"):
                break
            self.sums.append(_sum(block))
            end += len(block)
        os.truncate(self._array, end)
        self._lines.write_bytes(b"\n".join([first, *(each.encode() for each in self.sums), b""]))
        self._append(shape)

    def append(self, block: bytes) -> None:
        """The next images, as many as belong in a block."""
        self._file.write(block)
        self._file.flush()
        self.sums.append(_sum(block))
        self._sums_file.write(self.sums[-1].encode() + b"\n")
        self._sums_file.flush()

    def finish(self) -> None:
        """Put it in its place, whole."""
        os.fsync(self._file.fileno())
        self._open.close()
        self._array.replace(self.path)
        self._lines.unlink(missing_ok=True)

    def remove(self) -> None:
        """Nothing is left of it."""
        self._open.close()
        self._lines.unlink(missing_ok=True)
        self._array.unlink(missing_ok=True)

    @property
    def num_done(self) -> int:
        """Images in whole blocks, as another process says of the file that it writes."""
        try:
            first, *lines = self._lines.read_bytes().split(b"\n")
            return int(json.loads(first)["images_per_block"]) * max(0, len(lines) - 1)
        except (OSError, ValueError, KeyError, TypeError):
            return 0

    def _append(self, shape: Sequence[int]) -> None:
        self._file: BinaryIO = self._open.enter_context(self._array.open("ab"))
        self._sums_file: BinaryIO = self._open.enter_context(self._lines.open("ab"))


def _header(shape: Sequence[int]) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": tuple(shape)})
    return file.getvalue()


def _between(path: Path, start: int, end: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(end - start)


def _sum(block: bytes) -> str:
    return hashlib.blake2b(block, digest_size=16).hexdigest()
