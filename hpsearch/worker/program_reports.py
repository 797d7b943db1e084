"""What the code of a trial reports: kept, told to the sampler, and answered with whether the trial goes on."""

from __future__ import annotations

from collections.abc import Callable

from hpsearch.config import StageConfig
from hpsearch.config.schema import ObjectiveConfig
from hpsearch.programs.messages import Reported
from hpsearch.results import EpochResult
from hpsearch.stages.listener import Listener
from hpsearch.stages.proposals import Mirror
from hpsearch.storage import Outcome
from hpsearch.worker.calling_again import is_called_again
from hpsearch.worker.held import HeldTrial
from hpsearch.worker.program_attempts import ProgramAttempts
from hpsearch.worker.program_endings import ProgramEndings, exploded
from hpsearch.worker.rungs import Rungs
from hpsearch.worker.spool import Recorded


class ProgramReports:
    """Of one trial after another.

    Args:
        objective: what an explosion is.
        settings: of the stage.
        mirror: what sampler and pruner see; None if nothing is proposed.
        rungs: what is decided where trials ask whether they may go on; None where they do not.
        attempts: keep what was reported for another one.
        endings: of trials that do not go on.
        record: has values written.
        listener: hears of them.
    """

    def __init__(
        self,
        objective: ObjectiveConfig,
        settings: StageConfig,
        *,
        mirror: Mirror | None,
        rungs: Rungs | None,
        attempts: ProgramAttempts,
        endings: ProgramEndings,
        record: Callable[[Recorded], None],
        listener: Listener,
    ) -> None:
        self._objective, self._settings = objective, settings
        self._mirror, self._rungs, self._attempts, self._endings = mirror, rungs, attempts, endings
        self._record, self._listener = record, listener
        self._has_reported = False  # in this attempt

    def begin(self, trial: HeldTrial) -> None:
        """What an earlier attempt reported counts again, where the code goes on from its checkpoint."""
        self._has_reported = False
        earlier = self._attempts.begin(trial)
        if not earlier:
            return
        trial.results = earlier
        self._record([(trial.lease, result) for result in earlier])
        self._listener.measured(earlier, earlier=True)
        if self._mirror is not None:
            for result in earlier:
                self._mirror.report(result.number, result.epoch, result.val_score)

    def hear(self, trial: HeldTrial, said: Reported) -> Outcome | None:
        """Take in a value; how the trial is to end, None where it goes on."""
        number, value = trial.lease.number, said.value
        first = trial.results[0].val_score if trial.results else value
        if self._objective.has_exploded(value, first):
            return exploded(trial, said.epoch, value, step=said.epoch)
        result = EpochResult.of_value(number, said.epoch, value)
        if not self._has_reported:  # it may have gone back
            self._has_reported, trial.results = True, [each for each in trial.results if each.epoch < said.epoch]
        trial.results = sorted([*trial.results, result], key=lambda each: each.epoch)
        self._attempts.note(trial)  # before the answer
        self._record([(trial.lease, result)])
        self._listener.measured([result])
        if len(trial.results) <= self._settings.epochs:
            self._listener.epoch_finished(1)
        if self._mirror is not None and self._mirror.report(number, said.epoch, value):
            return self._endings.stopped(trial, self._mirror.why_stopped(number, self._settings.pruner))
        return self._ask(trial, said.epoch)

    def _ask(self, trial: HeldTrial, epoch: int) -> Outcome | None:
        """Of a trial that has come to a rung: how it is to end, None where it goes on."""
        if (
            self._rungs is None
            or trial.until is None
            or is_called_again(trial)
            or not trial.until <= epoch < self._settings.epochs
        ):
            return None
        number, rung = trial.lease.number, trial.until
        decided = self._rungs.go_on({number: trial})
        if number in decided.until:
            trial.until = decided.until[number]
        elif number in decided.kept:
            return self._endings.stopped(trial, self._rungs.halving.why_ended(rung))
        return None  # another worker's now, which will be heard
