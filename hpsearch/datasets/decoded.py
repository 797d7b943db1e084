"""The images of a folder, decoded once and kept on disk by their content.

The test images lie behind the others in the same file: all of them are decoded before the first trial, so that a
damaged one is found then, and not by the last command of a search. Nothing of them goes into the recipe.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np

from hpsearch.datasets.atomic import replacing
from hpsearch.datasets.blocks import PartFile, are_whole, images_per_block
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
from hpsearch.datasets.images import Progress
from hpsearch.datasets.locking import locked
from hpsearch.errors import DataError
from hpsearch.logs import get_logger
from hpsearch.runtime import num_cores

CACHE_VERSION = 3  # goes up when decoding changes
MAX_NAMED = 5  # damaged files in a message

log = get_logger(__name__)

T = TypeVar("T")
Splits: TypeAlias = Mapping[str, Sequence[Path]]
Damaged: TypeAlias = tuple[str, Path, Exception]  # split, file, why


def decoded(
    splits: Splits,
    root: Path,
    size: int | None,
    cache_dir: Path,
    progress: Progress | None,
    *,
    crop: bool = False,
) -> tuple[np.memmap[Any, Any], Recipe]:
    """The images of all splits, in their order, as N,C,size,size uint8, memory-mapped from the cache; and their recipe.

    `splits` has the files below `root` by the name of their split; the recipe is made from those of "train". Without a
    size it is the images' own, see `decoding.make_recipe`. One process decodes at a time; another one that wants the
    same waits for it, and one that was ended on the way is gone on with. What is in the cache is read whole each time:
    where it is not as it was written, it is written anew.

    Raises:
        DataError: files are not images that can be read, or the cache cannot be written.
    """
    files = [(split, path) for split, paths in splits.items() for path in paths]
    with ThreadPoolExecutor(num_cores()) as pool:
        key = _content_key(splits, root, size, pool, crop=crop)
        array_path, recipe_path = (cache_dir / f"folder-{key}.{suffix}" for suffix in ("npy", "json"))

        def in_cache() -> Recipe | None:
            return _whole(array_path, recipe_path, len(files), pool)

        def others_progress() -> None:
            if progress:
                progress(min(PartFile(array_path).num_done, len(files)), len(files))

        recipe = in_cache()
        try:
            if recipe is None:
                with locked(cache_dir / f".folder-{key}.lock", others_progress) as alone:
                    recipe = in_cache()  # another process may have done it meanwhile
                    if recipe is None:
                        if array_path.exists():
                            log.warning("the cache %s is damaged, so it is written anew", array_path)
                        suffix = "part" if alone else f"{uuid.uuid4().hex}.part"
                        with pillow_warnings(), PartFile(array_path, suffix) as part:
                            recipe = _decode_all(files, size, part, recipe_path, pool, progress, crop=crop)
            array: np.memmap[Any, Any] = np.load(array_path, mmap_mode="r", allow_pickle=False)
        except OSError as error:
            raise DataError(f"the cache {array_path} cannot be written: {error}") from error
    return array, recipe


def _content_key(splits: Splits, root: Path, size: int | None, pool: ThreadPoolExecutor, *, crop: bool) -> str:
    # Not by times of change: copies keep them and checkouts renew them. Reading is far cheaper than decoding.
    key = hashlib.blake2b(f"{CACHE_VERSION} {size}{' crop' if crop else ''}".encode(), digest_size=16)
    for split, files in splits.items():
        key.update(f"\n{split}".encode())
        for path, digest in zip(files, pool.map(_file_digest, files), strict=True):
            name = path.relative_to(root) if path.is_relative_to(root) else path  # a table may name any
            key.update(f"\n{name.as_posix()} ".encode(errors="surrogateescape") + digest)
    return key.hexdigest()


def _file_digest(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
    return hashlib.blake2b(content, digest_size=32).digest()


def _decode_all(
    files: Sequence[tuple[str, Path]],
    size: int | None,
    part: PartFile,
    recipe_path: Path,
    pool: ThreadPoolExecutor,
    progress: Progress | None,
    *,
    crop: bool,
) -> Recipe:
    """Write both files, or the rest of them. All images are tried before the damaged ones are complained of."""
    recipe = _recipe_of(part.described())
    told = Told(progress)
    if recipe is not None:
        told.total = recipe.num_deep + len(files)
        part.go_on(_shape(files, recipe))
        num_done = min(len(part.sums) * images_per_block(_shape(files, recipe)[1:]), len(files))
        told.add(recipe.num_deep + num_done)
    else:
        recipe = _make_recipe([path for split, path in files if split == "train"], len(files), size, pool, told)
        recipe, num_done = replace(recipe, crop=crop), 0
        part.begin({"recipe": asdict(recipe)}, _shape(files, recipe))
    damaged: list[Damaged] = []
    # Written in order rather than through a memory map: on a full disk that would be a signal, not an error.
    block = images_per_block(_shape(files, recipe)[1:])
    for start in range(num_done, len(files), block):
        chunk = files[start : start + block]
        found: list[bytes] = []
        images = _attempts(partial(decode, recipe=recipe), [path for _, path in chunk], pool)
        for (split, path), image in zip(chunk, images, strict=True):
            told.add(1)
            if isinstance(image, Exception):
                damaged.append((split, path, image))
            elif not damaged:
                found.append(image.tobytes())
        if not damaged:
            part.append(b"".join(found))
    if damaged:
        part.remove()
        raise _damaged(damaged)
    with replacing(recipe_path) as described:  # first, so that an array is never without
        described.write(json.dumps({"recipe": asdict(recipe), "sums": part.sums}).encode())
    part.finish()
    return recipe


def _make_recipe(
    train: Sequence[Path], num_files: int, size: int | None, pool: ThreadPoolExecutor, told: Told
) -> Recipe:
    """The recipe of training images, from their headers and the pixels of deep ones."""
    headers = list(zip(train, _attempts(read_header, train, pool), strict=True))
    good = [header for _, header in headers if isinstance(header, Header)]
    if not good:
        raise _damaged([("train", path, error) for path, error in headers if isinstance(error, Exception)])
    deep = [path for path, header in headers if isinstance(header, Header) and header.is_deep]
    told.total = len(deep) + num_files
    extremes = []
    for each in _attempts(read_extremes, deep, pool):
        told.add(1)
        if not isinstance(each, Exception):
            extremes.append(each)
    return make_recipe(good, extremes, size)


@dataclass
class Told:
    """How far it is, for whoever listens."""

    progress: Progress | None
    done: int = 0
    total: int = 0

    def add(self, num: int) -> None:
        """So many more are done."""
        self.done += num
        if self.progress and num:
            self.progress(self.done, self.total)


def _shape(files: Sequence[Any], recipe: Recipe) -> tuple[int, int, int, int]:
    return len(files), recipe.channels, recipe.size, recipe.size


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


def _whole(array_path: Path, recipe_path: Path, num_images: int, pool: ThreadPoolExecutor) -> Recipe | None:
    """The recipe of images in the cache; None where they are not there, or not as they were written."""
    try:
        stored = json.loads(recipe_path.read_bytes())
        sums = stored["sums"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    recipe = _recipe_of(stored)
    if recipe is None or not isinstance(sums, list):
        return None
    return recipe if are_whole(array_path, _shape(range(num_images), recipe), sums, pool) else None


def _recipe_of(stored: dict[str, Any] | None) -> Recipe | None:
    """What was written with `asdict`; None if it is something else."""
    try:
        given = dict((stored or {})["recipe"])
        smallest, largest = (tuple(given.pop(name)) for name in ("smallest", "largest"))
        recipe = Recipe(smallest=smallest, largest=largest, **given)
    except (KeyError, TypeError, ValueError):
        return None
    fits = all(isinstance(number, int) and number > 0 for number in (recipe.size, recipe.channels))
    return recipe if fits else None
