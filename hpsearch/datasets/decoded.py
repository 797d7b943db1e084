"""The images of a folder, decoded once and kept on disk by their content.

The test images lie behind the others in the same file: all of them are decoded before the first trial, so that a
damaged one is found then, and not by the last command of a search. Nothing of them goes into the recipe.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np

from hpsearch.datasets.atomic import replacing
from hpsearch.datasets.decoding import (
    Header,
    Recipe,
    decode,
    make_recipe,
    pillow_warnings,
    read_extremes,
    read_header,
    why_not,
)
from hpsearch.datasets.images import Array, Progress
from hpsearch.errors import DataError
from hpsearch.runtime import num_cores

CACHE_VERSION = 2  # goes up when decoding changes
CHUNK = 512  # images decoded ahead of writing
MAX_NAMED = 5  # damaged files in a message

T = TypeVar("T")
Splits: TypeAlias = Mapping[str, Sequence[Path]]
Damaged: TypeAlias = tuple[str, Path, Exception]  # split, file, why


def decoded(
    splits: Splits, root: Path, size: int | None, cache_dir: Path, progress: Progress | None
) -> tuple[Array, Recipe]:
    """The images of all splits, in their order, as N,C,size,size uint8, memory-mapped from the cache; and their recipe.

    `splits` has the files below `root` by the name of their split; the recipe is made from those of "train". Without a
    size it is the images' own, see `decoding.make_recipe`.

    Raises:
        DataError: files are not images that can be read, or the cache cannot be written.
    """
    with ThreadPoolExecutor(num_cores()) as pool:
        key = _content_key(splits, root, size, pool)
        array_path, recipe_path = (cache_dir / f"folder-{key}.{suffix}" for suffix in ("npy", "json"))
        if not (array_path.exists() and recipe_path.exists()):
            try:
                with pillow_warnings():
                    _decode_all(splits, size, array_path, recipe_path, pool, progress)
            except OSError as error:
                raise DataError(f"the cache {array_path} cannot be written: {error}") from error
    try:
        array: Array = np.load(array_path, mmap_mode="r", allow_pickle=False)
        return array, _load_recipe(recipe_path)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"the cache {array_path.with_suffix('')} cannot be read: {error}\nDelete it; it is written anew."
        ) from error


def _content_key(splits: Splits, root: Path, size: int | None, pool: ThreadPoolExecutor) -> str:
    # Not by times of change: copies keep them and checkouts renew them. Reading is far cheaper than decoding.
    key = hashlib.blake2b(f"{CACHE_VERSION} {size}".encode(), digest_size=16)
    for split, files in splits.items():
        key.update(f"\n{split}".encode())
        for path, digest in zip(files, pool.map(_file_digest, files), strict=True):
            key.update(f"\n{path.relative_to(root).as_posix()} ".encode(errors="surrogateescape") + digest)
    return key.hexdigest()


def _file_digest(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    return hashlib.blake2b(content, digest_size=32).digest()


def _decode_all(
    splits: Splits,
    size: int | None,
    array_path: Path,
    recipe_path: Path,
    pool: ThreadPoolExecutor,
    progress: Progress | None,
) -> None:
    """Write both files. All images are tried before the damaged ones are complained of."""
    files = [(split, path) for split, paths in splits.items() for path in paths]
    headers = list(zip(splits["train"], _attempts(read_header, splits["train"], pool), strict=True))
    good = [header for _, header in headers if isinstance(header, Header)]
    if not good:
        raise _damaged([("train", path, error) for path, error in headers if isinstance(error, Exception)])
    deep = [path for path, header in headers if isinstance(header, Header) and header.is_deep]
    numbers, total = count(1), len(deep) + len(files)

    def one_more() -> None:
        if progress:
            progress(next(numbers), total)

    extremes = []
    for each in _attempts(read_extremes, deep, pool):
        one_more()
        if not isinstance(each, Exception):
            extremes.append(each)
    recipe = make_recipe(good, extremes, size)
    damaged: list[Damaged] = []
    # Written in order rather than through a memory map: on a full disk that would be a signal, not an error.
    shape = (len(files), recipe.channels, recipe.size, recipe.size)
    with replacing(array_path) as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        for start in range(0, len(files), CHUNK):
            chunk = files[start : start + CHUNK]
            images = _attempts(partial(decode, recipe=recipe), [path for _, path in chunk], pool)
            for (split, path), image in zip(chunk, images, strict=True):
                one_more()
                if isinstance(image, Exception):
                    damaged.append((split, path, image))
                elif not damaged:
                    file.write(image.tobytes())
        if damaged:
            raise _damaged(damaged)
        with replacing(recipe_path) as described:  # first, so that an array is never without
            described.write(json.dumps(asdict(recipe)).encode())


def _attempts(read: Callable[[Path], T], paths: Iterable[Path], pool: ThreadPoolExecutor) -> Iterator[T | Exception]:
    """What `read` makes of each file, in order: an error of any kind is a result like any other."""

    def attempt(path: Path) -> T | Exception:
        try:
            return read(path)
        except Exception as error:
            return error

    return pool.map(attempt, paths)


def _damaged(files: Sequence[Damaged]) -> DataError:
    reasons = [f"{path} ({split} split): {why_not(error)}" for split, path, error in files[:MAX_NAMED]]
    if len(files) == 1:
        what, them = reasons[0].replace(" split): ", " split) cannot be decoded: "), "the file"
    else:
        more = "; ..." if len(files) > MAX_NAMED else ""
        what, them = f"{len(files):,} images cannot be decoded: {'; '.join(reasons)}{more}", "the files"
    return DataError(f"{what}.\nAllowed: whole images with integers for pixels; repair, shrink or remove {them}.")


def _load_recipe(path: Path) -> Recipe:
    stored: dict[str, Any] = json.loads(path.read_bytes())
    smallest, largest = (tuple(stored.pop(name)) for name in ("smallest", "largest"))
    return Recipe(smallest=smallest, largest=largest, **stored)
