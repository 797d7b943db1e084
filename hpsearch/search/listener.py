"""What a search tells whoever watches, from its plan to its last trial."""

from __future__ import annotations

from collections.abc import Sequence

from hpsearch.search.checks.findings import CheckReport
from hpsearch.stages.listener import Listener
from hpsearch.stages.plan import StagePlan
from hpsearch.tuning.settling import Settled


class SearchListener(Listener):
    """Hears of what comes before the first trial, too. Does nothing; the terminal's draws and prints."""

    def planned(self, plan: StagePlan) -> None:
        """A stage is about to be made, or found again."""

    def reading_images(self, done: int, total: int) -> None:
        """Files are being decoded, by several threads."""

    def images_read(self, notes: Sequence[str]) -> None:
        """The images are here; plain sentences on how they were read."""

    def checking(self, what: str) -> None:
        """A check is being made."""

    def checked(self, report: CheckReport) -> None:
        """The checks before a coarse stage are made; if one failed, a RefusedError follows."""

    def settled(self, settled: Settled) -> None:
        """It is decided how the stage is trained, and how long that takes."""
