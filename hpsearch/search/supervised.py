"""What a worker process and its supervisor have to do with each other, seen from the worker."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

from hpsearch.search.progress import Listener
from hpsearch.search.stopping import Stop


class NotesToSupervisor(Listener):
    """Passes notes on, one line each, through the pipe that is this process's standard output."""

    def note(self, text: str) -> None:
        """See Listener."""
        try:
            print(" ".join(text.split()), flush=True)
        except OSError:  # the supervisor is gone; `on_parent_death` sees to that
            sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - for the rest of this process


def on_parent_death(stop: Stop) -> Callable[[], None]:
    """To be called now and then in a supervised worker: asks for a stop when the supervisor is gone."""
    parent = os.getppid()

    def look() -> None:
        if os.getppid() != parent:
            stop.request(signal.SIGTERM)

    return look
