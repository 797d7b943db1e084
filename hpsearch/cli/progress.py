"""Progress of a running stage: a bar on a terminal, one line per finished trial elsewhere."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TextIO

from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from hpsearch.cli.output import console
from hpsearch.search.progress import Listener, StageStarted, TrialFinished


def make_listener(*, quiet: bool, as_json: bool) -> AbstractContextManager[Listener]:
    """A bar when people watch, lines when a file or a pipe does; with --json both go to stderr."""
    if quiet:
        return _Silent()
    stream = sys.stderr if as_json else sys.stdout
    return TrialBar() if stream.isatty() and sys.stderr.isatty() else TrialLines(stream)


class _Silent(Listener):
    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        return None


class TrialLines(_Silent):
    """`val_acc: 0.412000, lr: 1.405206e-04, reg: 4.793564e-01, (1 / 100)`: one line per finished trial."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def stage_started(self, event: StageStarted) -> None:
        if event.num_finished:
            self.note(f"{event.study}: {event.num_finished} of {event.num_trials} trials are finished; going on")
        if event.learning is not None:
            self.note(str(event.learning))

    def trial_finished(self, event: TrialFinished) -> None:
        print(trial_line(event), file=self.stream, flush=True)

    def note(self, text: str) -> None:
        print(f"note: {text}", file=sys.stderr, flush=True)


def trial_line(event: TrialFinished) -> str:
    """A finished trial as the lectures print it."""
    if event.state == "COMPLETE":
        head = f"val_acc: {event.value:f}"
    elif event.state == "PRUNED":
        head = f"{'exploded' if event.reason == 'exploded' else f'pruned by {event.reason}'} in epoch {event.epoch}"
    else:
        head = f"failed: {event.reason}"
    return f"{head}, {plain_params(event.params)}, ({event.num_finished} / {event.num_trials})"


def plain_params(params: Mapping[str, Any]) -> str:
    """`lr: 1.405206e-04, reg: 4.793564e-01`."""

    def text(value: Any) -> str:
        if isinstance(value, float):
            return f"{value:e}"
        return str(list(value)) if isinstance(value, tuple) else str(value)

    return ", ".join(f"{name}: {text(value)}" for name, value in params.items())


class TrialBar(_Silent):
    """A bar over epochs of trials, with trials finished, the best so far and how many were pruned."""

    def __init__(self) -> None:
        self.progress = Progress(
            TextColumn("{task.description}", style="bold", markup=False),
            BarColumn(bar_width=24),
            _Standing(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(compact=True),
            console=console(stderr=True),
        )
        self.task: TaskID | None = None
        self.num_epochs = self.num_pruned = self.num_exploded = 0
        self.best: float | None = None

    def __enter__(self) -> Listener:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def stage_started(self, event: StageStarted) -> None:
        self.num_epochs = event.num_epochs
        self.num_pruned, self.num_exploded, self.best = event.num_pruned, event.num_exploded, event.best_value
        self.task = self.progress.add_task(
            f"{event.study:<8}",
            total=event.num_trials * event.num_epochs,
            completed=event.num_finished * event.num_epochs,
            standing=self._standing(event.num_finished, event.num_trials),
        )
        if event.learning is not None:
            self.note(str(event.learning))

    def epoch_finished(self, num_trials: int) -> None:
        if self.task is not None:
            self.progress.advance(self.task, num_trials)

    def trial_finished(self, event: TrialFinished) -> None:
        if self.task is None:
            return
        if event.state == "COMPLETE" and event.value is not None:
            self.best = event.value if self.best is None else max(self.best, event.value)
        elif event.state == "PRUNED":
            exploded = event.reason == "exploded"
            self.num_pruned += not exploded
            self.num_exploded += exploded
            self.progress.advance(self.task, max(0, self.num_epochs - event.epoch))
        elif event.state == "FAIL":
            self.progress.console.print(f"trial {event.number} failed: {event.reason}")
            self.progress.advance(self.task, max(0, self.num_epochs - event.epoch))
        self.progress.update(self.task, standing=self._standing(event.num_finished, event.num_trials))

    def note(self, text: str) -> None:
        self.progress.console.print(f"note: {text}")

    def _standing(self, num_finished: int, num_trials: int) -> str:
        parts = [f"{num_finished}/{num_trials}"]
        if self.best is not None:
            parts.append(f"best {self.best:.3f}")
        parts += [f"{n} {how}" for n, how in ((self.num_pruned, "pruned"), (self.num_exploded, "exploded")) if n]
        return "  ".join(parts)


class _Standing(ProgressColumn):
    def render(self, task: Any) -> Text:
        return Text(task.fields.get("standing", ""))


@contextmanager
def data_progress(silent: bool) -> Iterator[Callable[[int, int], None] | None]:
    """A bar for reading many image files, drawn only when there is something to wait for."""
    if silent or not sys.stderr.isatty():
        yield None
        return
    progress = Progress(
        TextColumn("reading images", style="bold"),
        BarColumn(bar_width=24),
        TextColumn("{task.completed}/{task.total}"),
        TimeRemainingColumn(compact=True),
        console=console(stderr=True),
        transient=True,
    )
    task: TaskID | None = None
    lock = threading.Lock()  # files are decoded by several threads

    def update(done: int, total: int) -> None:
        nonlocal task
        with lock:
            if task is None:
                progress.start()
                task = progress.add_task("", total=total)
            progress.update(task, completed=done, total=total)

    try:
        yield update
    finally:
        progress.stop()


@contextmanager
def waiting(text: str, silent: bool) -> Iterator[Callable[[str], None]]:
    """A spinner on a terminal, for work of some seconds; gives a function that says what is being done."""
    terminal = console(stderr=True)
    if silent or not terminal.is_terminal:
        yield lambda _what: None
        return
    with terminal.status(text) as status:
        yield lambda what: status.update(f"{text} {what}")
