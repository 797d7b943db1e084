"""How long the user's code takes between two words, and how long it may say nothing."""

from __future__ import annotations

import time

from hpsearch.worker.stopping import DRAIN_SECONDS, Stop


class ProgramPace:
    """Of one trial after another.

    Args:
        stop: is told how long it is until the next word, as far as is known: `Stop.epoch_seconds`.
        timeout: seconds without a word after which a trial fails; None: any number.
    """

    def __init__(self, stop: Stop, timeout: float | None) -> None:
        self._stop, self._timeout = stop, timeout
        self._step_seconds = 0.0  # between two reports, when there last was one
        self.begin()

    def begin(self) -> None:
        """The code is called."""
        self._began = self._heard = time.monotonic()
        self._asked_at: float | None = None

    def hear(self) -> None:
        """It has asked for something."""
        self._heard = time.monotonic()

    def hear_report(self) -> None:
        """It has come to the end of a step."""
        self._step_seconds, self._heard = time.monotonic() - self._heard, time.monotonic()

    def hear_end(self, *, has_reported: bool) -> None:
        """It has returned."""
        if not has_reported:
            self._step_seconds = time.monotonic() - self._began
        self._stop.epoch_seconds = self._step_seconds  # of the next one, which begins only if it fits

    def wait(self) -> None:
        """It goes on, and is waited for."""
        self._stop.epoch_seconds = max(0.0, self._step_seconds - (time.monotonic() - self._heard))
        if self._stop.requested is not None:
            self._asked_at = self._asked_at or time.monotonic()

    @property
    def is_drained(self) -> bool:
        """Whether a stop was asked for so long ago that the code is not waited for any longer."""
        asked_at = self._asked_at
        return self._stop.requested is not None and asked_at is not None and time.monotonic() - asked_at > DRAIN_SECONDS

    @property
    def is_silent(self) -> bool:
        """Whether it has said nothing for longer than it may."""
        return self._timeout is not None and time.monotonic() - self._heard > self._timeout
