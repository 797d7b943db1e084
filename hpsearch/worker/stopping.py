"""Signals: once means drain (end the epoch, keep checkpoints, give trials back), the same one twice means stop now."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

DRAIN_SECONDS = 5.0  # an epoch expected to take longer is not waited for


class Stopped(KeyboardInterrupt):
    """A signal, or `hpsearch stop`, ended the work; what is finished is kept."""

    def __init__(self, signum: int | None = None) -> None:
        super().__init__(signum)
        self.signum = signum

    @property
    def exit_code(self) -> int:
        """128 + signal, as shells have it; 0 where the user asked for it with `hpsearch stop`."""
        return 0 if self.signum is None else 128 + self.signum


class TimeIsUp(Stopped):
    """The time that was given for the work is over."""


class Stop:
    """Whether the work should end, asked at each epoch's end.

    Attributes:
        epoch_seconds: how long an epoch takes at present; the worker keeps it up to date.
        deadline: on `time.monotonic`'s clock; None without one.
        since: on the database's clock, when the command began: what `hpsearch stop` asked for before is no matter of
            its. None: when the worker began, which may be many seconds later.
    """

    def __init__(self) -> None:
        self._requested: Stopped | None = None
        self.deadline: float | None = None
        self.since: float | None = None
        self.epoch_seconds = 0.0
        self._epoch_begun: float | None = None

    @contextmanager
    def epoch(self) -> Iterator[None]:
        """Within it an epoch is trained; then it is known what one takes."""
        self._epoch_begun = begun = time.monotonic()
        try:
            yield
            self.epoch_seconds = time.monotonic() - begun
        finally:
            self._epoch_begun = None

    @property
    def takes_long(self) -> bool:
        """Whether the epoch is not waited for: by what one takes, of the first one by what it has taken so far."""
        so_far = 0.0 if self._epoch_begun is None else time.monotonic() - self._epoch_begun
        return max(self.epoch_seconds, so_far) > DRAIN_SECONDS

    @property
    def requested(self) -> Stopped | None:
        """What asked for the end; None if nothing did. An epoch that would not end in time is not begun."""
        if self._requested is not None or self.deadline is None:
            return self._requested
        return TimeIsUp() if time.monotonic() + self.epoch_seconds >= self.deadline else None

    def request(self, signum: int | None = None) -> None:
        """Ask the work to end at the next epoch's end."""
        self._requested = Stopped(signum)

    def raise_if_requested(self) -> None:
        """Raise `Stopped` where the work should end."""
        if (requested := self.requested) is not None:
            raise requested

    def _on_signal(self, signum: int, _frame: FrameType | None) -> None:
        # A terminal's Ctrl-C reaches workers as SIGINT, and then their supervisor ends them with SIGTERM: that is once.
        first = self._requested
        if first is None or first.signum is None:
            self.request(signum)
        again = first is not None and first.signum in (signum, None)
        if again or (first is None and self.takes_long):
            self.raise_if_requested()

    @contextmanager
    def on_signals(self) -> Iterator[Stop]:
        """Within it, SIGINT and SIGTERM ask for a stop; the handlers before are put back afterwards."""
        signals = (signal.SIGINT, signal.SIGTERM)
        before = {signum: signal.signal(signum, self._on_signal) for signum in signals}
        try:
            yield self
        finally:
            for signum, handler in before.items():
                signal.signal(signum, handler)
