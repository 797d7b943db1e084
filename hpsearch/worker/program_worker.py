"""A worker whose trials are calls of the user's own code: one at a time, in a process that can be ended."""

from __future__ import annotations

from dataclasses import replace

from typing_extensions import override

from hpsearch.analysis import attributes
from hpsearch.analysis.missed_rungs import missed_rungs
from hpsearch.analysis.records import stage_record
from hpsearch.analysis.study_trials import best_trials, direction_of, observe
from hpsearch.config import RunConfig
from hpsearch.config.schema import ObjectiveConfig
from hpsearch.errors import RefusedError
from hpsearch.phases import phase, tell
from hpsearch.programs.messages import Broken, Ended, Left, Noted, Pruned, Reported, Suggest, Task
from hpsearch.programs.program import Program, UnreadyError
from hpsearch.runtime import resolve_device
from hpsearch.stages.confirming import num_candidates, seed_of_call
from hpsearch.stages.earlier_trials import read_earlier_trials
from hpsearch.stages.listener import Listener, TrialFinished, as_finished, standing
from hpsearch.stages.mirrors import make_mirror
from hpsearch.stages.plan import StagePlan
from hpsearch.storage import Database, Outcome, StudyRow, read_trials
from hpsearch.worker.calling_again import CallsAgain, is_called_again
from hpsearch.worker.held import HeldTrial
from hpsearch.worker.noted import of_user
from hpsearch.worker.program_attempts import ProgramAttempts
from hpsearch.worker.program_endings import ProgramEndings, leave
from hpsearch.worker.program_failures import ProgramFailures
from hpsearch.worker.program_pace import ProgramPace
from hpsearch.worker.program_reports import ProgramReports
from hpsearch.worker.stage_worker import QUICK_PATIENCE, StageWorker
from hpsearch.worker.stopping import Stop
from hpsearch.worker.suggesting import Suggestions
from hpsearch.worker.trial_folders import TrialFolders
from hpsearch.worker.trial_source import NothingResumed

LOOK_SECONDS = 0.2  # between two looks at leases and stops while the code says nothing
PRUNED_BY_CODE = "pruned by the objective"  # a reason


