"""Following a study while others work on it: each look reads what changed since the last one."""

from __future__ import annotations

import heapq
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hpsearch.analysis.called_again import repeats_among, repeats_trial
from hpsearch.analysis.diagnosis import Diagnosis, diagnose_study
from hpsearch.analysis.records import stage_record
from hpsearch.analysis.repeats import Repeated, by_mean
from hpsearch.analysis.study_trials import Direction, direction_of, observe
from hpsearch.analysis.summary import trial_as_dict
from hpsearch.config import FloatRange, IntRange
from hpsearch.results import EpochResult, goodness
from hpsearch.space.scale import to_unit
from hpsearch.storage import Database, StudyRow, TrialRow, is_dead, is_paused, read_epochs, read_trials
from hpsearch.storage.activity import Activity, read_activity
from hpsearch.storage.rows import STATES, State

FINISHED: tuple[State, ...] = ("COMPLETE", "PRUNED", "FAIL")
WINDOW = 60.0  # seconds over which the speed is measured
NEWS = 0.3  # of a new estimate of the time left, in the one that is shown
FIRST_SPEED = 2.0  # seconds of watching before the first speed is said
NUM_BEST = 10  # trials
NUM_BINS = 10  # parts of the range of lr in which explosions are counted


@dataclass(frozen=True)
class Snapshot:
    """A study at one moment."""

    study: str
    value_name: str
    metric: str  # its name, as train.metric has it
    direction: Direction
    num_epochs: int | None  # of each trial; None for a study of another program
    counts: Mapping[State, int]
    num_pruned: int  # by a pruner; those that exploded are not among them
    num_exploded: int
    exploded_over_lr: tuple[float | None, ...]  # share in each part of its range, on its scale; None: no trial there
    lr_range: FloatRange | IntRange | None
    running: tuple[TrialRow, ...]
    workers: Mapping[int, str]  # by trial number
    num_silent: int  # running trials whose worker is dead, or has let its lease run out
    best: tuple[TrialRow, ...]
    diagnoses: Mapping[int, Diagnosis]  # of the best
    trials_per_minute: float | None
    epochs_per_second: float | None
    seconds_left: float | None
    step_name: str = "epoch"  # or step, where trials have no epochs
    num_paused: int = 0  # trials that wait at a rung; RUNNING, but in nobody's hands
    work: tuple[int, int] | None = None  # epochs that are done, and the budget, where that is one in epochs
    dead: frozenset[str] = frozenset()  # workers whose process is gone from this machine
    called: Mapping[int, Repeated] = field(default_factory=dict)  # what those of the best gave that were called again

    def value_of(self, trial: TrialRow) -> float | None:
        """Of one of the best: the mean of its calls, where it was called again."""
        called = self.called.get(trial.number)
        return trial.value if called is None else called.mean

    @property
    def num_trials(self) -> int:
        """All of them."""
        return sum(self.counts.values())

    @property
    def num_finished(self) -> int:
        """Those that will not run again."""
        return sum(self.counts[state] for state in FINISHED)

    @property
    def num_running(self) -> int:
        """Those that a worker holds, or another program."""
        return self.counts["RUNNING"] - self.num_paused

    @property
    def abandoned(self) -> bool:
        """Whether trials are left and nobody works on them now."""
        return not self.done and self.num_running == self.num_silent

    @property
    def done(self) -> bool:
        """Whether nothing waits or runs any more."""
        return self.num_finished == self.num_trials

    def as_dict(self) -> dict[str, Any]:
        """The snapshot as JSON."""
        return {
            "study": self.study,
            "trials": self.num_trials,
            "epochs": self.num_epochs,
            "metric": self.metric,
            "states": dict(self.counts),
            "pruned": self.num_pruned,
            "exploded": self.num_exploded,
            "exploded_over_lr": list(self.exploded_over_lr),
            "paused": self.num_paused,
            "epochs_done": self.work[0] if self.work is not None else None,
            "epochs_budget": self.work[1] if self.work is not None else None,
            "running": [
                trial_as_dict(t)
                | {"worker": self.workers.get(t.number), "dead": self.workers.get(t.number) in self.dead}
                for t in self.running
            ],
            "best": [
                trial_as_dict(t)
                | {
                    "verdict": self.diagnoses[t.number].verdict if t.number in self.diagnoses else None,
                    "repeated": self.called[t.number].as_dict() if t.number in self.called else None,
                }
                for t in self.best
            ],
            "trials_per_minute": self.trials_per_minute,
            "epochs_per_second": self.epochs_per_second,
            "seconds_left": self.seconds_left,
            "abandoned": self.abandoned,
            "done": self.done,
        }


