"""Trials for a worker of a stage with rungs: promoted ones and new ones, until nothing is left, and its end."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from typing_extensions import override

from hpsearch.storage import Lease
from hpsearch.worker.held import HeldTrial
from hpsearch.worker.rungs import Rungs
from hpsearch.worker.trial_source import TrialSource

LOOK_SECONDS = 0.2  # between two looks whether others have left something
BRIEF_SECONDS = 0.02  # until another one who chooses is done


class RungSource(TrialSource):
    """As `TrialSource`, by what is decided at rungs.

    Args: as of `TrialSource`; and
        rungs: what is decided.
        closed: called with the numbers of the trials that waited when the stage was closed, which have ended with it.
    """

    def __init__(self, *args: Any, rungs: Rungs, closed: Callable[[Sequence[int]], None]) -> None:
        super().__init__(*args)
        self._rungs, self._closed = rungs, closed
        self._is_over = False

    @override
    def take_trials(self, held: dict[int, HeldTrial], width: int) -> None:
        super().take_trials(held, width)
        if held:
            return
        closing = self._rungs.close()
        self._hold(held, closing.last)
        for lease in closing.last:
            held[lease.number].ends_here = True
        if closing.is_over and not self._is_over:
            self._is_over = True
            self._closed(closing.ended)

    @override
    def _lease(self, width: int) -> Sequence[Lease]:
        return self._rungs.take(width)

    @override
    def wait_for_others(self) -> bool:
        if self._is_over:
            return False
        seconds = self._queue.standing().seconds_to_expiry
        time.sleep(BRIEF_SECONDS if seconds is None else min(max(seconds, 0.05), LOOK_SECONDS))
        self._queue.release_dead()
        return True
