"""Image files as one array of bytes, decoded once and kept on disk by their content."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from hpsearch.datasets.atomic import replacing
from hpsearch.datasets.images import Array, Progress
from hpsearch.errors import DataError
from hpsearch.runtime import num_cores

CACHE_VERSION = 1  # goes up when decoding changes
CHUNK = 512  # images decoded ahead of writing


def decoded(
    files: Sequence[Path], root: Path, size: int, channels: int | None, cache_dir: Path, progress: Progress | None
) -> Array:
    """The images as N,C,size,size uint8, memory-mapped from the cache; 1 or 3 channels, None lets the files decide.

    Raises:
        DataError: a file is not an image that can be read, or the cache cannot be written.
    """
    with ThreadPoolExecutor(num_cores()) as pool:
        path = cache_dir / f"folder-{_content_key(files, root, size, channels, pool)}.npy"
        if not path.exists():
            channels = channels or _num_channels(files, pool)
            try:
                _decode_all(files, size, channels, path, pool, progress)
            except OSError as error:
                raise DataError(f"the cache {path} cannot be written: {error}") from error
    try:
        array: Array = np.load(path, mmap_mode="r", allow_pickle=False)
        return array
    except (OSError, ValueError) as error:
        raise DataError(f"the cache {path} cannot be read: {error}\nDelete it; it is written anew.") from error


def _content_key(files: Sequence[Path], root: Path, size: int, channels: int | None, pool: ThreadPoolExecutor) -> str:
    # Not by times of change: copies keep them and checkouts renew them. Reading is far cheaper than decoding.
    key = hashlib.blake2b(f"{CACHE_VERSION} {size} {channels}".encode(), digest_size=16)
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
    files: Sequence[Path], size: int, channels: int, path: Path, pool: ThreadPoolExecutor, progress: Progress | None
) -> None:
    # Written in order rather than through a memory map: on a full disk that would be a signal, not an error.
    header = {"descr": "|u1", "fortran_order": False, "shape": (len(files), channels, size, size)}
    with replacing(path) as file:
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, len(files), CHUNK):
            for done, image in enumerate(
                pool.map(partial(decode, size=size, channels=channels), files[start : start + CHUNK]), start + 1
            ):
                file.write(image.tobytes())
                if progress:
                    progress(done, len(files))


def _num_channels(files: Sequence[Path], pool: ThreadPoolExecutor) -> int:
    return 1 if all(mode in ("L", "1") for mode in pool.map(_mode, files)) else 3


def _mode(path: Path) -> str:
    from PIL import Image

    try:
        with Image.open(path) as image:
            return image.mode
    except Exception as error:
        raise _not_an_image(path, error) from error


def decode(path: Path, size: int, channels: int) -> Array:
    """One image as C,size,size uint8: upright, squeezed into a square, bilinear with antialiasing.

    Raises:
        DataError: it cannot be decoded whole.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            if image.mode.startswith(("I", "F")):
                raise ValueError(f"pixels of mode {image.mode}, not of 8 bits")
            upright = ImageOps.exif_transpose(image)
            if upright.mode == "P" and "transparency" in upright.info:
                upright = upright.convert("RGBA")
            plain = upright.convert("L" if channels == 1 else "RGB")
            pixels = np.asarray(plain.resize((size, size), Image.Resampling.BILINEAR))
    except Exception as error:  # Pillow's decoders raise all kinds of errors for damaged files
        raise _not_an_image(path, error) from error
    return pixels.reshape(size, size, channels).transpose(2, 0, 1)


def _not_an_image(path: Path, error: Exception) -> DataError:
    return DataError(f"{path} cannot be decoded: {error}.\nAllowed: whole images of 8 bits; repair or remove the file.")
