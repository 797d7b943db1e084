"""Workers that die: when it is too many, and what their trials do next, in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from hpsearch.errors import HpsearchError
from hpsearch.training.checkpoints import Checkpoints
from hpsearch.worker.resumption import resumption

MAX_DEATHS = 5  # one after the other, with no epoch reported in between: workers cannot even begin
MAX_FRUITLESS = 30  # with no more epochs done than ever before: something in a trial kills whoever trains it

News = Literal["progress", "life"] | None


class Deaths:
    """Counts deaths, and forgets them when work goes on."""

    def __init__(self) -> None:
        self.in_a_row = self.fruitless = 0

    def hear(self, news: News) -> None:
        """What `StageFollower.look` said: any epoch is a sign of life, progress is more."""
        self.in_a_row = 0 if news else self.in_a_row
        self.fruitless = 0 if news == "progress" else self.fruitless

    def add(self, how: str) -> None:
        """One more.

        Raises:
            HpsearchError: there were too many.
        """
        self.in_a_row, self.fruitless = self.in_a_row + 1, self.fruitless + 1
        if self.in_a_row > MAX_DEATHS or self.fruitless > MAX_FRUITLESS:
            number = self.in_a_row if self.in_a_row > MAX_DEATHS else self.fruitless
            raise HpsearchError(
                f"{number} workers died without progress in between, the last one with {how}.\n"
                "What is finished is kept; look at the logs of the machines."
            )


def resuming(checkpoints: Checkpoints | None, numbers: Sequence[int]) -> str:
    """Where the trials of a dead worker go on.

    Without checkpoints of ours, as of the user's code, which keeps what it needs itself, that they do.
    """
    if checkpoints is None:
        noun = "is taken up again by the next worker" if len(numbers) == 1 else "are taken up again by the next workers"
        return f"trial{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))} {noun}" if numbers else ""
    return resumption({number: checkpoints.newest_epoch(number) + 1 for number in numbers})
