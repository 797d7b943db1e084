"""A stage that others work on, followed through the database."""

from __future__ import annotations

from hpsearch.analysis.called_again import repeats_trial
from hpsearch.analysis.records import stage_record
from hpsearch.analysis.study_trials import direction_of
from hpsearch.analysis.trial_records import trial_record
from hpsearch.fleet.deaths import News
from hpsearch.stages.halving import Halving
from hpsearch.stages.listener import Listener, TrialFinished, shown_trials, standing
from hpsearch.stages.sampler_knowledge import stored_knowledge
from hpsearch.storage import (
    Database,
    State,
    StorageAwayError,
    StudyRow,
    TrialRow,
    count_epochs,
    count_states,
    read_epochs,
    read_trials,
)

FINISHED: tuple[State, ...] = ("COMPLETE", "PRUNED", "FAIL")


class StageFollower:
    """Tells a listener of trials that ended since the last look."""

    def __init__(self, db: Database, study: StudyRow, listener: Listener) -> None:
        self.db, self.study, self.listener = db, study, listener
        self.record = stage_record(study)
        self.metric = self.record.metric(direction_of(study))
        self.known: set[int] = set()
        self.away = False
        self.halving = Halving.kept(self.record, direction_of(study))
        self.num_trials: int | None = 0
        self.num_waiting = self.num_epochs = self._num_last = 0

    def begin(self) -> None:
        """Say how the stage stands."""
        rows = read_trials(self.db, self.study)
        learning = stored_knowledge(self.record.learning)
        finished = [row for row in rows if row.state in FINISHED]
        self.known = {row.number for row in finished}
        self.num_trials = shown_trials(len(rows), self.halving)
        self.num_waiting = sum(row.state == "WAITING" for row in rows)
        self.num_epochs = self._num_last = count_epochs(self.db, self.study)
        self.listener.stage_started(
            standing(
                self.study.name,
                rows,
                self.record.num_epochs,
                learning=learning,
                metric=self.metric,
                halving=self.halving,
            )
        )

    def look(self) -> News:
        """Tell what is new.

        Returns "progress" where a trial has ended or more epochs are done than ever before, "life" where an epoch was
        reported that had been reported before: a worker that died takes those after its checkpoint with it.
        """
        try:
            counts = count_states(self.db, self.study)
            num_epochs = count_epochs(self.db, self.study)
            num_finished = sum(counts[state] for state in FINISHED)
            rows = read_trials(self.db, self.study, FINISHED) if num_finished > len(self.known) else []
            follows = self.listener.follows_epochs and num_epochs > self._num_last
            epochs = read_epochs(self.db, self.study) if follows else {}
        except StorageAwayError as error:
            if not self.away:
                self.away = True
                self.listener.note(f"database away, training goes on: {' '.join(str(error).split())}")
            return None
        self.away = False
        self.num_waiting = counts["WAITING"]
        num_new, alive = max(0, num_epochs - self.num_epochs), num_epochs > self._num_last
        self._num_last = num_epochs
        self.listener.measured([result for number in sorted(epochs) for result in epochs[number]])
        self.listener.epoch_finished(num_new)
        self.num_epochs = max(num_epochs, self.num_epochs)
        fresh = [row for row in rows if row.number not in self.known]
        for row in sorted(fresh, key=lambda row: (row.completed is None, row.completed, row.number)):
            self.known.add(row.number)
            self.listener.trial_finished(self._event(row))
        return "progress" if fresh or num_new else "life" if alive else None

    def _event(self, row: TrialRow) -> TrialFinished:
        record = trial_record(row)
        return TrialFinished(
            number=row.number,
            state=row.state,
            value=row.value,
            params=row.params,
            reason=record.reason,
            epoch=record.epoch or max(row.intermediate, default=0),
            num_finished=len(self.known),
            num_trials=self.num_trials,
            metric=self.metric,
            step_name=self.record.step_name,
            again=repeats_trial(row),
        )
