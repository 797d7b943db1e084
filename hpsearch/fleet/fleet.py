"""The life of a stage's workers: started, watched through the database, replaced when they die, none left behind."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from hpsearch.analysis.records import stage_record
from hpsearch.config import RunConfig
from hpsearch.errors import HpsearchError
from hpsearch.fleet.deaths import Deaths, resuming
from hpsearch.fleet.launcher import Ended, Launcher, Note
from hpsearch.fleet.stage_follower import StageFollower
from hpsearch.phases import phase, tell
from hpsearch.stages.listener import Listener
from hpsearch.storage import Database, Queue, StorageAwayError, StudyRow, new_worker_id
from hpsearch.training.checkpoints import Checkpoints, checkpoint_folder
from hpsearch.worker import spool
from hpsearch.worker.stopping import Stop

Answer = TypeVar("Answer")

POLL_SECONDS = 0.5  # between two looks at the database; a death is heard of at once


class Fleet:
    """Runs workers on one stage until it is done.

    Args:
        db: an open database.
        study: the stage.
        run: settings that the workers share.
        launcher: starts the workers.
        num_workers: how many.
        listener: hears of each trial.
        stop: asked whether to go on.
    """

    def __init__(
        self,
        db: Database,
        study: StudyRow,
        run: RunConfig,
        launcher: Launcher,
        num_workers: int,
        listener: Listener,
        stop: Stop,
    ) -> None:
        self.db, self.study, self.launcher, self.listener, self.stop = db, study, launcher, listener, stop
        self.lease_seconds = run.lease_seconds
        self.spool_folder = Path(run.artifact_dir) / "spool"
        self.queue = Queue(db, study, new_worker_id())
        self.follower = StageFollower(db, study, listener)
        name = checkpoint_folder(stage_record(study).fingerprint, study.study_id)
        is_own = stage_record(study).config_value("objective") is not None
        self.checkpoints = None if is_own else Checkpoints(Path(run.artifact_dir) / "checkpoints", name)
        self.num_workers = num_workers
        self.places: dict[int, int] = {}
        """Of the workers, by the numbers that the launcher gave them."""
        self.deaths = Deaths()

    def run(self) -> None:
        """Start the workers, replace those that die, return when the stage is done.

        Raises:
            HpsearchError: a worker gave up for good, workers keep dying, or there is no room for any.
            Stopped: a stop was asked for; the workers have given their trials back.
        """
        self.follower.begin()
        self._release_dead()
        try:
            with phase("workers"):
                for place in range(self.num_workers):
                    self._start(place)
            tell("all workers started")
            while self.places and not self._waits_for_nothing():
                self._look()
        finally:
            self.launcher.end_all()
            self._hear_last_notes()
            self._release_dead()
            self.follower.look()

    def _start(self, place: int) -> None:
        self.places[self.launcher.start(place)] = place

    def _look(self) -> None:
        """Wait for news of the workers, not longer than until the next look at the database."""
        until = time.monotonic() + POLL_SECONDS
        while (left := until - time.monotonic()) > 0:
            event = self.launcher.next_event(left)
            self.stop.raise_if_requested()
            if isinstance(event, Note):
                self.listener.note(event.text)
            elif isinstance(event, Ended):
                self.deaths.hear(self.follower.look())
                self._bury(event)
                return
        self.deaths.hear(self.follower.look())

    def _waits_for_nothing(self) -> bool:
        """All that is left are workers without a place, and nothing is left for them."""
        if not self.launcher.unplaced() or self.follower.num_waiting:
            return False
        if not set(self.places) <= set(self.launcher.unplaced()):
            return False
        return _unless_away(lambda: not self.queue.standing().num_running, False)

    def _hear_last_notes(self) -> None:
        while (event := self.launcher.next_event(0)) is not None:
            if isinstance(event, Note):
                self.listener.note(event.text)
            elif event.how == "gave up":  # as one that could not write its results
                self.listener.note(f"a worker on {event.where} gave up: {' '.join(event.message.split())}")

    def _bury(self, ended: Ended) -> None:
        """Give the trials of a worker that is gone back and, if it died, put another one in its place."""
        place = self.places.pop(ended.id)
        if ended.how == "gave up":
            raise HpsearchError(f"a worker on {ended.where} gave up: {ended.message}")
        if ended.how == "stopped":  # by `hpsearch stop`; one that started now would not know of it
            self.launcher.end_all()
        if ended.how == "died":
            self.deaths.add(ended.message)
            numbers = self._release_dead()
            self._start(place)
            later = f"what it held goes on when its leases run out, within {self.lease_seconds:g} s"
            where = resuming(self.checkpoints, numbers) or (later if self._runs_elsewhere() else "")
            self.listener.note(", ".join(filter(None, [f"worker died ({ended.message})", where])))

    def _runs_elsewhere(self) -> bool:
        return _unless_away(self.queue.runs_elsewhere, True)

    def _release_dead(self) -> list[int]:
        """What dead workers of this host had in hand waits again at once; results that they had spooled are written.

        Those of other hosts wait until their leases run out.
        """

        def release() -> list[int]:
            spool.recover(self.db, self.spool_folder)
            return self.queue.release_dead()

        return _unless_away(release, [])


def _unless_away(call: Callable[[], Answer], otherwise: Answer) -> Answer:
    """What the database answers, or something else while it is away."""
    try:
        return call()
    except StorageAwayError:
        return otherwise
