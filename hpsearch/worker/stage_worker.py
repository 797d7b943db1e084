"""What all workers do: take trials from the queue until nothing is left to take, and give back what is not finished.

Hyperparameters that are not drawn yet are proposed when a trial is taken.
"""

from __future__ import annotations

import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING

from hpsearch.analysis.records import stage_record
from hpsearch.analysis.study_trials import direction_of
from hpsearch.config import RunConfig
from hpsearch.config.metric import Metric
from hpsearch.phases import phase
from hpsearch.stages.halving import Halving
from hpsearch.stages.listener import Listener, StageStarted, TrialFinished, as_finished
from hpsearch.stages.plan import StagePlan
from hpsearch.stages.proposals import Mirror
from hpsearch.storage import (
    Database,
    Lease,
    Outcome,
    Queue,
    RungQueue,
    StorageAwayError,
    StudyRow,
    find_study,
    new_worker_id,
    read_trials,
)
from hpsearch.worker import spool
from hpsearch.worker.database_waits import Answer, insist
from hpsearch.worker.held import HeldTrial
from hpsearch.worker.rung_source import RungSource
from hpsearch.worker.rungs import Rungs
from hpsearch.worker.stopping import Stop
from hpsearch.worker.trial_source import Resumed, TrialSource
from hpsearch.worker.writer import Lost, Writer, Written

if TYPE_CHECKING:
    from hpsearch.training.checkpoints import Checkpoint

WORST_SKEW = 30.0  # seconds between two clocks that are not worth a word
STOP_SECONDS = 0.5  # between two looks whether to stop, while a database that is away is waited for
QUICK_PATIENCE = 5.0  # seconds that a worker which was stopped waits for a database that is away


