"""A worker's trials that call an earlier one again, once the stage comes to its last part: see `stages.confirming`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hpsearch.analysis import attributes
from hpsearch.analysis.called_again import Called, calls_of
from hpsearch.results import Direction
from hpsearch.stages.confirming import candidates, first_number, num_calls, params_tried, to_call_again
from hpsearch.stages.earlier_trials import EarlierTrial
from hpsearch.stages.expected_values import ExpectedValues, Tried
from hpsearch.stages.plan import StagePlan
from hpsearch.storage import FINISHED, ChosenParams, Queue, TrialRow, read_trials
from hpsearch.worker.held import HeldTrial


class CallsAgain:
    """Gives trials the hyperparameters of the one that leads, where it is to be called again.

    Args:
        queue: of the stage.
        plan: of the stage.
        earlier: trials of the stages before.
        direction: of what the code returns.
        insist: asks the database until it answers.
        written: waits until everything that the worker has handed to its writer is in the database.
    """

    def __init__(
        self,
        queue: Queue,
        plan: StagePlan,
        earlier: Sequence[EarlierTrial],
        direction: Direction,
        insist: Callable[[Callable[[], Any]], Any],
        written: Callable[[], object],
    ) -> None:
        self._queue, self._direction, self._insist, self._written = queue, direction, insist, written
        self._space, self._earlier, self._epochs = plan.space, earlier, plan.settings.epochs
        self._num_calls = num_calls(plan.config, plan.kind)
        self._first_number = first_number(plan.settings.trials)
        self._expected = ExpectedValues(plan.space, direction) if plan.settings.sampler == "gp" else None
        self._ended: dict[int, TrialRow] = {}
        self._first_open = 0

    def begin(self, trial: HeldTrial) -> None:
        """Before a trial without hyperparameters is given any. They are in the database before the code has them."""
        lease = trial.lease
        if not self._num_calls or lease.number < self._first_number:
            return
        if lease.params or attributes.ENQUEUED in lease.attrs:
            return
        self._written()
        if self._expected is not None:  # before the transaction, since to learn takes some tenths of a second
            rows = self._insist(lambda: read_trials(self._queue.db, self._queue.study, first_number=self._first_open))
            self._see(rows)
            self._expected.learn(self._tried())
        chosen = self._insist(lambda: self._queue.choose_params(lease, self._choose, self._first_open))
        if chosen is not None:
            trial.lease = chosen

    def _choose(self, rows: Sequence[TrialRow]) -> ChosenParams | None:
        """For one more trial, from those not known to have ended: a call that waits for its next worker counts, too."""
        self._see(rows)
        others = [*self._ended.values(), *(row for row in rows if row.state not in FINISHED)]
        under_way = [row.params for row in rows if attributes.TRIED_IN in row.attrs and row.state not in FINISHED]
        calls = candidates(calls_of(others), self._earlier, params_tried(others), self._epochs, under_way)
        of = to_call_again(calls, self._num_calls, self._direction, self._expect)
        if of is None:
            return None
        if of < 0:
            before = self._earlier[-1 - of]
            return ChosenParams(before.params, before.ranges or self._space, {attributes.TRIED_IN: before.study})
        return ChosenParams(self._ended[of].params, self._ended[of].ranges, {attributes.AGAIN: of})

    def _see(self, rows: Sequence[TrialRow]) -> None:
        self._ended |= {row.number: row for row in rows if row.state in FINISHED}
        while self._first_open in self._ended:
            self._first_open += 1

    def _tried(self) -> list[Tried]:
        """All values here, and those of stages before whose trials were as long."""
        alike = (trial for trial in self._earlier if trial.epochs in (None, self._epochs))
        before = [Tried(trial.params, [trial.value]) for trial in alike if trial.value is not None]
        rows = sorted(self._ended.values(), key=lambda row: row.number)
        return [*before, *(Tried(self._ended[each.number].params, each.known) for each in calls_of(rows))]

    def _expect(self, calls: Sequence[Called]) -> list[float] | None:
        if self._expected is None:
            return None
        params = [(self._earlier[-1 - c.number] if c.number < 0 else self._ended[c.number]).params for c in calls]
        return self._expected.of(params)


def is_called_again(trial: HeldTrial) -> bool:
    """Whether the trial has the hyperparameters of another one: nobody ends it early, as its whole value is asked."""
    return attributes.AGAIN in trial.lease.attrs
