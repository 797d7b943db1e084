"""When trials of the user's code that fail one after the other stop the stage."""

from __future__ import annotations

from pathlib import Path

from hpsearch.errors import HpsearchError

MAX_FIRST = 3  # failures before any trial has a value: nothing will ever work
MAX_RUNNING = 10  # equal ones, one after the other, of code that has worked: it does not any more


class ProgramFailures:
    """Code that fails at times is left to do so; code that always does stops the stage.

    Args:
        has_worked: whether some trial of the stage has a value.
    """

    def __init__(self, has_worked: bool) -> None:
        self._has_worked = has_worked
        self._reason = ""
        self._num = 0

    def clear(self) -> None:
        """A trial has a value."""
        self._has_worked, self._num = True, 0

    def add(self, reason: str, output: Path) -> None:
        """A trial failed.

        Raises:
            HpsearchError: too many of them did, for the same reason.
        """
        self._num = self._num + 1 if reason == self._reason else 1
        self._reason = reason
        if self._num >= (MAX_RUNNING if self._has_worked else MAX_FIRST):
            raise HpsearchError(
                f"{self._num} trials failed with the same error, one after the other; the stage stops: {reason}.\n"
                f"Mend it, and the same command goes on with the other trials. What the last one printed: {output}"
            )