class StageWorker(ABC):
    """Works on one stage. What a trial is, subclasses know; they set the attributes below before `run`.

    Args:
        db: an open database of this process.
        study: the stage.
        plan: what the stage was made from.
        run: folders, leases, what is kept.
        listener: hears what happens, in the calling thread.
        stop: asked at each epoch's end whether to go on.
    """

    width: int
    """Most trials in hand."""
    metric: Metric
    num_trials: int | None
    """Of the stage; None where it has as many as fit."""
    mirror: Mirror | None
    """What sampler and pruner see; None if nothing is proposed."""
    checkpoints: Resumed
    started: StageStarted
    """How the stage stood."""

    def __init__(
        self,
        db: Database,
        study: StudyRow,
        plan: StagePlan,
        run: RunConfig,
        listener: Listener | None = None,
        stop: Stop | None = None,
    ) -> None:
        self.db, self.study, self.plan, self.run_config = db, study, plan, run
        self.listener, self.stop = listener or Listener(), stop or Stop()
        worker = new_worker_id()
        self.rungs: Rungs | None = None
        """What is decided where trials ask whether they may go on; None where they do not."""
        self.queue = Queue(db, study, worker, run.lease_seconds)
        if plan.settings.has_rungs:
            queue = RungQueue(db, study, worker, run.lease_seconds)
            halving = Halving.of(plan.settings, direction_of(study))
            self.queue, self.rungs = queue, Rungs(queue, halving, self._insist, self._wait_until_written)
        self.spool_folder = Path(run.artifact_dir) / "spool"
        self.held: dict[int, HeldTrial] = {}
        self.on_tick: Callable[[], None] = lambda: None
        """Called every few seconds, in another thread."""

    @abstractmethod
    def _train_held(self) -> None:
        """Train the trials in hand, to whatever end."""

    @abstractmethod
    def _forget(self, number: int) -> None:
        """A trial in hand is another worker's now."""

    def _continued(self, lease: Lease) -> Checkpoint | None:
        """The state of an earlier stage's trial with which this one begins, if it begins with any."""
        return None

    def _over(self, number: int) -> None:  # noqa: B027 - some keep nothing
        """The end of a trial is in the database."""

    def _at_rest(self) -> None:  # noqa: B027
        """Have all on disk that whoever takes the trials next needs."""

    def _close(self) -> None:  # noqa: B027
        """The work is over."""

    def run(self) -> None:
        """Work until every trial of the stage has ended, here or in other workers' hands.

        Raises:
            HpsearchError: the same error ended trials several times running.
            PoisonedDeviceError: this process cannot use its device any more.
            KeyboardInterrupt: passed on, after unfinished trials went back to the queue; `Stopped` if asked for.
        """
        self.listener.stage_started(self.started)
        self._insist(lambda: spool.recover(self.db, self.spool_folder))
        self._insist(self.queue.release_dead)
        self.begun_at = self._insist(self.db.read_now)
        if abs(skew := time.time() - self.begun_at) > WORST_SKEW:
            self.listener.note(
                f"this machine's clock is {skew:+.0f} s off the database's: leases go by the database's, "
                "but the times shown of trials may be wrong"
            )
        self.writer = Writer(self.queue, self.spool_folder, self.listener.note, self._tick)
        source = (
            self.queue,
            self.writer,
            self.checkpoints,
            self.plan,
            self.mirror,
            self._insist,
            self.metric,
            self._continued,
        )
        self.source = (
            RungSource(*source, rungs=self.rungs, closed=self._tell_closed)
            if self.rungs is not None
            else TrialSource(*source)
        )
        patience: dict[str, float] = {"patience": QUICK_PATIENCE}
        try:
            self._insist(self._tick)  # it may have been asked to stop before it began
            self._work_until_done()
            patience = {}
        finally:
            try:
                self._give_back()
            finally:  # whatever becomes of them, what is finished is written, or it is said that it is not
                self.writer.close(**patience)
            self._hear_news()
            self._close()

    def _work_until_done(self) -> None:
        while True:
            self.stop.raise_if_requested()
            self.held = {}
            with phase("trials"):
                self.source.take_trials(self.held, self.width)
            if self.held:
                self._train_held()
                continue
            self._wait_until_written()
            self._hear_news()
            if not self._insist(self.source.wait_for_others):
                return

    def _wait_until_written(self) -> None:
        while not self.writer.wait(STOP_SECONDS):  # the database may be away
            self.stop.raise_if_requested()

    def _tick(self) -> None:
        """Whether somebody asked all workers of the stage to stop since the command, or this one, began."""
        asked_at = stage_record(find_study(self.db, self.study.name)).stop_asked_at
        since = self.begun_at if self.stop.since is None else self.stop.since
        if asked_at is not None and asked_at > since:
            self.stop.request()
        self.on_tick()

    def _insist(self, call: Callable[[], Answer]) -> Answer:
        return insist(call, self.listener.note, self.stop)

    def _give_back(self) -> None:
        """Trials that are not finished wait again, for whoever is next."""
        if not (leases := [trial.lease for trial in self.held.values()]):
            return
        self.writer.let_go(leases)
        self._at_rest()
        if self.writer.flush(QUICK_PATIENCE):  # else it may be locked, and would keep us for a minute
            with contextlib.suppress(StorageAwayError):
                self.queue.release(leases)
                return
        self.listener.note("database away: the trials go back to the queue when their leases run out")

    def _hear_news(self) -> None:
        """Tell the listener what the writer has brought into the database, or has found lost."""
        for news in self.writer.news():
            match news:
                case Written(outcome, num_finished):
                    self._tell(outcome, num_finished)
                case Lost(lease):
                    self.listener.note(f"lease lost, result discarded: trial {lease.number}")
                    if (trial := self.held.get(lease.number)) is not None and trial.lease == lease:
                        self._forget(lease.number)

    def _tell(self, outcome: Outcome, num_finished: int) -> None:
        self._over(outcome.lease.number)
        self.listener.trial_finished(self._event(outcome, num_finished))

    def _tell_closed(self, numbers: Collection[int]) -> None:
        """The stage is over: trials that waited at rungs have ended with it."""
        rows = self._insist(lambda: read_trials(self.db, self.study))
        ended = [row for row in rows if row.number in numbers]
        for place, row in enumerate(ended, start=len(rows) - len(ended) + 1):
            lease = Lease(row.trial_id, row.number, 0, row.params)
            self._tell(Outcome(lease, "PRUNED", row.value, row.attrs), place)

    def _event(self, outcome: Outcome, num_finished: int) -> TrialFinished:
        return as_finished(outcome, num_finished, self.num_trials, self.plan.settings.epochs, self.metric)
