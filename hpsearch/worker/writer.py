"""Write behind: one thread through which all results of a worker reach the database.

Training never waits for it. While the database is away, results wait in memory and on disk and are written when it is
back; each write is fenced by its lease, so nothing is written twice, and what came too late is said to be lost.
"""

from __future__ import annotations

import queue as thread_queue
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpsearch.errors import StorageError
from hpsearch.results import EpochResult
from hpsearch.storage import Lease, Outcome, Queue, StorageAwayError
from hpsearch.wording import count_text
from hpsearch.worker.database_waits import LONGEST_PAUSE, said_if_slow
from hpsearch.worker.spool import Recorded, Spool

CLOSE_SECONDS = 4.0  # for what is being written when the writer is closed
PATIENCE = 600.0  # seconds that `close` waits for one
MANY = 20  # more trials are not told one by one


@dataclass(frozen=True, slots=True)
class Written:
    """A trial's end that is in the database now, and how many of the stage have ended."""

    outcome: Outcome
    num_finished: int


@dataclass(frozen=True, slots=True)
class Lost:
    """A lease that went to another worker: what was written under it does not count."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class _Batch:
    recorded: tuple[tuple[Lease, EpochResult], ...] = ()
    finished: tuple[Outcome, ...] = ()
    task: Callable[[], None] | None = None

    def __bool__(self) -> bool:
        return bool(self.recorded or self.finished or self.task)


class Writer:
    """Takes results at once and writes them in order; renews the leases it is told to hold meanwhile.

    `tick` is called in its thread about four times in the life of a lease, while the database answers.
    """

    def __init__(
        self, queue: Queue, spool_folder: Path, note: Callable[[str], None], tick: Callable[[], None] = lambda: None
    ) -> None:
        self._queue, self._tick = queue, tick
        self._spool = Spool(spool_folder, queue.study.name, queue.worker)
        self._note = note
        self._inbox: thread_queue.SimpleQueue[_Batch | None] = thread_queue.SimpleQueue()
        self._outbox: thread_queue.SimpleQueue[Written | Lost] = thread_queue.SimpleQueue()
        self._held: set[Lease] = set()
        self._unspooled: list[_Batch] = []  # in memory alone
        self._lock = threading.Lock()
        self._num_waiting = 0
        self._idle = threading.Condition(self._lock)
        self._away = False
        self._is_full = False  # the spool, and that has been said
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="hpsearch-writer", daemon=True)
        self._thread.start()

    def hold(self, leases: Sequence[Lease]) -> None:
        """Renew these leases until their trials are finished, or let go."""
        with self._lock:
            self._held.update(leases)

    def let_go(self, leases: Sequence[Lease]) -> None:
        """Renew these no more."""
        with self._lock:
            self._held.difference_update(leases)

    def record(self, results: Recorded) -> None:
        """Write epochs of trials, later."""
        if results:
            self._put(_Batch(recorded=tuple(results)))

    def finish(self, outcomes: Sequence[Outcome]) -> None:
        """Write the ends of trials, later."""
        if outcomes:
            self._put(_Batch(finished=tuple(outcomes)))

    def later(self, task: Callable[[], None]) -> None:
        """Run something else that writes to the database, in its turn; again if the database is away meanwhile."""
        self._put(_Batch(task=task))

    def news(self) -> list[Written | Lost]:
        """What has been written or lost since the last call.

        Raises:
            StorageError: a write failed for a reason that trying again does not mend.
        """
        if self._error is not None:
            raise self._error
        found = []
        while True:
            try:
                found.append(self._outbox.get_nowait())
            except thread_queue.Empty:
                return found

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until everything is written; whether it is. What is not, is in the spool, if there is room for it."""
        if self.wait(timeout):
            return True
        with self._lock:
            self._spool_all()
        return False

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until everything is written; whether it is."""
        with self._idle:
            return self._idle.wait_for(lambda: self._num_waiting == 0 or self._error is not None, timeout)

    def close(self, patience: float = PATIENCE) -> None:
        """Write what is left and end the thread; after `patience` seconds without a database, leave it in the spool.

        Raises:
            StorageError: something is left, which the next worker on this host writes, or is lost, without room for it.
        """
        try:
            self.flush(patience)
            self._inbox.put(None)
            self._thread.join(CLOSE_SECONDS)
        finally:  # another signal ends the waiting, not the care for what is left
            if not self.flush(0):
                raise StorageError(self._left())

    def _put(self, batch: _Batch) -> None:
        with self._lock:
            self._num_waiting += 1
            self._unspooled.append(batch)
            if self._away:
                self._spool_all()
            self._inbox.put(batch)

    def _spool_all(self) -> None:
        """Put on disk what is in memory alone; what finds no room stays there, and is tried again."""
        while self._unspooled and self._spool.add(self._unspooled[0].recorded, self._unspooled[0].finished):
            del self._unspooled[0]
        is_full = bool(self._unspooled)
        if is_full and not self._is_full:
            self._note(f"results wait in memory alone: {self._spool.problem}")
        elif self._is_full and not is_full:
            self._note(f"results wait on disk again, in {self._spool.path}")
        self._is_full = is_full

    def _left(self) -> str:
        """What has become of results that are not in the database."""
        away = f"the database {self._queue.db.url} is still away"
        with self._lock:
            lost = list(self._unspooled)
            problem, is_there = self._spool.problem, self._spool.is_there
        if not lost:
            return f"{away}; results wait in {self._spool.path}.\nThe same command writes them when it is back."
        ended = {outcome.lease.number for batch in lost for outcome in batch.finished}
        epochs = [lease.number for batch in lost for lease, _ in batch.recorded if lease.number not in ended]
        parts = [f"the ends of {_trials(ended)}"] if ended else []
        parts += [f"{count_text(len(epochs), 'epoch')} of {_trials(set(epochs))}"] if epochs else []
        rest = f" Earlier results wait in {self._spool.path}." if is_there else ""
        return f"{away}, and {problem}.\nLost: {', and '.join(parts)}. The same command trains them again.{rest}"

    def _run(self) -> None:
        try:
            renewed = time.monotonic()
            while True:
                try:
                    batch = self._inbox.get(timeout=self._queue.lease_seconds / 4)
                except thread_queue.Empty:
                    batch = _Batch()
                if batch is None:
                    return
                if batch:
                    self._insist(batch)
                    with self._idle:
                        self._num_waiting -= 1
                        self._idle.notify_all()
                if time.monotonic() - renewed > self._queue.lease_seconds / 4:
                    self._renew()
                    renewed = time.monotonic()
        except BaseException as error:  # shown by `news`, in the thread that trains
            with self._idle:
                self._error = error
                self._idle.notify_all()

    def _insist(self, batch: _Batch) -> None:
        """Write a batch, again and again while the database is away."""
        pause = 0.05
        while True:
            try:
                with said_if_slow(self._note, "waiting for the database, training goes on"):
                    self._write(batch)
            except StorageAwayError as error:
                if not self._away:
                    self._note(f"database away, training goes on: {' '.join(str(error).split())}")
                    with self._lock:
                        self._away = True
                        self._spool_all()
                time.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
                continue
            with self._lock:
                if self._unspooled and self._unspooled[0] is batch:
                    del self._unspooled[0]
                is_all = self._inbox.empty()
                is_back = is_all and (self._away or self._is_full)
                if is_all:
                    self._away = self._is_full = False
                    self._spool.clear()
            if is_back:
                self._note("database back, all results written")
            return

    def _write(self, batch: _Batch) -> None:
        if batch.task is not None:
            batch.task()
        lost = self._queue.record(batch.recorded) if batch.recorded else []
        for lease in lost:
            self._outbox.put(Lost(lease))
        if batch.finished:
            late = set(self._queue.finish(batch.finished))
            num_finished = self._queue.standing().num_finished
            written = [outcome for outcome in batch.finished if outcome.lease not in late]
            for position, outcome in enumerate(written):
                self._outbox.put(Written(outcome, num_finished - len(written) + position + 1))
            for lease in late:
                self._outbox.put(Lost(lease))
        self.let_go([*lost, *(outcome.lease for outcome in batch.finished)])

    def _renew(self) -> None:
        with self._lock:
            held = list(self._held)
        try:
            self._tick()
            kept = set(self._queue.renew(held)) if held else set()
        except StorageAwayError:
            return  # a lease that ran out is still ours until somebody takes it
        for lease in held:
            if lease not in kept:
                self.let_go([lease])
                self._outbox.put(Lost(lease))


def _trials(numbers: Collection[int]) -> str:
    """`trial 3`; `trials 3, 4, 9`; `214 trials`."""
    if len(numbers) > MANY:
        return count_text(len(numbers), "trial")
    return f"trial{'s' if len(numbers) > 1 else ''} {', '.join(map(str, sorted(numbers)))}"
