"""What a terminal shows while something else than trials is waited for."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from hpsearch.cli.output import console


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
