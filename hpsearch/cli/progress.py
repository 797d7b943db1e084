"""Progress of the trials of a stage: a bar on a terminal, one line per finished trial elsewhere."""

from __future__ import annotations

import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, TextIO

from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Column
from rich.text import Text

from hpsearch.analysis.called_again import MAX_FAILED, Called, best_value_of
from hpsearch.cli.output import console, stop_text
from hpsearch.cli.time_left import TimeLeft
from hpsearch.config.metric import ACCURACY, Metric
from hpsearch.stages.listener import Listener, StageStarted, TrialFinished
from hpsearch.wording import SMALL, count_text, value_text

LARGE = 1e6  # of values, in the line of a trial
WIDE = 100  # columns of a terminal from which on the bar has its full length


class TrialProgress(Listener):
    """Shows nothing."""

    def __enter__(self) -> TrialProgress:
        return self

    def __exit__(self, *_: object) -> None:
        return None


def make_progress(*, quiet: bool, as_json: bool, estimate: float | None = None, pack: float = 1.0) -> TrialProgress:
    """A bar when people watch, lines when a file or a pipe does; with --json both go to stderr.

    `estimate` is how many seconds the trials were thought to take, `pack` the share of them in the first pack.
    """
    if quiet:
        return TrialProgress()
    stream = sys.stderr if as_json else sys.stdout
    return TrialBar(estimate, pack) if stream.isatty() and sys.stderr.isatty() else TrialLines(stream)


class TrialLines(TrialProgress):
    """`val_acc: 0.412000, lr: 1.405206e-04, reg: 4.793564e-01, (1 / 100)`: one line per finished trial."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def stage_started(self, event: StageStarted) -> None:
        if event.num_finished:
            done, total = event.work or (event.num_finished, event.num_trials or 0)
            next_ = "going on" if done < total else "nothing is left to do"
            if event.num_trials is not None:
                how = f"{event.num_finished} of {count_text(event.num_trials, 'trial')} are finished"
            else:
                how = f"{done} of {count_text(total, 'epoch')} are trained"
            self.note(f"{event.study}: {how}; {next_}")
        if event.learning is not None:
            self.note(str(event.learning))

    def trial_finished(self, event: TrialFinished) -> None:
        print(trial_line(event), file=self.stream, flush=True)

    def note(self, text: str) -> None:
        print(f"note: {text}", file=sys.stderr, flush=True)


def trial_line(event: TrialFinished) -> str:
    """A finished trial as the lectures print it."""
    tail = ""
    if event.state == "COMPLETE":
        head = f"{event.metric.column}: {_number(event.value)}"
        if event.reason is not None:
            tail = f"{stop_text(event.reason)}{_where(event)}, "
        if event.again is not None:
            tail += f"trial {event.again} again, "
    elif event.state == "PRUNED":
        says_all = event.reason == "exploded" or (event.reason or "").startswith("pruned by")  # by the code itself
        head = f"{event.reason if says_all else f'pruned by {event.reason}'}{_where(event)}"
        if event.returned is not None:
            head = f"exploded: {event.metric.column} {event.returned}"
    else:
        head = f"failed: {event.reason}"
    return f"{head}, {plain_params(event.params)}, {tail}({_count(event)})"


def _count(event: TrialFinished) -> str:
    return f"{event.num_finished}" if event.num_trials is None else f"{event.num_finished} / {event.num_trials}"


def _number(value: float | None) -> str:
    """Six digits behind the point, unless they would not say what it is: an objective's values may be of any size."""
    if value is None:
        return "-"
    return f"{value:f}" if value == 0 or SMALL <= abs(value) < LARGE else f"{value:e}"


def _where(event: TrialFinished) -> str:
    return f" in {event.step_name} {event.epoch}" if event.epoch else ""


def plain_params(params: Mapping[str, Any]) -> str:
    """`lr: 1.405206e-04, reg: 4.793564e-01`."""

    def text(value: Any) -> str:
        if isinstance(value, float):
            return f"{value:e}"
        return str(list(value)) if isinstance(value, tuple) else str(value)

    return ", ".join(f"{name}: {text(value)}" for name, value in params.items())


