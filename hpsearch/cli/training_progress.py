"""What people see while a training runs: its curves on a terminal, a line per epoch elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import ClassVar

from rich.live import Live
from typing_extensions import override

from hpsearch.cli.output import console, line
from hpsearch.cli.search_progress import SearchProgress
from hpsearch.cli.training_page import Page
from hpsearch.results import EpochResult
from hpsearch.search.checks.findings import CheckReport
from hpsearch.stages.listener import StageStarted, TrialFinished
from hpsearch.stages.plan import StagePlan
from hpsearch.storage import StorageAwayError
from hpsearch.tuning.settling import Settled
from hpsearch.wording import value_text

FRAMES = 4  # a second


class TrainingProgress(SearchProgress):
    """Follows each epoch of each run.

    Args:
        quiet: show nothing but errors.
        as_json: leave standard output alone.
        past: reads the epochs of the runs that have ended.
    """

    follows_epochs: ClassVar[bool] = True

    def __init__(self, *, quiet: bool, as_json: bool, past: Callable[[], Mapping[int, Sequence[EpochResult]]]) -> None:
        super().__init__(quiet=quiet, as_json=as_json, shorter=_shorter_text)
        self._past = past
        self._page: Page | None = None
        self._is_drawn = False
        self.report: CheckReport | None = None

    @override
    def planned(self, plan: StagePlan) -> None:
        self._first_seed = plan.config.train.seed

    @override
    def checked(self, report: CheckReport) -> None:
        super().checked(report)
        self.report = report
        for finding in report.findings:
            if finding.advice and not self._silent:
                line("note", finding.advice, "yellow")

    @override
    def stage_started(self, event: StageStarted) -> None:
        self._page = Page(event, self._first_seed, self._estimate)
        with suppress(StorageAwayError):  # it costs a look at the past, not the training
            self._page.add(result for epochs in self._past().values() for result in epochs)
        self._page.begin()
        self._told = {number: max(epochs) for number, epochs in self._page.runs.items()}
        terminal = console(stderr=True)
        stream = sys.stderr if self.as_json else sys.stdout
        self._is_drawn = not self.quiet and stream.isatty() and terminal.is_terminal and not terminal.is_dumb_terminal
        if self._is_drawn:
            terminal.soft_wrap = False
            self._open.enter_context(Live(self._page, console=terminal, refresh_per_second=FRAMES, transient=True))
        elif event.num_finished and not self.quiet:
            self.note(f"{event.study}: {event.num_finished} of {event.num_trials} runs are finished; going on")

    @override
    def measured(self, results: Sequence[EpochResult], *, earlier: bool = False) -> None:
        if self._page is None:
            return
        self._page.add(results)
        if self._is_drawn or self.quiet:
            return
        for result in results:
            if result.epoch > self._told.get(result.number, 0):
                self._told[result.number] = result.epoch
                if not earlier:
                    print(self._epoch_line(result), file=sys.stderr, flush=True)

    @override
    def trial_finished(self, event: TrialFinished) -> None:
        if self._page is None:
            return
        self._page.end(event)
        if self._is_drawn or self.quiet or event.state == "COMPLETE":
            return
        how = f"exploded in epoch {event.epoch}" if event.state == "PRUNED" else f"failed: {event.reason}"
        print(f"{self._prefix(event.number)}{how}", file=sys.stderr, flush=True)

    @override
    def epoch_finished(self, num_trials: int) -> None:
        pass

    @override
    def note(self, text: str) -> None:
        if not self.quiet:
            console(stderr=True).print(f"note: {text}")

    def _epoch_line(self, result: EpochResult) -> str:
        """An epoch as the lectures print it."""
        assert self._page is not None
        metric = self._page.metric
        score = f"{metric.column}: {value_text(result.val_score)}, " if metric.is_apart else ""
        return (
            f"{self._prefix(result.number)}epoch {result.epoch} / {self._page.num_epochs}: cost {result.cost:f}, "
            f"val_loss {result.val_loss:f}, train: {result.train_acc:f}, val: {result.val_acc:f}, {score}"
            f"lr: {result.lr:e}"
        )

    def _prefix(self, number: int) -> str:
        assert self._page is not None
        return f"seed {self._first_seed + number}: " if self._page.num_runs > 1 else ""


def _shorter_text(settled: Settled) -> str:
    """How a training is made shorter."""
    epochs = settled.plan.settings.epochs
    ways = [f"--epochs {epochs // 2}"] if epochs > 1 else []
    return f"shorter with {', '.join([*ways, '--set data.limit=N for fewer images'])}"
