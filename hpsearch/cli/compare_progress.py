"""Progress of a comparison: one bar over all its trials on a terminal, one line per finished search elsewhere."""

from __future__ import annotations

import sys
from typing import TextIO

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from hpsearch.cli.output import console
from hpsearch.config.metric import ACCURACY
from hpsearch.search.compare_samplers import ComparisonPlan
from hpsearch.search.listener import SearchListener
from hpsearch.stages.listener import StageStarted, TrialFinished
from hpsearch.stages.repeat_plan import RepeatPlan
from hpsearch.wording import value_text


def make_comparison_progress(plan: ComparisonPlan, stream: TextIO, *, quiet: bool) -> ComparisonProgress:
    """A bar when people watch, lines when a file or a pipe does, nothing if quiet."""
    if quiet:
        return ComparisonProgress(plan)
    return SearchBar(plan) if stream.isatty() and sys.stderr.isatty() else SearchLines(plan, stream)


class ComparisonProgress(SearchListener):
    """Counts searches and trials, and knows the best of the search that runs; shows nothing."""

    def __init__(self, plan: ComparisonPlan) -> None:
        self.num_searches = len(plan.samplers) * plan.num_repeats
        self.num_finished = self.num_exploded = 0
        self.best: float | None = None
        self.metric = ACCURACY
        self.trained = False
        """Whether the search that runs had trials left, and was not found finished."""

    def __enter__(self) -> ComparisonProgress:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def stage_started(self, event: StageStarted) -> None:
        """A search begins or goes on."""
        self.metric = event.metric
        self.trained, self.best, self.num_exploded = True, event.best_value, event.num_exploded

    def trial_finished(self, event: TrialFinished) -> None:
        """A trial of it has ended."""
        if event.state == "COMPLETE" and event.value is not None:
            self.best = event.metric.better(self.best, event.value)
        self.num_exploded += event.reason == "exploded"

    def search_finished(self, plan: RepeatPlan) -> None:
        """A search has ended, now or long ago."""
        self.num_finished += 1
        if self.trained:
            self.show(plan)
        self.trained = False

    def show(self, plan: RepeatPlan) -> None:
        """Say how a search ended."""

    @property
    def _of(self) -> str:
        return "" if self.metric.is_accuracy else f"{self.metric.column} "

    def _ended(self, plan: RepeatPlan) -> str:
        exploded = f", {self.num_exploded} exploded" if self.num_exploded else ""
        return f"{plan.sampler} {plan.repeat}: best {self._of}{value_text(self.best)}{exploded}"


class SearchLines(ComparisonProgress):
    """`random 3: best 0.9521, 2 exploded (7 / 20)`."""

    def __init__(self, plan: ComparisonPlan, stream: TextIO) -> None:
        super().__init__(plan)
        self.stream = stream

    def show(self, plan: RepeatPlan) -> None:
        """One line."""
        print(f"{self._ended(plan)} ({self.num_finished} / {self.num_searches})", file=self.stream, flush=True)

    def note(self, text: str) -> None:
        """To stderr."""
        print(f"note: {text}", file=sys.stderr, flush=True)


class SearchBar(ComparisonProgress):
    """A bar over all trials, with the last search that ended."""

    def __init__(self, plan: ComparisonPlan) -> None:
        super().__init__(plan)
        self.num_trials = plan.settings.trials
        self.progress = Progress(
            TextColumn("compare ", style="bold"),
            BarColumn(bar_width=24),
            TextColumn("{task.completed:.0f}/{task.total:.0f} trials  {task.description}", markup=False),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(compact=True),
            console=console(stderr=True),
        )
        self.task = self.progress.add_task("", total=self.num_searches * self.num_trials)

    def __enter__(self) -> ComparisonProgress:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def trial_finished(self, event: TrialFinished) -> None:
        """One step."""
        super().trial_finished(event)
        self.progress.advance(self.task)

    def search_finished(self, plan: RepeatPlan) -> None:
        """Also of one that was finished before: the bar stands where the trials do."""
        super().search_finished(plan)
        self.progress.update(self.task, completed=self.num_finished * self.num_trials)

    def show(self, plan: RepeatPlan) -> None:
        """Beside the bar."""
        self.progress.update(self.task, description=self._ended(plan))

    def note(self, text: str) -> None:
        """Above the bar."""
        self.progress.console.print(f"note: {text}")
