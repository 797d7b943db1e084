"""Who starts workers and hears how they end: the interface of processes on this machine and of a Ray cluster."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Ended:
    """A worker is gone.

    Attributes:
        id: the number under which it was started.
        how: done: nothing was left to take; stopped: somebody asked for it; gave up: another one would, too; died:
            another one can go on.
        message: why it gave up, or what it died of.
        where: its device or host.
    """

    id: int
    how: Literal["done", "stopped", "gave up", "died"]
    message: str = ""
    where: str = ""


@dataclass(frozen=True)
class Note:
    """Something that a worker, or whoever places it, has to say."""

    text: str


class Launcher(ABC):
    """Starts the workers of one stage.

    The contract: each worker that was started is told of once, as `Ended`, whatever ends it; what it had to say before
    comes before. After `end_all` none is left running, and none hears of more.
    """

    @abstractmethod
    def start(self, place: int) -> int:
        """Start the worker of this place, 0 and up: its device, where that matters; the number to know it by."""

    @abstractmethod
    def next_event(self, seconds: float) -> Ended | Note | None:
        """What happened next, waiting so long for it.

        Raises:
            HpsearchError: no worker can be placed any more.
        """

    @abstractmethod
    def unplaced(self) -> Collection[int]:
        """Workers that have no process yet and hold nothing."""

    @abstractmethod
    def end_all(self) -> None:
        """Have all workers drain and wait for them; end those that do not follow, or have no place, at once."""
