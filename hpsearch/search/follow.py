"""A stage that others work on, followed through the database."""

from __future__ import annotations

from hpsearch.search import attributes
from hpsearch.search.evidence import best_trial, observe
from hpsearch.search.progress import Listener, StageStarted, TrialFinished
from hpsearch.search.stages import stored_plan
from hpsearch.storage import (
    Database,
    State,
    StorageAwayError,
    StudyRow,
    TrialRow,
    count_epochs,
    count_states,
    read_trials,
)

FINISHED: tuple[State, ...] = ("COMPLETE", "PRUNED", "FAIL")


class StageFollower:
    """Tells a listener of trials that ended since the last look."""

    def __init__(self, db: Database, study: StudyRow, listener: Listener) -> None:
        self.db, self.study, self.listener = db, study, listener
        self.known: set[int] = set()
        self.num_trials = self.num_waiting = self.num_epochs = 0

    def begin(self) -> None:
        """Say how the stage stands."""
        rows = read_trials(self.db, self.study)
        settings = stored_plan(self.study).settings
        finished = [row for row in rows if row.state in FINISHED]
        self.known = {row.number for row in finished}
        self.num_trials = len(rows)
        self.num_waiting = sum(row.state == "WAITING" for row in rows)
        self.num_epochs = count_epochs(self.db, self.study)
        best = best_trial(rows, "maximize")
        self.listener.stage_started(
            StageStarted(
                study=self.study.name,
                num_trials=len(rows),
                num_finished=len(finished),
                num_pruned=sum(row.state == "PRUNED" for row in rows),
                num_exploded=sum(observe(row, "maximize").outcome == "exploded" for row in rows),
                num_epochs=settings.epochs,
                best_value=best.value if best else None,
                engine="",
                width=0,
                device="",
            )
        )

    def look(self) -> bool:
        """Tell what is new; whether a trial has ended."""
        try:
            counts = count_states(self.db, self.study)
            num_epochs = count_epochs(self.db, self.study)
            num_finished = sum(counts[state] for state in FINISHED)
            rows = read_trials(self.db, self.study, FINISHED) if num_finished > len(self.known) else []
        except StorageAwayError:
            return False
        self.num_waiting = counts["WAITING"]
        self.listener.epoch_finished(max(0, num_epochs - self.num_epochs))
        self.num_epochs = max(num_epochs, self.num_epochs)
        fresh = [row for row in rows if row.number not in self.known]
        for row in sorted(fresh, key=lambda row: (row.completed is None, row.completed, row.number)):
            self.known.add(row.number)
            self.listener.trial_finished(self._event(row))
        return bool(fresh)

    def _event(self, row: TrialRow) -> TrialFinished:
        return TrialFinished(
            number=row.number,
            state=row.state,
            value=row.value,
            params=row.params,
            reason=row.attrs.get(attributes.REASON),
            epoch=row.attrs.get(attributes.EPOCH) or max(row.intermediate, default=0),
            num_finished=len(self.known),
            num_trials=self.num_trials,
        )
