"""What people see while the whole procedure runs: changed ranges, a stage's own progress, the decision after it."""

from __future__ import annotations

from contextlib import ExitStack

from hpsearch.cli.output import line, print_changes, print_stage
from hpsearch.cli.progress import data_progress, make_listener
from hpsearch.config import RunConfig, StudyConfig
from hpsearch.datasets.device import TrainingData
from hpsearch.search.checks.findings import CheckReport
from hpsearch.search.decision import Decision
from hpsearch.search.images import load_data
from hpsearch.search.plan import StagePlan
from hpsearch.search.procedure import ProcedureListener
from hpsearch.search.progress import Listener, StageStarted, TrialFinished
from hpsearch.search.summary import StageSummary


class ProcedureProgress(ProcedureListener):
    """Within a stage, the listener of `coarse` and `fine`; closed before anything else is printed."""

    def __init__(self, *, quiet: bool, as_json: bool) -> None:
        self.quiet, self.as_json = quiet, as_json
        self.stage: Listener = Listener()
        self._open = ExitStack()

    def __enter__(self) -> ProcedureProgress:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def load_images(self, config: StudyConfig, run: RunConfig) -> TrainingData:
        """`load_data` with a bar where files are decoded."""
        with data_progress(self.quiet or self.as_json) as progress:
            return load_data(config, run, progress)

    def stage_planned(self, plan: StagePlan) -> None:
        """See ProcedureListener."""
        if plan.changes and not (self.as_json or self.quiet):
            print_changes(plan.changes)

    def checked(self, report: CheckReport) -> None:
        """See ProcedureListener."""
        if not (self.as_json or self.quiet):
            line("checks", report.line())

    def stage_started(self, event: StageStarted) -> None:
        """See Listener."""
        self.stage = self._open.enter_context(make_listener(quiet=self.quiet, as_json=self.as_json))
        self.stage.stage_started(event)

    def epoch_finished(self, num_trials: int) -> None:
        """See Listener."""
        self.stage.epoch_finished(num_trials)

    def trial_finished(self, event: TrialFinished) -> None:
        """See Listener."""
        self.stage.trial_finished(event)

    def note(self, text: str) -> None:
        """See Listener."""
        self.stage.note(text)

    def stage_decided(self, summary: StageSummary, decision: Decision) -> None:
        """See ProcedureListener."""
        self._open.close()
        if self.as_json:
            return
        if summary.best is not None or decision.ending != "time":
            print_stage(summary)
        line("go on" if decision.go_on else "stop", decision.reason)
