"""What a trial prints, kept in a file that cannot fill the disk: its beginning and its end."""

from __future__ import annotations

import contextlib
import os
import re
import select
import threading
import time
from pathlib import Path

HEAD = 2**19  # bytes from the beginning that stay
TAIL = 2**19  # bytes from the end that stay, and up to as many more until they are next counted
LEFT_OUT = re.compile(rb"\n\[hpsearch: (\d+) bytes are left out here\]\n")
DRAIN_SECONDS = 0.5  # for what was printed before a trial ended; what goes on printing belongs to nobody
LOOK_SECONDS = 0.2


class CappedFile:
    """Takes bytes for ever; has the first HEAD of them, the last TAIL or more, and says how many are missing between.

    All that is kept is on the disk at any time. What the file holds already, of an earlier attempt, counts.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("a+b", buffering=0)
        self._size = os.fstat(self._file.fileno()).st_size

    def write(self, data: bytes) -> None:
        """Append; a disk that is full ends no trial."""
        with contextlib.suppress(OSError):
            self._file.write(data)
            self._size += len(data)
            if self._size > HEAD + 2 * TAIL:
                self._shorten()

    def close(self) -> None:
        """Let the file go, of HEAD and TAIL at most."""
        with contextlib.suppress(OSError):
            if self._size > HEAD + TAIL:
                self._shorten()
        self._file.close()

    def _shorten(self) -> None:
        self._file.seek(0)
        data = self._file.read()
        head, rest, missing = data[:HEAD], data[HEAD:], 0
        if (before := LEFT_OUT.match(rest)) is not None:
            rest, missing = rest[before.end() :], int(before[1])
        missing += len(rest) - TAIL
        if missing <= 0 or len(rest) <= TAIL:
            return
        whole = head + b"\n[hpsearch: %d bytes are left out here]\n" % missing + rest[-TAIL:]
        self._file.truncate(0)
        self._file.write(whole)
        self._size = len(whole)


class OutputReader:
    """Reads what a process prints, in a thread, into the file of the trial at hand; without one, into nothing.

    Args:
        descriptor: of a pipe, which is closed with the reader.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._lock = descriptor, threading.Lock()
        self._file: CappedFile | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def begin(self, path: str) -> None:
        """From here on into this file."""
        self.end()
        if path:
            with self._lock, contextlib.suppress(OSError):
                self._file = CappedFile(Path(path))

    def end(self) -> None:
        """Take what has been printed so far, and let the file go."""
        with self._lock:
            until = time.monotonic() + DRAIN_SECONDS
            while time.monotonic() < until and self._take():
                pass
            if self._file is not None:
                self._file.close()
                self._file = None

    def close(self) -> None:
        """Read no more."""
        self.end()
        self._over.set()
        self._thread.join()
        os.close(self._descriptor)

    def _follow(self) -> None:
        while not self._over.is_set():
            if select.select([self._descriptor], [], [], LOOK_SECONDS)[0]:
                with self._lock:
                    is_open = self._take()
                if not is_open:
                    self._over.wait(LOOK_SECONDS)  # nobody can print any more

    def _take(self) -> bool:
        """Whether there was anything."""
        if not select.select([self._descriptor], [], [], 0)[0]:
            return False
        data = os.read(self._descriptor, 2**16)
        if self._file is not None and data:
            self._file.write(data)
        return bool(data)
