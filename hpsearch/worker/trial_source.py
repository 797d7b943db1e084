"""Where a worker's trials come from: from the queue, or got ready ahead; hyperparameters, where none are drawn yet."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hpsearch.stages.plan import StagePlan
from hpsearch.stages.proposals import BEGUN, Mirror, needs_mirror
from hpsearch.storage import Queue, read_trials
from hpsearch.training import Pack
from hpsearch.training.checkpoints import Checkpoints
from hpsearch.worker.ahead import Ahead, hold
from hpsearch.worker.database_waits import said_if_slow
from hpsearch.worker.pack_run import HeldTrial
from hpsearch.worker.writer import Writer


class Supply:
    """Trials for one worker.

    Args:
        queue: of the stage.
        writer: renews leases.
        checkpoints: of the stage.
        ahead: gets trials ready.
        plan: of the stage.
        mirror: what the sampler sees; None if nothing is proposed.
        insist: asks the database until it answers.
        note: told what is waited for.
    """

    def __init__(
        self,
        queue: Queue,
        writer: Writer,
        checkpoints: Checkpoints,
        ahead: Ahead,
        plan: StagePlan,
        mirror: Mirror | None,
        insist: Callable[[Callable[[], Any]], Any],
        note: Callable[[str], None],
    ) -> None:
        self._queue, self._writer, self._checkpoints, self._ahead = queue, writer, checkpoints, ahead
        self._plan, self._mirror, self._insist, self._note = plan, mirror, insist, note
        # Where sampler or pruner learn from packs, these are as wide as was said.
        self._even_out = None if needs_mirror(plan.settings) else plan.settings.epochs

    def take(self, held: dict[int, HeldTrial], width: int) -> Pack | None:
        """Put the next trials into `held`: those that were got ready, or as many as a pack has; none if none wait.

        Returns the pack of all of them, if it has been made already.
        """
        with said_if_slow(self._note, "waiting for the database"):
            ready = self._ahead.collect()
        held |= ready.held
        if not ready.held:
            leases = ready.leases or self._insist(lambda: self._queue.take(width, self._even_out))
            held |= {lease.number: HeldTrial(lease) for lease in leases}
            self._writer.hold(leases)
            held |= hold(leases, self._checkpoints)
        return ready.pack

    def propose(self, held: dict[int, HeldTrial]) -> None:
        """Hyperparameters for trials that have none yet, from the sampler; the mirror learns of all others."""
        if (mirror := self._mirror) is None:
            return
        first = mirror.first_open
        rows = self._insist(lambda: read_trials(self._queue.db, self._queue.study, BEGUN, first_number=first))
        mirror.learn(rows, mine=held)
        proposed = []
        for number, trial in held.items():
            if trial.lease.params:
                mirror.adopt(number, trial.lease.params)
            else:
                trial.lease = replace(trial.lease, params=mirror.propose(number))
                proposed.append((trial.lease, trial.lease.params))
        if proposed:
            self._insist(lambda: self._queue.set_params(proposed, self._plan.config.space))

    def wait_for_others(self) -> bool:
        """Whether trials are still in other workers' hands; waits until one of their leases may have run out."""
        standing = self._queue.standing()
        if standing.num_waiting:
            return True
        if not standing.num_running or standing.seconds_to_expiry is None:
            return False
        time.sleep(min(max(standing.seconds_to_expiry, 0.05), 0.2))
        self._queue.release_dead()
        return True