class TrialBar(TrialProgress):
    """A bar over epochs of trials, or over trials that have none; with those finished, the best, how many pruned."""

    def __init__(self, estimate: float | None = None, pack: float = 1.0) -> None:
        self._estimate, self._pack = estimate, pack
        self._left: TimeLeft | None = None
        terminal = console(stderr=True)
        self.progress = Progress(
            TextColumn("{task.description}", style="bold", markup=False),
            BarColumn(bar_width=24 if terminal.width >= WIDE else 8),
            _Standing(Column(no_wrap=True)),
            TimeElapsedColumn(),
            TextColumn("left"),
            _Left(lambda: self._left),
            console=terminal,
        )
        self.task: TaskID | None = None
        self._has_work = False  # epochs are counted, so that none is missing where a trial ends
        self.num_epochs: int | None = None
        self.num_pruned = self.num_exploded = 0
        self._calls = CallsSoFar()
        self.metric = ACCURACY

    def __enter__(self) -> TrialProgress:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def stage_started(self, event: StageStarted) -> None:
        self.num_epochs, self.metric = event.num_epochs, event.metric
        self.num_pruned, self.num_exploded = event.num_pruned, event.num_exploded
        self._calls = CallsSoFar(event.calls)
        self._has_work = event.work is not None
        done, total = event.work or (
            event.num_finished * (event.num_epochs or 1),
            (event.num_trials or 0) * (event.num_epochs or 1),
        )
        self.task = self.progress.add_task(
            f"{event.study:<8}",
            total=total,
            completed=done,
            standing=self._standing(event.num_finished, event.num_trials),
        )
        self._left = TimeLeft(time.monotonic(), min(1.0, done / max(1, total)), self._estimate, self._pack)
        if event.learning is not None:
            self.note(str(event.learning))

    def epoch_finished(self, num_trials: int) -> None:
        if self.task is not None and self.num_epochs is not None:
            self._advance(num_trials)

    def trial_finished(self, event: TrialFinished) -> None:
        if self.task is None:
            return
        self._calls.ended(event)
        if event.state == "PRUNED":
            exploded = event.reason == "exploded"
            self.num_pruned += not exploded
            self.num_exploded += exploded
        elif event.state == "FAIL":
            self.progress.console.print(f"trial {event.number} failed: {event.reason}")
        if self.num_epochs is None:
            self._advance(1)
        elif not self._has_work:
            self._advance(max(0, self.num_epochs - event.epoch), trained=False)  # those that will not come
        self.progress.update(self.task, standing=self._standing(event.num_finished, event.num_trials))

    def note(self, text: str) -> None:
        self.progress.console.print(f"note: {text}")

    def _advance(self, num_epochs: int, *, trained: bool = True) -> None:
        """So many epochs of trials more are done, or will not be trained."""
        assert self.task is not None
        self.progress.advance(self.task, num_epochs)
        task = self.progress.tasks[self.progress.task_ids.index(self.task)]
        if self._left is not None and task.total:
            skipped = 0.0 if trained else num_epochs / task.total
            self._left.advance(min(1.0, task.completed / task.total), time.monotonic(), skipped)

    def _standing(self, num_finished: int, num_trials: int | None) -> str:
        parts = [f"{num_finished}/{num_trials}" if num_trials is not None else f"{num_finished} ended"]
        if (best := self._calls.best(self.metric)) is not None:
            text = f"{best:.3f}" if self.metric.is_accuracy else f"{self.metric.column} {value_text(best)}"
            parts.append(f"best {text}")
        parts += [f"{n} {how}" for n, how in ((self.num_pruned, "pruned"), (self.num_exploded, "exploded")) if n]
        return "  ".join(parts)


class CallsSoFar:
    """What the trials of a stage gave, and the calls of them again, as they end: whose best is shown."""

    def __init__(self, calls: Iterable[Called] = ()) -> None:
        self._called = {each.number: each for each in calls}
        self._failed: Counter[int] = Counter()

    def ended(self, event: TrialFinished) -> None:
        """Count a trial, or what it says of the one that it called again."""
        if event.again is None:
            if event.state == "COMPLETE" and event.value is not None and math.isfinite(event.value):
                self._called[event.number] = Called(event.number, event.value)
        elif (called := self._called.get(event.again)) is not None:
            if event.state == "FAIL":
                self._failed[event.again] += 1
                if self._failed[event.again] < MAX_FAILED:
                    return
            value = event.value if event.state == "COMPLETE" else None
            self._called[event.again] = replace(called, values={**called.values, event.number: value})

    def best(self, metric: Metric) -> float | None:
        """The value of the best one; None before any has one."""
        return best_value_of(self._called.values(), metric.direction)


class _Standing(ProgressColumn):
    def render(self, task: Any) -> Text:
        return Text(task.fields.get("standing", ""))


class _Left(ProgressColumn):
    def __init__(self, left: Callable[[], TimeLeft | None]) -> None:
        super().__init__()
        self._of = left

    def render(self, task: Any) -> Text:
        left = self._of()
        seconds = left.seconds(time.monotonic()) if left is not None else None
        if seconds is None:
            return Text("--:--", style="progress.remaining")
        minutes, rest = divmod(round(seconds), 60)
        hours, minutes = divmod(minutes, 60)
        return Text(f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes:02}:{rest:02}", "progress.remaining")
