"""Waiting for a database that is away or locked, and saying so."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from hpsearch.storage import StorageAwayError
from hpsearch.worker.stopping import Stop

SLOW_SECONDS = 2.0  # an answer that takes longer is spoken of
LONGEST_PAUSE = 0.5  # seconds between two tries of a database that is away: its return is not waited for much longer
TOLD_SECONDS = 5.0  # between two words of it

Answer = TypeVar("Answer")


def insist(call: Callable[[], Answer], note: Callable[[str], None], stop: Stop) -> Answer:
    """What the database answers, whenever it does; raises `Stopped` if a stop is asked for meanwhile."""
    pause, told = 0.1, -math.inf
    while True:
        try:
            with said_if_slow(note, "waiting for the database"):
                return call()
        except StorageAwayError as error:
            if time.monotonic() - told > TOLD_SECONDS:
                note(f"database away, waiting: {' '.join(str(error).split())}")
                told = time.monotonic()
            stop.raise_if_requested()
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)


@contextmanager
def said_if_slow(note: Callable[[str], None], text: str) -> Iterator[None]:
    """Tell `note`, from another thread, if the block takes longer than SLOW_SECONDS: SQLite waits without a word."""
    timer = threading.Timer(SLOW_SECONDS, note, (text,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
