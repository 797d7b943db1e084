"""How many trials a worker takes, where several share what is left of a stage."""

from __future__ import annotations

import math
from dataclasses import dataclass

import sqlalchemy as sa

from hpsearch.storage.tables import hpsearch_epochs, hpsearch_leases, trials


@dataclass(frozen=True)
class Shared:
    """What a worker that asks for trials sees of a study, within its transaction."""

    connection: sa.Connection
    study_id: int
    worker: str
    now: sa.ColumnElement[float]

    def num_waiting(self) -> int:
        """Trials that nobody has."""
        waiting = sa.select(sa.func.count()).select_from(trials).where(*self._in_state("WAITING"))
        return self.connection.scalar(waiting) or 0

    def left_elsewhere(self, num_epochs: int) -> float:
        """What is left of the trials in other workers' hands, in whole trials."""
        done = sa.select(sa.func.count()).where(hpsearch_epochs.c.trial_id == trials.c.trial_id).scalar_subquery()
        query = (
            sa.select(sa.func.sum(num_epochs - done))
            .select_from(trials.join(hpsearch_leases, hpsearch_leases.c.trial_id == trials.c.trial_id))
            .where(*self._in_state("RUNNING"))
            .where(hpsearch_leases.c.worker != self.worker)  # whose own results may still be on their way
        )
        return float(self.connection.scalar(query) or 0) / num_epochs

    def num_workers(self) -> int:
        """Of those with trials in their hands, this one among them."""
        query = (
            sa.select(hpsearch_leases.c.worker)
            .join(trials, trials.c.trial_id == hpsearch_leases.c.trial_id)
            .where(*self._in_state("RUNNING"), hpsearch_leases.c.expires_at >= self.now)
        )
        return len({self.worker, *self.connection.scalars(query.distinct())})

    def _in_state(self, state: str) -> tuple[sa.ColumnElement[bool], ...]:
        return trials.c.study_id == self.study_id, trials.c.state == state


def even_share(num_waiting: int, left_elsewhere: float, num_workers: int, most: int) -> int:
    """Trials for the worker that asks: its next pack, where all are to end at about one time with packs of one size.

    Args:
        num_waiting: trials that nobody has.
        left_elsewhere: of those that others train, counted as parts: two that are half done are one.
        num_workers: that share all this, the one that asks among them; they are taken to be equally fast.
        most: trials.
    """
    even = (num_waiting + left_elsewhere) / num_workers
    num_packs = max(1, math.ceil(even / most))
    return max(1, math.ceil(even / num_packs))
