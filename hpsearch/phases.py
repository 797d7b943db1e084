"""Where the time goes from the start of a process to its first trained epoch: phases, told in one line with -v.

Without -v nothing is measured. Seconds belong to the innermost phase of their thread, so that none counts twice; those
of another thread than the one that tells pass beside, and are said to.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from hpsearch.logs import get_logger, verbosity

WORTH_NAMING = 0.005  # seconds; less shows as 0.00 or 0.01 s and is noise

log = get_logger(__name__)
_first_seen = time.monotonic()  # the start of a process whose system does not tell


class Recorder:
    """Adds up the phases of one process, and tells them once.

    Args:
        began: the start of the process, on the clock.
        clock: seconds, never going back.
    """

    def __init__(self, began: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._began, self._clock = began, clock
        self._lock = threading.Lock()
        self._seconds: dict[tuple[int, str], float] = {}  # by thread and phase, in the order in which they began
        self._open: dict[int, list[str]] = {}
        self._since: dict[int, float] = {}
        self.is_told = False

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """What the block does belongs to this phase, but for phases within it."""
        thread = threading.get_ident()
        with self._lock:
            if not self._seconds:  # the interpreter, what it imports for any command, and the command line
                self._seconds[thread, "start"] = self._clock() - self._began
            self._count(thread)
            self._open.setdefault(thread, []).append(name)
            self._seconds.setdefault((thread, name), 0.0)
        try:
            yield
        finally:
            with self._lock:
                self._count(thread)
                self._open[thread].pop()

    def _count(self, thread: int) -> None:
        """Give the time since the last change to the phase that is open in this thread."""
        now = self._clock()
        if names := self._open.get(thread):
            self._seconds[thread, names[-1]] += now - self._since[thread]
        self._since[thread] = now

    def text(self, milestone: str) -> str:
        """The phases so far as this thread sees them, and that the milestone is reached now."""
        own = threading.get_ident()
        with self._lock:
            for thread in self._open:
                self._count(thread)
            whole = self._clock() - self._began
            seconds = dict(self._seconds)
        parts = [
            f"{name} {spent:.2f} s" + ("" if thread == own else " beside")
            for (thread, name), spent in seconds.items()
            if spent >= WORTH_NAMING
        ]
        rest = whole - sum(spent for (thread, _), spent in seconds.items() if thread == own)
        if rest >= WORTH_NAMING:
            parts.append(f"other {rest:.2f} s")
        return " · ".join([*parts, f"{milestone} at {whole:.2f} s"])


_recorder: Recorder | None = None


def begin() -> None:
    """This is another process now, forked off the one that imported us: it has a start of its own."""
    global _recorder, _first_seen
    _recorder, _first_seen = None, time.monotonic()


def phase(name: str) -> AbstractContextManager[None]:
    """A block of the start of this process; costs nothing without -v, nor once the start is told."""
    if verbosity() <= 0:
        return nullcontext()
    recorder = _of_this_process()
    return nullcontext() if recorder.is_told else recorder.phase(name)


def tell(milestone: str) -> None:
    """Log the phases of this process, unless they are told already: now, this has come about."""
    if verbosity() <= 0:
        return
    recorder = _of_this_process()
    if not recorder.is_told:
        recorder.is_told = True
        log.info("phase   %s", recorder.text(milestone))


def _of_this_process() -> Recorder:
    global _recorder
    if _recorder is None:
        age = process_age()
        _recorder = Recorder(_first_seen if age is None else time.monotonic() - age)
    return _recorder


def process_age() -> float | None:
    """Seconds since this process was started, or forked, as the system counts them (Linux, to 10 ms); else None."""
    try:
        started = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])  # ticks since the boot
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - started / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return None
    return age if started else None  # 0 where /proc is but played