class ProgramWorker(StageWorker):
    """Works on one stage of an [objective] until no trial is left to take.

    Args: as of `StageWorker`; and a program of the objective that is started already, which ends with the work.
    """

    def __init__(
        self,
        db: Database,
        study: StudyRow,
        plan: StagePlan,
        run: RunConfig,
        listener: Listener | None = None,
        stop: Stop | None = None,
        program: Program | None = None,
    ) -> None:
        super().__init__(db, study, plan, run, listener, stop)
        objective = plan.trial_config.objective
        assert objective is not None, "a stage of our own has no program"
        self.objective: ObjectiveConfig = objective
        self.direction = direction_of(study)
        self.record = stage_record(study)
        self.metric = self.record.metric(self.direction)
        self.last_epochs: dict[int, int] = {}
        """Of trials that are over: what each reported last, 0 where it was nothing."""
        self.checkpoints = NothingResumed()
        rows = self._insist(lambda: read_trials(db, study))
        self.num_trials = len(rows)
        earlier = self._insist(lambda: read_earlier_trials(db, study, plan))
        self.mirror = make_mirror(study, plan, rows, self.metric, earlier)
        self.suggestions = Suggestions(self.queue, plan, self.mirror, self._insist) if objective.defines else None
        """Of an objective that says its ranges as it runs."""
        self.calls_again = CallsAgain(self.queue, plan, earlier, self.direction, self._insist, self._wait_until_written)
        self.folders = TrialFolders(
            db,
            plan,
            study,
            run,
            self.direction,
            best_trials(rows, self.direction),
            num_candidates(plan.config, plan.kind),
        )
        self.pace = ProgramPace(self.stop, objective.timeout)
        self.width = 1
        self.endings = ProgramEndings(
            self.direction,
            mirror=self.mirror,
            suggestions=self.suggestions,
            folders=self.folders,
            failures=ProgramFailures(any(observe(row, self.direction).value is not None for row in rows)),
            finish=self._finish,
            note=self.listener.note,
        )
        self.device = str(resolve_device(run.device))
        self.program = program or Program(objective, self.device)
        self.attempts = ProgramAttempts(self.folders, self.program)
        self.reports = ProgramReports(
            objective,
            plan.settings,
            mirror=self.mirror,
            rungs=self.rungs,
            attempts=self.attempts,
            endings=self.endings,
            record=lambda recorded: self.writer.record(recorded),
            listener=self.listener,
        )
        self.started = standing(
            study.name,
            rows,
            self.record.num_epochs,
            engine="program",
            width=1,
            device=self.device,
            metric=self.metric,
        )

    @override
    def run(self) -> None:
        try:
            with phase("imports"):
                self.program.start()
            super().run()
        except UnreadyError as error:
            raise RefusedError(str(error)) from None
        finally:
            self.program.end()

    @override
    def _train_held(self) -> None:
        for trial in list(self.held.values()):
            if self.attempts.goes_on(trial):
                self.listener.note(f"trial {trial.lease.number} goes on from its checkpoint")
        with phase("trials"):
            for number, trial in self.held.items():
                self.calls_again.begin(trial)
                if self.mirror is not None and is_called_again(trial):
                    self.mirror.call_again(number, trial.lease.attrs[attributes.AGAIN])
            if self.suggestions is not None:
                for trial in self.held.values():
                    self.suggestions.begin(trial)
            else:
                self.source.propose_params(self.held, self.held)
        for number in list(self.held):
            self._run_trial(number)
            self._hear_news()

    def _run_trial(self, number: int) -> None:
        """One trial to its end, however it ends."""
        trial = self.held[number]
        self.reports.begin(trial)
        self.pace.begin()
        self.program.begin(self._task(trial))
        advised = ""
        while True:
            event = self.program.next(LOOK_SECONDS)
            self._hear_news()
            if number not in self.held:  # another worker's now
                self.program.end()
                return
            match event:
                case Suggest() if self.suggestions is not None:
                    self.program.suggest(self.suggestions.answer(trial, event))
                    self.pace.hear()
                case Noted(name, kept):
                    trial.noted[name] = kept
                case Reported():
                    self.pace.hear_report()
                    tell("first epoch")
                    ending = self.reports.hear(trial, event)
                    advised = ""
                    if ending is not None and self.suggestions is not None and ending.last is None:
                        advised = str(ending.attrs[attributes.REASON])  # whether it ends is for the code to say
                        ending = None
                    if ending is not None:
                        leave(self.program, str(ending.attrs[attributes.REASON]), trial)
                        self.endings.end(ending)
                        return
                    if self.stop.requested is not None:
                        leave(self.program, "stopped", trial)
                        self.stop.raise_if_requested()
                    self.program.answer(advised, advice=True)
                case Ended(value):
                    self.pace.hear_end(has_reported=bool(trial.results))
                    self._note_missed_rungs(trial)
                    self.endings.complete(trial, value)
                    return
                case Pruned():
                    self.endings.end(self.endings.stopped(trial, advised or PRUNED_BY_CODE))
                    return
                case Broken(reason, trace, killed):
                    if not killed or not self._waits_again(trial, reason):
                        self.endings.fail(trial, reason, trace)
                    return
                case Left():  # it raised our exception without having been told to
                    self.endings.fail(trial, "TrialEnded was raised by the objective itself")
                    return
            self.pace.wait()
            if self.pace.is_drained:
                self.program.end()
                self.stop.raise_if_requested()
            if self.pace.is_silent:
                self.program.end()
                self.endings.fail(trial, f"no word for {self.objective.timeout:g} s (objective.timeout)")
                return

    def _task(self, trial: HeldTrial) -> Task:
        number = trial.lease.number
        checkpoint = self.folders.checkpoint(number)
        checkpoint.mkdir(parents=True, exist_ok=True)
        return Task(
            number=number,
            study=self.study.name,
            params={**self.objective.params, **trial.lease.params},
            epochs=self.plan.settings.epochs,
            seed=seed_of_call(self.objective.seed, number, trial.lease.attrs),
            device=self.device,
            checkpoint=str(checkpoint.absolute()),
            earlier=tuple((result.epoch, result.val_score) for result in trial.results),
            output=str(self.folders.output(number).absolute()),
        )

    def _note_missed_rungs(self, trial: HeldTrial) -> None:
        """Where the first trial of a stage was asked at no rung: one worker has it, so it is said once."""
        if trial.lease.number == 0:
            missed = missed_rungs(self.record, [[result.epoch for result in trial.results]])
            if missed is not None:
                self.listener.note(missed)

    def _waits_again(self, trial: HeldTrial, reason: str) -> bool:
        """Give back a trial whose process was killed, where it can go on and has not been killed too often."""
        number = trial.lease.number
        if not self.attempts.may_go_on(trial):
            return False
        self.listener.note(f"trial {number}: {reason}; it goes on from its checkpoint")
        self.writer.wait(QUICK_PATIENCE)
        self.writer.let_go([self.held.pop(number).lease])
        self._insist(lambda: self.queue.release([trial.lease]))
        return True

    def _finish(self, outcome: Outcome) -> None:
        trial = self.held.pop(outcome.lease.number)
        self.last_epochs[trial.lease.number] = trial.results[-1].epoch if trial.results else 0
        outcome = replace(outcome, attrs={**of_user(trial.noted), **outcome.attrs})
        self.writer.finish([outcome])
        if outcome.state != "COMPLETE":
            self.folders.drop_checkpoint(outcome.lease.number)

    @override
    def _event(self, outcome: Outcome, num_finished: int) -> TrialFinished:
        last = self.last_epochs.pop(outcome.lease.number, 0)
        return as_finished(outcome, num_finished, self.num_trials, last, self.metric, self.record.step_name)

    @override
    def _forget(self, number: int) -> None:
        self.held.pop(number, None)

    @override
    def _at_rest(self) -> None:
        self.program.end()
