"""How long a search still takes, from what is done of it: pure arithmetic, told smoothly."""

from __future__ import annotations

from dataclasses import dataclass

# How much of the work has to be done before the estimate made beforehand counts half: the less of the first pack, since
# after that, an estimate that was off by two must not put what is left off by more than 30% (here 17%).
PRIOR = 0.05
PRIOR_OF_PACK = 0.2


@dataclass
class TimeLeft:
    """Follows work that is done in jumps, as whole epochs of packs.

    The speed is that of all that was done since the start, not of the last jump, and at first that of the estimate: so
    what is left falls with the clock, and is put right a little at each jump.

    Args:
        begun: when, in seconds of any clock.
        done: share of the work that was done before.
        estimate: seconds that what is left was thought to take; None if nobody knows.
        pack: share of the work that is trained as the first pack.
    """

    begun: float
    done: float = 0.0
    estimate: float | None = None
    pack: float = 1.0

    def __post_init__(self) -> None:
        self._first = self.done
        self._skipped = 0.0
        self._end = None if self.estimate is None else self.begun + self.estimate

    def advance(self, done: float, now: float, skipped: float = 0.0) -> None:
        """So much is done now; `skipped` of what came about needed no work, as epochs of a trial that exploded."""
        if done <= self.done:
            return
        self.done = done
        self._skipped += skipped
        worked, took = max(0.0, done - self._first - self._skipped), now - self.begun
        if self.estimate is not None and self._first < 1:
            weight = min(PRIOR, PRIOR_OF_PACK * self.pack) * (1 - self._first)
            took += weight * self.estimate / (1 - self._first)
            worked += weight
        if worked > 0:
            self._end = now + took / worked * (1 - done)

    def seconds(self, now: float) -> float | None:
        """What is left; None where it is not known yet."""
        return None if self._end is None else max(0.0, self._end - now)
