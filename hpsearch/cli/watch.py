"""status --watch: the command center in a terminal. Each look is a short read; nothing here keeps a writer waiting."""

from __future__ import annotations

import json
import math
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import typer
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.table import Table
from rich.text import Text

from hpsearch.analysis.repeats import chosen_text
from hpsearch.analysis.snapshots import Snapshot, Watcher
from hpsearch.analysis.study_trials import params_text
from hpsearch.cli.curves import sparkline
from hpsearch.cli.trial import VERDICT_STYLES
from hpsearch.results import plain
from hpsearch.space import format_value
from hpsearch.storage import StorageAwayError, TrialRow
from hpsearch.wording import count_text, duration_text, trials_text, value_text

FEWEST_ROWS = 3  # of running and of best trials, however low the terminal
FRAMES = 4  # a second: how soon the page follows a terminal that changes its size
NARROW = 70  # columns; below, verdicts are left out
WIDE = 90  # columns; below, workers are left out


def follow(watcher: Watcher, interval: float, *, as_json: bool) -> None:
    """Look every `interval` seconds until the study is done: a page on a terminal, else a line per look.

    Ctrl-C ends it with exit code 130, SIGTERM with 143; the study goes on.
    """
    signal.signal(signal.SIGTERM, _terminated)
    screen = Console(markup=False, highlight=False, emoji=False)
    try:
        if as_json or not sys.stdout.isatty() or screen.is_dumb_terminal:
            _print_lines(watcher, interval, as_json)
        else:
            _draw(watcher, interval, screen)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _terminated(_signal: int, _frame: object) -> None:
    raise SystemExit(143)


def _print_lines(watcher: Watcher, interval: float, as_json: bool) -> None:
    while True:
        start = time.monotonic()
        try:
            snapshot = watcher.look()
        except StorageAwayError as away:
            print(f"note: {away}", file=sys.stderr, flush=True)
        else:
            print(json.dumps(plain(snapshot.as_dict())) if as_json else snapshot_line(snapshot), flush=True)
            if snapshot.done:
                return
        time.sleep(max(0.0, start + interval - time.monotonic()))


def _draw(watcher: Watcher, interval: float, screen: Console) -> None:
    page = Page(watcher.look())
    try:
        with Live(page, console=screen, screen=True, refresh_per_second=FRAMES) as live:
            while not page.snapshot.done:
                time.sleep(interval)
                try:
                    page = Page(watcher.look())
                except StorageAwayError as away:
                    page = Page(page.snapshot, note=str(away).splitlines()[0])
                live.update(page)
    finally:  # what was seen last stays, after the screen is as it was before
        screen.print(page)


def snapshot_line(snapshot: Snapshot) -> str:
    """`coarse: 412 of 2000 trials, 96 running, 103 exploded, best 0.9757 (trial 54), ...`."""
    parts = [
        f"{snapshot.num_finished} of {count_text(snapshot.num_trials, 'trial')}",
        f"{snapshot.num_running} running",
    ]
    if snapshot.work is not None:
        done, budget = snapshot.work
        parts[0] = f"{done} of {count_text(budget, 'epoch')}, {count_text(snapshot.num_finished, 'trial')} ended"
    if snapshot.num_paused:
        parts.append(f"{snapshot.num_paused} waiting at rungs")
    if snapshot.num_pruned:
        parts.append(f"{snapshot.num_pruned} pruned")
    if snapshot.num_exploded:
        parts.append(f"{snapshot.num_exploded} exploded")
    if snapshot.counts["FAIL"]:
        parts.append(f"{snapshot.counts['FAIL']} failed")
    if snapshot.best:
        best = snapshot.best[0]
        called = [snapshot.called[best.number]] if best.number in snapshot.called else []
        parts.append(f"best {snapshot.value_name} {chosen_text(best.value, called)} (trial {best.number})")
    if snapshot.trials_per_minute is not None:
        parts.append(_speed_text(snapshot))
    if snapshot.abandoned:
        parts.append("no worker is at it")
    elif snapshot.seconds_left is not None and not snapshot.done:
        parts.append(f"{duration_text(snapshot.seconds_left)} left")
    return f"{snapshot.study}: {', '.join(parts)}"


