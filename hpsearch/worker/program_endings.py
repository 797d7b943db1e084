"""How a trial of the user's own code ends: with its value, stopped, exploded or failed, and who has to know of it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace

from hpsearch.analysis import attributes
from hpsearch.analysis.trial_records import TrialRecord
from hpsearch.programs.messages import Noted, Reported, Suggest
from hpsearch.programs.program import Program
from hpsearch.results import Direction, goodness
from hpsearch.stages.proposals import Mirror
from hpsearch.storage import Outcome
from hpsearch.worker.calling_again import is_called_again
from hpsearch.worker.held import HeldTrial
from hpsearch.worker.program_failures import ProgramFailures
from hpsearch.worker.suggesting import Suggestions
from hpsearch.worker.trial_folders import TrialFolders

LEAVE_SECONDS = 10.0  # for a trial that was told to end, until its process is ended


class ProgramEndings:
    """Ends trials, and tells the sampler, the folders and the count of failures.

    Args:
        direction: of what the code returns.
        mirror: what sampler and pruner see; None if nothing is proposed.
        suggestions: of an objective that says its ranges as it runs.
        folders: of the trials.
        finish: has an outcome written; the trial is in hand no more.
        note: says something to the user.
    """

    def __init__(
        self,
        direction: Direction,
        mirror: Mirror | None,
        suggestions: Suggestions | None,
        folders: TrialFolders,
        failures: ProgramFailures,
        finish: Callable[[Outcome], None],
        note: Callable[[str], None],
    ) -> None:
        self._direction, self._mirror, self._suggestions = direction, mirror, suggestions
        self._folders, self._failures = folders, failures
        self._finish, self._note = finish, note

    def stopped(self, trial: HeldTrial, reason: str) -> Outcome:
        """That of a trial which is not to go on, with the best of what it reported."""
        values = [result.val_score for result in trial.results]
        if not values:
            return Outcome(trial.lease, "PRUNED", None, TrialRecord(reason).as_attributes())
        best = max(values, key=lambda value: goodness(value, self._direction))
        attrs = TrialRecord(reason, trial.results[-1].epoch, last_value=values[-1], last_acc=math.nan).as_attributes()
        return Outcome(trial.lease, "PRUNED", best, attrs)

    def end(self, outcome: Outcome) -> None:
        """A trial is over without a value of its own: stopped, or exploded."""
        if outcome.value is not None:
            self._failures.clear()
        has_exploded = outcome.attrs.get(attributes.REASON) == attributes.EXPLODED
        if self._mirror is not None:
            self._mirror.finish(outcome.lease.number, None, exploded=has_exploded)
        self._finish(outcome)

    def complete(self, trial: HeldTrial, value: float) -> None:
        """The code has returned a value; one that is not finite is an explosion."""
        number = trial.lease.number
        if not math.isfinite(value):
            epoch = trial.results[-1].epoch if trial.results else None
            self.end(exploded(trial, epoch, value, step=epoch))
            return
        record = TrialRecord(last_value=value, last_acc=math.nan)
        if trial.results:
            record = replace(record, best_epoch=trial.best.epoch, last_value=trial.results[-1].val_score)
        if self._mirror is not None:
            self._mirror.finish(number, value)
        if self._suggestions is not None and (unasked := self._suggestions.unasked(trial)):
            self._note(f"trial {number} was to try {', '.join(sorted(unasked))}, which was not asked for")
        self._failures.clear()
        if is_called_again(trial):
            self._folders.called_again(number)
        else:
            self._folders.completed(number, value)
        self._finish(Outcome(trial.lease, "COMPLETE", value, record.as_attributes()))

    def fail(self, trial: HeldTrial, reason: str, trace: str = "") -> None:
        """The code has raised, or said nothing.

        Raises:
            HpsearchError: too many trials failed for the same reason.
        """
        number = trial.lease.number
        attrs = TrialRecord(reason, traceback=trace or None).as_attributes()
        if self._mirror is not None:
            self._mirror.fail(number)
        self._finish(Outcome(trial.lease, "FAIL", None, attrs))
        self._failures.add(reason, self._folders.output(number))


def exploded(trial: HeldTrial, epoch: int | None, value: float, *, step: int | None) -> Outcome:
    """That of a trial which came to such a value, in this epoch if it reports any; `step` is where its curve has it."""
    first = trial.results[0].val_score if trial.results else value
    attrs = TrialRecord(attributes.EXPLODED, epoch, cost=value, first_cost=first).as_attributes()
    return Outcome(trial.lease, "PRUNED", None, attrs, (step, value) if step is not None else None)


def leave(program: Program, why: str, trial: HeldTrial) -> None:
    """Have the code end the trial; its process goes where it does not."""
    program.answer(why)
    until = time.monotonic() + LEAVE_SECONDS
    while (left := until - time.monotonic()) > 0:
        event = program.next(left)
        if isinstance(event, Noted):
            trial.noted[event.name] = event.kept
            continue
        if isinstance(event, Reported | Suggest):  # it goes on regardless
            break
        if event is not None:
            return
    program.end()
