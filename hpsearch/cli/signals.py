"""Ends that were asked for: 130 for Ctrl-C, 143 for SIGTERM, 0 for `hpsearch stop`, with the command to go on with."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from hpsearch.errors import HpsearchError


class StoppedError(HpsearchError):
    """A signal, or `hpsearch stop`, ended the command; the study can be finished later."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        if exit_code == 0:
            self.label = "stopped"  # as asked for: no error


class Terminated(KeyboardInterrupt):
    """SIGTERM: the same way out as Ctrl-C, with its own exit code."""

    exit_code = 128 + signal.SIGTERM


def raise_terminated(_signal: int, _frame: object) -> None:
    """A handler for SIGTERM, for commands that can be left anywhere."""
    raise Terminated


def stopped(stop: KeyboardInterrupt) -> StoppedError:
    """What to tell after an interruption, and how the command exits."""
    code = getattr(stop, "exit_code", 130)
    word = {143: "terminated", 0: "on request"}.get(code, "interrupted")
    command = shlex.join(["hpsearch", *sys.argv[1:]])
    return StoppedError(f"{word}; what is finished is kept.\nGo on with: {command}", code)


@contextmanager
def ending_in_order(said: str = "stopped; nothing was written.") -> Iterator[None]:
    """Ctrl-C and SIGTERM end the command with their exit codes."""
    signal.signal(signal.SIGTERM, raise_terminated)
    try:
        yield
    except KeyboardInterrupt as stop:
        raise StoppedError(said, stopped(stop).exit_code) from None
