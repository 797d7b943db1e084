"""Ways to do one thing, timed in turns: what cannot do it says why, and stops nobody else."""

from __future__ import annotations

import gc
import logging
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from hpsearch.logs import LOGGER_NAME
from hpsearch.training.device_memory import free_memory

MAX_WORDS = 240  # characters of a reason: errors of CUDA come with a page of advice

Run = Callable[[], float]
"""Does the thing once; seconds of what is compared, with the device synchronized at both ends."""


@dataclass(frozen=True)
class Way:
    """One of those that are compared."""

    name: str
    make: Callable[[], Run]
    precision: str = "float32"
    width: int = 1
    """Trials that are trained by one run."""
    is_peer: bool = False
    """The one that others are compared with, in the same precision."""


@dataclass
class Found:
    """What was seen of one way."""

    way: Way
    run: Run | None = None
    start: float | None = None
    """Seconds until the first run had ended, with what is compiled or recorded in it; it is not counted."""
    seconds: list[float] = field(default_factory=list)
    evaluation: float | None = None
    """Seconds in which all its trials are measured on one image, where the run knows them."""
    refused: str | None = None
    notes: list[str] = field(default_factory=list)

    def refuse(self, error: BaseException) -> None:
        """It fails from now on, and what it has is given back; what it did before is told, not counted."""
        self.refused, self.run, self.seconds = in_words(error), None, []
        free_all()

    def as_dict(self) -> dict[str, Any]:
        about = {"way": self.way.name, "precision": self.way.precision, "width": self.way.width}
        about |= {"start_seconds": self.start, "repetitions": len(self.seconds)}
        if self.seconds:
            about |= {
                "median": statistics.median(self.seconds),
                "fastest": min(self.seconds),
                "slowest": max(self.seconds),
            }
        return about | {"refused": self.refused, "notes": self.notes}


def in_turns(
    ways: Sequence[Way], rounds: int, clock: Callable[[], float], is_over: Callable[[], bool] = lambda: False
) -> list[Found]:
    """Each is made and run once, then all of them round by round; at least one round.

    Args:
        ways: the first of them that is a peer is what the others are compared with.
        rounds: most of them.
        clock: seconds, once the device has caught up.
        is_over: whether there is no time for another round.
    """
    all_found = [Found(way) for way in ways]
    for found in all_found:
        begun = clock()
        with _told_to(found):
            found.run = found.way.make()
            found.run()
            found.start = clock() - begun
    for _ in range(rounds):
        for found in all_found:
            if found.run is not None:
                with _told_to(found):
                    found.seconds.append(found.run())
        if is_over():
            break
    for found in all_found:  # the next row needs the memory
        found.evaluation = getattr(found.run, "evaluation", None)
        found.run = None
    free_all()
    return all_found


def as_rows(row: str, all_found: Sequence[Found]) -> list[dict[str, Any]]:
    """One for each way, with how many times as fast as the peer of its precision it is, trial by trial."""
    peers = {f.way.precision: f for f in reversed(all_found) if f.way.is_peer and f.seconds}
    rows = []
    for found in all_found:
        about = {"row": row, **found.as_dict()}
        peer = peers.get(found.way.precision)
        if found.seconds and peer is not None:
            per_trial = [statistics.median(each.seconds) / each.way.width for each in (peer, found)]
            about["times_as_fast"] = per_trial[0] / per_trial[1]
        rows.append(about)
    return rows


def in_words(error: BaseException) -> str:
    """In one line that fits a table."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:MAX_WORDS]


def free_all() -> None:
    """What nobody needs any more; cycles of objects hold tensors."""
    gc.collect()
    free_memory()


@contextmanager
def noted(notes: list[str]) -> Iterator[None]:
    """What hpsearch warns of meanwhile, as of an engine that goes on as another one, is added to them."""
    handler = _Notes(notes)
    logger = logging.getLogger(LOGGER_NAME)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


@contextmanager
def _told_to(found: Found) -> Iterator[None]:
    """Failures and warnings are noted there."""
    try:
        with noted(found.notes):
            yield
    except (Exception, SystemExit) as error:  # a command that fails ends with its log as a SystemExit
        found.refuse(error)


class _Notes(logging.Handler):
    def __init__(self, notes: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._notes = notes

    def emit(self, record: logging.LogRecord) -> None:
        self._notes.append(" ".join(record.getMessage().split())[:MAX_WORDS])
