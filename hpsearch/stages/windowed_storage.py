"""The part of a stage's past that a sampler learns from: the best trials, the newest ones, those that run.

An Optuna sampler reads its whole study for each proposal, so a proposal would cost the more the longer a search goes
on: TPE fits one mixture to the best trials, 25 at most, and another one to all the others. Of those others the newest
are enough: TPE gives old ones less weight by itself, down to nothing. So what it sees is bounded:

    the best NUM_BEST trials, in the order in which TPE ranks them,
    the newest NUM_NEWEST, in the order in which they ended,
    all that run.

With 500 of the newest, TPE found as good a best in 2,000 trials as with all (four hyperparameters, four seeds), for
3 ms a proposal instead of 5 with 1,000 of them, and 56 with 10,000 (two hyperparameters).

CMA-ES reads the trials of its current generation and the one before, a few dozen, which are always among the newest;
a Gaussian process is limited to fewer trials than the window holds. Pruners see all trials.
"""

from __future__ import annotations

import bisect
import copy
import heapq
from collections import deque
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager

from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from hpsearch.results import Direction, goodness
from hpsearch.stages.sampler_knowledge import NUM_BEST as NUM_BEST
from hpsearch.stages.sampler_knowledge import NUM_NEWEST as NUM_NEWEST
from hpsearch.storage import TrialRow

View = Callable[[list[FrozenTrial]], list[FrozenTrial]]


class WindowedStorage(InMemoryStorage):
    """Optuna's storage in memory, of one study; within `narrowed` it answers with the window alone.

    Args:
        num_newest: of the window; None: all.
        direction: of the study.
    """

    def __init__(self, num_newest: int | None = NUM_NEWEST, direction: Direction = "maximize") -> None:
        super().__init__()
        self._direction: Direction = direction
        self._best: list[tuple[tuple[float, ...], int]] = []  # rank, lowest first, and number
        self._newest: deque[int] = deque(maxlen=num_newest)
        self._running: set[int] = set()
        self._narrowed: Sequence[FrozenTrial] | None = None
        self._told: View | None = None

    def create_waiting(self, num_trials: int) -> None:
        """The trials of its study, which has none yet: as there is no other one, a trial's id is its number."""
        (study,) = self.get_all_studies()
        for _ in range(num_trials):
            self.create_new_trial(study._study_id, create_trial(state=TrialState.WAITING))

    @contextmanager
    def narrowed(self, before: Sequence[FrozenTrial] = (), told: View | None = None) -> Iterator[None]:
        """Whoever asks for all trials within it gets those of the window, after some that are in no study.

        Args:
            before: those of no study.
            told: gives them all as they are to be seen.
        """
        self._narrowed, self._told = before, told
        try:
            yield
        finally:
            self._narrowed = self._told = None

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """See `optuna.storages.BaseStorage`."""
        changed = super().set_trial_state_values(trial_id, state, values)
        number = self.get_trial_number_from_id(trial_id)
        if state == TrialState.RUNNING:
            self._running.add(number)
            return changed
        self._running.discard(number)
        if state in (TrialState.COMPLETE, TrialState.PRUNED):
            self._newest.append(number)
            trial = self.get_trial(trial_id)
            value = trial.value if state == TrialState.COMPLETE else None
            bisect.insort(self._best, (rank(value, trial.intermediate_values, self._direction), number))
            del self._best[NUM_BEST:]
        return changed

    def reopen(self, number: int) -> None:
        """A trial that was pruned goes on: it runs again, with what it has reported."""
        with self._lock:
            trial = copy.copy(self._get_trial(number))
            trial.state, trial.values, trial.datetime_complete = TrialState.RUNNING, None, None
            self._set_trial(number, trial)
        self._best = [(known, other) for known, other in self._best if other != number]
        if number in self._newest:
            self._newest.remove(number)
        self._running.add(number)

    def clear(self, number: int) -> None:
        """A trial that runs has no hyperparameters again."""
        with self._lock:
            trial = copy.copy(self._get_trial(number))
            trial.params, trial.distributions, trial.system_attrs = {}, {}, {}
            self._set_trial(number, trial)

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """See `optuna.storages.BaseStorage`."""
        if self._narrowed is None:
            return super().get_all_trials(study_id, deepcopy, states)
        numbers = self._running.union(self._newest, (number for _, number in self._best))
        own = [self.get_trial(number) for number in sorted(numbers)]  # the id in a storage of one study
        trials = [*self._narrowed, *own]
        if self._told is not None:
            trials = self._told(trials)
        return [trial for trial in trials if states is None or trial.state in states]


def in_window(trials: Sequence[TrialRow], direction: Direction = "maximize") -> set[int]:
    """Numbers of the trials of a stage that a window holds, or will hold; the past counts as if ended by number."""
    ended = sorted((t for t in trials if t.state in ("COMPLETE", "PRUNED")), key=lambda trial: trial.number)
    best = heapq.nsmallest(NUM_BEST, ended, lambda trial: _rank_of(trial, direction))
    others = [trial for trial in trials if trial.state in ("WAITING", "RUNNING")]
    return {trial.number for trial in [*ended[-NUM_NEWEST:], *best, *others]}


def _rank_of(trial: TrialRow, direction: Direction) -> tuple[float, ...]:
    return rank(trial.value if trial.state == "COMPLETE" else None, trial.intermediate, direction)


def rank(
    complete_value: float | None, intermediate: Mapping[int, float], direction: Direction = "maximize"
) -> tuple[float, ...]:
    """The lower, the better in the eyes of TPE: complete trials by value, then pruned ones, the longest first."""
    if complete_value is not None:
        return (0, -goodness(complete_value, direction))
    if not intermediate:
        return (1, 1, 0.0)
    step, value = max(intermediate.items())
    return (1, -step, -goodness(value, direction))
