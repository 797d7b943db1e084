"""One process at a time: a lock that ends with whoever holds it, whatever ended that."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

POLL_SECONDS = 0.1  # between two looks whether the other one is done
UNSUPPORTED = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)  # of file systems without locks


@contextmanager
def locked(path: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[bool]:
    """Within it, no other process holds the lock of that name; `waiting` is called now and then until it is free.

    The file goes away with the last who wants it, and so do the folders that were made for it, where nothing else came
    to lie there. Gives False where the system or the file system has no locks.

    Raises:
        OSError: the file cannot be made.
    """
    made: list[Path] = []
    try:
        with _locked(path, waiting, made) as alone:
            yield alone
    finally:
        with suppress(OSError):  # something is there
            for folder in made:
                folder.rmdir()


@contextmanager
def _locked(path: Path, waiting: Callable[[], None], made: list[Path]) -> Iterator[bool]:
    try:
        import fcntl
    except ImportError:  # Windows
        made += _make(path.parent)
        yield False
        return
    while True:
        made += _make(path.parent)
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except FileNotFoundError:  # whoever had made the folder removed it just then
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(fd)
            if error.errno in UNSUPPORTED:
                yield False
                return
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            waiting()
            time.sleep(POLL_SECONDS)
            continue
        if _is_there(path, fd):
            break
        os.close(fd)  # whoever held it has removed the file meanwhile
    try:
        yield True
    finally:
        path.unlink(missing_ok=True)
        os.close(fd)


def _make(folder: Path) -> list[Path]:
    """Gives what was not there, the innermost first."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _is_there(path: Path, fd: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(fd))
    except FileNotFoundError:
        return False