class Watcher:
    """Looks at one study again and again.

    A look costs one short row per trial, the running trials in full, and those that have finished since the last
    look; what is finished does not change and is kept.
    """

    def __init__(self, db: Database, study: StudyRow, clock: Callable[[], float] = time.monotonic) -> None:
        self.db, self.study, self.clock = db, study, clock
        self.direction = direction_of(study)
        self.record = stage_record(study)
        self._finished: dict[int, TrialRow] = {}
        self._exploded: set[int] = set()
        self._num_epochs_finished = 0
        self._epochs: dict[int, list[EpochResult]] = {}
        self._past: deque[tuple[float, int, int]] = deque()  # when, trials finished, epochs done
        self._end: float | None = None  # when it is thought to be over
        self._num_epochs_then = -1

    def look(self) -> Snapshot:
        """Read what changed.

        Raises:
            StorageAwayError: the database does not answer now; the next look may succeed.
        """
        now = self.clock()
        activity = read_activity(self.db, self.study)
        self._read_finished(activity)
        counts: Counter[State] = Counter(row.state for row in activity)
        begun = read_trials(self.db, self.study, states=["RUNNING"]) if counts["RUNNING"] else []
        running = [trial for trial in begun if not is_paused(trial.state, trial.attrs)]
        best, called = self._best()
        speed = self._speed(now, begun)
        lr_range, exploded_over_lr = self._explosions()
        return Snapshot(
            study=self.study.name,
            value_name=self.record.value_name,
            metric=self.record.metric(self.direction).name,
            direction=self.direction,
            num_epochs=self.record.num_epochs,
            counts={state: counts[state] for state in STATES},
            num_pruned=counts["PRUNED"] - sum(self._finished[n].state == "PRUNED" for n in self._exploded),
            num_exploded=len(self._exploded),
            exploded_over_lr=exploded_over_lr,
            lr_range=lr_range,
            running=tuple(running),
            num_paused=len(begun) - len(running),
            work=self._work(),
            workers={row.number: row.worker for row in activity if row.worker},
            dead=frozenset(row.worker for row in activity if row.worker and is_dead(row.worker)),
            num_silent=sum(row.silent for row in activity),
            best=best,
            called=called,
            diagnoses=self._diagnoses(best),
            trials_per_minute=None if speed[0] is None else 60 * speed[0],
            epochs_per_second=speed[1] if self.record.has_epochs else None,
            step_name=self.record.step_name,
            seconds_left=self._smoothly(now, self._seconds_left(counts["WAITING"], running, speed)),
        )

    def _read_finished(self, activity: list[Activity]) -> None:
        new = [row.trial_id for row in activity if row.state in FINISHED and row.number not in self._finished]
        if not new:
            return
        # Trials finish about in the order of their ids, so few are read a second time.
        for trial in read_trials(self.db, self.study, states=FINISHED, since_trial_id=min(new) - 1):
            if trial.number in self._finished:
                continue
            self._finished[trial.number] = trial
            self._num_epochs_finished += len(trial.intermediate)
            if observe(trial, self.direction).outcome == "exploded":
                self._exploded.add(trial.number)

    def _best(self) -> tuple[tuple[TrialRow, ...], dict[int, Repeated]]:
        """The best trials, and what those of them gave that were called again: the best mean comes first."""
        repeats = repeats_among([*self._finished.values()])
        called = {each.number: each for each in by_mean(repeats, self.direction)}
        leader = next((number for number, each in called.items() if each.mean is not None), None)
        complete = (
            trial
            for trial in self._finished.values()
            if trial.state == "COMPLETE" and trial.value is not None and math.isfinite(trial.value)
            if repeats_trial(trial) is None
        )

        def place(trial: TrialRow) -> tuple[bool, float, int]:
            value = called[trial.number].mean if trial.number in called else trial.value
            return trial.number != leader, -goodness(value, self.direction), trial.number

        best = tuple(heapq.nsmallest(NUM_BEST, complete, key=place))
        return best, {trial.number: called[trial.number] for trial in best if trial.number in called}

    def _diagnoses(self, best: tuple[TrialRow, ...]) -> dict[int, Diagnosis]:
        if not self.record.trained_here:
            return {}
        if unread := [trial.number for trial in best if trial.number not in self._epochs]:
            self._epochs |= read_epochs(self.db, self.study, unread)
        return diagnose_study(self.study, best, self._epochs)  # the best one, which low is measured by, is among them

    def _speed(self, now: float, running: list[TrialRow]) -> tuple[float | None, float | None]:
        """Trials and epochs a second over the last WINDOW; None until there is something to measure."""
        num_epochs = self._num_epochs_finished + sum(len(trial.intermediate) for trial in running)
        self._past.append((now, len(self._finished), num_epochs))
        while len(self._past) > 2 and self._past[1][0] <= now - WINDOW:
            self._past.popleft()
        start, first_trials, first_epochs = self._past[0]
        if now - start < FIRST_SPEED:
            return None, None
        # A trial that went back to the queue takes its epochs along.
        return (len(self._finished) - first_trials) / (now - start), max(0, num_epochs - first_epochs) / (now - start)

    def _seconds_left(
        self, num_waiting: int, running: list[TrialRow], speed: tuple[float | None, float | None]
    ) -> float | None:
        trials_per_second, epochs_per_second = speed
        if (work := self._work()) is not None:
            return (work[1] - work[0]) / epochs_per_second if epochs_per_second else None
        num_epochs = self.record.num_epochs
        if num_epochs is None or not self._finished:
            return (num_waiting + len(running)) / trials_per_second if trials_per_second else None
        usual = self._num_epochs_finished / len(self._finished)  # explosions end early
        left = num_waiting * usual + sum(max(0, num_epochs - len(trial.intermediate)) for trial in running)
        return left / epochs_per_second if epochs_per_second else None

    def _work(self) -> tuple[int, int] | None:
        """Epochs done, as of this look, and the budget, if it is one in epochs."""
        budget = self.record.config_value(self.record.kind or "", "epochs_budget")
        return (min(budget, self._past[-1][2]), budget) if isinstance(budget, int) else None

    def _smoothly(self, now: float, left: float | None) -> float | None:
        """What is left falls with the clock, and moves a little when epochs have ended.

        Packs end all of theirs at once, which is no speed of its own.
        """
        num_epochs = self._past[-1][2]
        if left is None:
            self._end = None
            return None
        if self._end is None:
            self._end = now + left
        elif num_epochs != self._num_epochs_then:
            self._end += NEWS * (now + left - self._end)
        self._num_epochs_then = num_epochs
        return max(0.0, self._end - now)

    def _explosions(self) -> tuple[FloatRange | IntRange | None, tuple[float | None, ...]]:
        """How many of the finished trials exploded, over the range of lr."""
        first = next((trial for trial in self._finished.values() if "lr" in trial.ranges), None)
        range_ = first.ranges["lr"] if first else None
        if not self._exploded or not isinstance(range_, FloatRange | IntRange):
            return None, ()
        finished: Counter[int] = Counter()
        exploded: Counter[int] = Counter()
        for number, trial in self._finished.items():
            if "lr" in trial.params:
                part = min(NUM_BINS - 1, int(NUM_BINS * to_unit(range_, trial.params["lr"])))
                finished[part] += 1
                exploded[part] += number in self._exploded
        shares = (exploded[part] / finished[part] if finished[part] else None for part in range(NUM_BINS))
        return range_, tuple(shares)
