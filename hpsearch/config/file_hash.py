"""What a file holds, as a hash that is taken once until the file changes."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path


def file_hash(path: Path) -> bytes:
    """SHA-256 of its bytes.

    Raises:
        OSError: it is not there, or cannot be read.
    """
    stat = path.stat()
    return _hash(path.absolute(), stat.st_mtime_ns, stat.st_size)


@lru_cache
def _hash(path: Path, _changed: int, _size: int) -> bytes:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").digest()