def _speed_text(snapshot: Snapshot) -> str:
    epochs = f", {snapshot.epochs_per_second:,.1f} epochs/s" if snapshot.epochs_per_second is not None else ""
    return f"{snapshot.trials_per_minute:,.0f} trials/min{epochs}"


@dataclass(frozen=True)
class Page:
    """A snapshot as large as the terminal allows."""

    snapshot: Snapshot
    note: str | None = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Lay it out for the width and height there are now."""
        width, height = options.max_width, options.height or console.height
        head = self._head(width)
        room = height - len(head) - 5  # two headings, two empty lines, how many are hidden
        num_best = min(len(self.snapshot.best), max(FEWEST_ROWS, room // 2))
        num_running = min(len(self.snapshot.running), max(FEWEST_ROWS, room - num_best))
        parts: list[RenderableType] = [*head]
        if num_running:
            parts += [Text(), self._running(width, num_running)]
            if hidden := len(self.snapshot.running) - num_running:
                parts.append(Text(f"{'…':>7}  {hidden} more", style="dim"))
        if num_best:
            parts += [Text(), self._best(width, num_best)]
        yield Group(*parts)

    def _head(self, width: int) -> list[Text]:
        """Counts, progress, speed, explosions: a line each."""
        s = self.snapshot
        progress = f"{s.num_finished} of {trials_text(s.num_trials, s.num_epochs)}  "
        if s.work is not None:
            progress = f"{s.work[0]} of {count_text(s.work[1], 'epoch')}  "
        lines = [_line(s.study, progress, _bar(s, min(width // 3, width - 9 - len(progress))))]
        counts = [f"{s.num_running} running", f"{s.counts['WAITING']} waiting"]
        if s.num_paused:
            counts.append(f"{s.num_paused} at rungs")
        if s.work is not None:  # as many trials as fit
            counts[1] = f"{s.num_finished} ended"
        if s.num_pruned:
            counts.append(f"{s.num_pruned} pruned")
        if s.counts["FAIL"]:
            counts.append(f"{s.counts['FAIL']} failed")
        if s.num_finished < s.num_trials or len(counts) > 2:
            lines.append(_line("now", " · ".join(counts)))
        if s.done:
            lines.append(_line("done", "nothing waits or runs any more"))
        elif s.abandoned:
            lines.append(_line("note", "no worker is at it; the command that began it goes on with it"))
        elif s.trials_per_minute is not None:
            left = f" · {duration_text(s.seconds_left)} left" if s.seconds_left is not None else ""
            lines.append(_line("speed", _speed_text(s).replace(", ", " · ") + left))
        else:
            lines.append(_line("speed", "measuring"))
        if s.num_exploded:
            lines.append(_line("exploded", f"{s.num_exploded} ({s.num_exploded / s.num_finished:.0%})", _explosions(s)))
        if self.note:
            lines.append(_line("note", self.note))
        for line in lines:
            line.truncate(width, overflow="ellipsis")
        return lines

    def _running(self, width: int, num_rows: int) -> Table:
        s, curves = self.snapshot, self._has_curves
        table = _table("running", s.value_name, width, curves=curves)
        if curves or s.num_epochs:
            table.add_column(s.step_name, justify="right", no_wrap=True, min_width=5)
        if wide := width >= WIDE:
            table.add_column("worker", no_wrap=True, overflow="ellipsis", max_width=18)
        ends = _ends(s.running[:num_rows], s.best)
        for trial in s.running[:num_rows]:
            epoch = max(trial.intermediate, default=0)
            last = trial.intermediate[epoch] if trial.intermediate else None
            cells = _cells(trial, last, width, ends, curves=curves)
            if curves or s.num_epochs:
                cells.append(f"{epoch}/{s.num_epochs}" if s.num_epochs else str(epoch or "-"))
            worker = s.workers.get(trial.number)
            said = Text("dead", "red") if worker in s.dead else Text(_short_worker(worker))
            table.add_row(*_text(cells), *([said] * wide))
        return table

    def _best(self, width: int, num_rows: int) -> Table:
        s = self.snapshot
        table = _table("best", s.value_name, width, curves=self._has_curves)
        if judged := width >= NARROW and bool(s.diagnoses):
            table.add_column("verdict", no_wrap=True)
        ends = _ends(s.best[:num_rows])
        for trial in s.best[:num_rows]:
            diagnosis = s.diagnoses.get(trial.number)
            verdict = Text(diagnosis.verdict, VERDICT_STYLES[diagnosis.verdict]) if diagnosis else Text("-")
            cells = _cells(trial, s.value_of(trial), width, ends, curves=self._has_curves)
            table.add_row(*_text(cells), *([verdict] * judged))
        return table

    @property
    def _has_curves(self) -> bool:
        """Whether trials report anything on their way; some objectives do not."""
        seen = (*self.snapshot.running, *self.snapshot.best)
        return not self.snapshot.best or any(trial.intermediate for trial in seen)


def _ends(*groups: Sequence[TrialRow]) -> tuple[float, float]:
    """The lowest and highest value of these trials: the sparklines of a table share them, so rows can be compared."""
    values = [v for trials in groups for trial in trials for v in trial.intermediate.values() if math.isfinite(v)]
    return min(values, default=0.0), max(values, default=1.0)


def _cells(trial: TrialRow, value: float | None, width: int, ends: tuple[float, float], *, curves: bool) -> list[str]:
    curve = sparkline(list(trial.intermediate.values()), _curve_width(width), *ends)
    return [str(trial.number), value_text(value), *([curve] * curves), params_text(trial) or "not drawn yet"]


def _line(label: str, text: str, rest: Text | None = None) -> Text:
    return Text.assemble((f"{label:<8} ", "bold"), text, rest or "")


def _bar(snapshot: Snapshot, width: int) -> Text:
    """Finished, running and waiting trials, readable without colour."""
    total = max(1, snapshot.num_trials)
    finished = width * snapshot.num_finished // total
    if snapshot.work is not None:
        done, budget = snapshot.work
        return Text.assemble(("█" * (width * done // budget), "green"), ("░" * (width - width * done // budget), "dim"))
    running = min(width - finished, -(-width * snapshot.num_running // total))
    rest = width - finished - running
    return Text.assemble(("█" * finished, "green"), ("▒" * running, "cyan"), ("░" * rest, "dim"))


def _explosions(snapshot: Snapshot) -> Text:
    """`over lr 1e-05 ····▁▃▇█ 1e+00`: the share of exploded trials in each part of the range."""
    if snapshot.lr_range is None:
        return Text()
    low, high = (format_value(end, snapshot.lr_range) for end in (snapshot.lr_range.low, snapshot.lr_range.high))
    bars = "".join("·" if not share else sparkline([share], 1) for share in snapshot.exploded_over_lr)
    return Text.assemble(f"  over lr {low} ", (bars, "red"), f" {high}")


def _curve_width(width: int) -> int:
    return 24 if width >= 110 else 12 if width >= NARROW else 8


def _table(title: str, value_name: str, width: int, *, curves: bool) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(title, justify="right", no_wrap=True, min_width=7)
    table.add_column(value_name, justify="right", no_wrap=True, min_width=len(value_name))
    if curves:
        table.add_column("curve", no_wrap=True, min_width=_curve_width(width), style="cyan")
    table.add_column("hyperparameters", no_wrap=True, overflow="ellipsis")
    return table


def _text(cells: Sequence[str]) -> list[Text]:
    """What comes from the database is text, never markup."""
    return [Text(cell) for cell in cells]


def _short_worker(worker: str | None) -> str:
    """`host/pid` of `host-hash/pid/random`."""
    if worker is None:
        return "-"
    host, _, rest = worker.partition("/")
    return f"{host.rpartition('-')[0] or host}/{rest.partition('/')[0]}"
