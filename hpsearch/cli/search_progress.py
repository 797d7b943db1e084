"""What people see while a stage, or a whole procedure, runs: images, checks, how long it takes, trials, decisions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from rich.status import Status
from typing_extensions import override

from hpsearch.analysis.decision import Decision
from hpsearch.analysis.records import Fitted
from hpsearch.analysis.summary import StageSummary
from hpsearch.cli.output import console, line, print_stage
from hpsearch.cli.plan_lines import print_changes
from hpsearch.cli.progress import TrialProgress, make_progress
from hpsearch.cli.waiting import data_progress
from hpsearch.search.checks.findings import CheckReport
from hpsearch.search.procedure import ProcedureListener
from hpsearch.stages.listener import StageStarted, TrialFinished
from hpsearch.stages.plan import StagePlan
from hpsearch.tuning.settling import Settled
from hpsearch.wording import duration_text

WORTH_SAYING = 60.0  # seconds of a search from which on its time is told before it begins


class SearchProgress(ProcedureListener):
    """Within a stage, a bar or lines of its trials; closed before anything else is printed.

    Args:
        quiet: show nothing but errors.
        as_json: leave standard output alone.
        shorter: says how a search that takes long is made shorter.
    """

    def __init__(
        self, *, quiet: bool, as_json: bool, shorter: Callable[[Settled], str] = lambda settled: shorter_text(settled)
    ) -> None:
        self.quiet, self.as_json, self._shorter = quiet, as_json, shorter
        self._silent = quiet or as_json
        self._trials: TrialProgress | None = None
        self._open = ExitStack()
        self._reading: tuple[Callable[[int, int], None] | None] | None = None
        self._checking: Status | None = None
        self._lock = threading.Lock()  # files are decoded by several threads
        self._estimate: float | None = None
        self._pack = 1.0

    def __enter__(self) -> SearchProgress:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    @override
    def planned(self, plan: StagePlan) -> None:
        for note in plan.notes:
            self.note(note)
        if plan.changes and not self._silent:
            print_changes(plan.changes)

    @override
    def reading_images(self, done: int, total: int) -> None:
        with self._lock:
            if self._reading is None:
                self._reading = (self._open.enter_context(data_progress(self._silent)),)
            (update,) = self._reading
        if update is not None:
            update(done, total)

    @override
    def images_read(self, notes: Sequence[str]) -> None:
        self._close()
        if not self._silent:
            for note in notes:
                line("images", note)

    @override
    def checking(self, what: str) -> None:
        terminal = console(stderr=True)
        if self._silent or not terminal.is_terminal:
            return
        if self._checking is None:
            self._checking = self._open.enter_context(terminal.status("checking"))
        self._checking.update(f"checking {what}")

    @override
    def checked(self, report: CheckReport) -> None:
        self._close()
        if not self._silent:
            line("checks", report.line())

    @override
    def settled(self, settled: Settled) -> None:
        self._close()
        self._estimate = settled.seconds
        self._pack = 1 / (settled.num_packs or 1)
        if self._silent:
            return
        if (fitted := settled.plan.fitted) is not None:
            line("fitted", fitted_text(settled.plan, fitted))
        unasked = settled.asked_precision == "auto" and settled.tuning is not None
        if settled.precision == "bfloat16" and unasked:
            line("note", "products in bfloat16, which is faster here; --set train.precision=float32 for none of it")
        if settled.seconds is not None and settled.seconds > WORTH_SAYING:
            shorter = f"; {self._shorter(settled)}" if settled.plan.fitted is None else ""
            line("time", f"about {duration_text(settled.seconds)}{shorter}")

    @override
    def stage_started(self, event: StageStarted) -> None:
        self._trials = self._open.enter_context(
            make_progress(quiet=self.quiet, as_json=self.as_json, estimate=self._estimate, pack=self._pack)
        )
        self._trials.stage_started(event)

    @override
    def epoch_finished(self, num_trials: int) -> None:
        if self._trials is not None:
            self._trials.epoch_finished(num_trials)

    @override
    def trial_finished(self, event: TrialFinished) -> None:
        if self._trials is not None:
            self._trials.trial_finished(event)

    @override
    def note(self, text: str) -> None:
        if self._trials is not None:
            self._trials.note(text)
        elif not self.quiet:
            console(stderr=True).print(f"note: {text}")

    @override
    def stage_decided(self, summary: StageSummary, decision: Decision) -> None:
        self._close()
        if self.as_json:
            return
        if summary.best is not None or decision.ending != "time":
            print_stage(summary)
        line(DECIDED.get(decision.ending, "stop"), decision.reason)

    def _close(self) -> None:
        """End whatever is drawn now."""
        self._open.close()
        self._trials, self._reading, self._checking = None, None, None


DECIDED = {None: "go on", "time": "so far", "stages": "so far"}
"""The word for how a decision ends the procedure: a limit of this call's is no reason for the search to stop."""


def fitted_text(plan: StagePlan, asked: Fitted) -> str:
    """What a stage has been given of what was asked for."""
    settings = plan.settings
    epochs = (
        ""
        if plan.config.objective and settings.epochs == asked.epochs
        else (f", {settings.epochs} of {asked.epochs} epochs")
    )
    time = f"({duration_text(asked.seconds)} for {plan.name})"
    return f"to the time {time}: {settings.trials} of {asked.trials} trials{epochs}"


def shorter_text(settled: Settled) -> str:
    """How the search of a command is made shorter, with numbers that fit it."""
    plan, settings = settled.plan, settled.plan.settings
    ways = []
    ends_none = plan.config.objective is None and not settings.has_rungs and settings.pruner == "none"
    if plan.kind == "coarse" and ends_none and settings.epochs > 2 and settings.trials > 10:
        ways.append(f"--epochs-budget {settings.trials * settings.epochs // 3}, most of it for the best trials")
    if settings.epochs_budget is not None:
        ways.append(f"--epochs-budget {max(1, settings.epochs_budget // 4)}")
    elif settings.trials > 10:
        ways.append(f"--trials {max(10, settings.trials // 4)}")
    if settings.epochs > 2 and settings.epochs_budget is None:
        ways.append(f"--epochs {max(2, settings.epochs // 2)}")
    if settled.plan.config.data.limit is None:
        ways.append("--set data.limit=N for fewer images")
    return f"shorter with {', '.join(ways)}" if ways else "Ctrl-C keeps what is finished"
