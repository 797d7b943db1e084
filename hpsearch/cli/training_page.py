"""A training as it is drawn while it runs: how far it is, a row per seed, the curves; as the terminal allows."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from hpsearch.cli.curves import sparkline
from hpsearch.cli.output import LABEL
from hpsearch.cli.time_left import TimeLeft
from hpsearch.cli.training_curves import training_charts
from hpsearch.results import EpochResult, best_epoch
from hpsearch.stages.listener import StageStarted, TrialFinished
from hpsearch.wording import count_text, value_text

WIDEST = 110  # columns; curves stretched further are no easier to read
FEWEST_RUNS = 3  # shown of many seeds, however low the terminal
CURVE = 24  # columns of a run's curve beside its numbers


class Page:
    """Runs and their epochs so far; drawn anew with each look.

    Args:
        event: how the training stood when work on it began.
        first_seed: of run 0.
        estimate: seconds that the work was thought to take; None if nobody knows.
    """

    def __init__(self, event: StageStarted, first_seed: int, estimate: float | None) -> None:
        self.study, self.num_runs, self.num_epochs = event.study, event.num_trials or 0, event.num_epochs or 1
        self.first_seed, self._estimate, self.metric = first_seed, estimate, event.metric
        self.runs: dict[int, dict[int, EpochResult]] = {}
        """By number of the trial and by epoch."""
        self.ended: dict[int, TrialFinished] = {}
        self._begun = time.monotonic()
        self._left: TimeLeft | None = None

    def begin(self) -> None:
        """From here on the clock counts: what was added before was trained earlier."""
        self._begun = time.monotonic()
        self._left = TimeLeft(self._begun, self._done(), self._estimate)

    def add(self, results: Iterable[EpochResult]) -> None:
        """More epochs, or the same again."""
        for result in results:
            self.runs.setdefault(result.number, {})[result.epoch] = result
        if self._left is not None:
            self._left.advance(self._done(), time.monotonic())

    def end(self, event: TrialFinished) -> None:
        """A run has ended."""
        self.ended[event.number] = event
        if self._left is not None:
            self._left.advance(self._done(), time.monotonic())

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Lay it out for the width and height there are now."""
        width, height = min(options.max_width, WIDEST), options.height or console.height
        lines = [self._head()]
        if self.num_runs > 1:
            lines += self._rows(max(FEWEST_RUNS, min(self.num_runs, height - 1 - 2 * 8)))
        runs = {number: [epochs[e] for e in sorted(epochs)] for number, epochs in sorted(self.runs.copy().items())}
        if runs:
            rows, focus = height - len(lines) - 1, self._focus(list(runs))
            lines += training_charts(runs, width, rows, end=self.num_epochs, focus=focus, metric=self.metric)
        for text in lines:
            text.no_wrap, text.overflow = True, "crop"
            yield text

    def _focus(self, numbers: Sequence[int]) -> tuple[int, str] | None:
        """Of several seeds, one that trains: the mean of curves that end at different epochs would mislead."""
        if self.num_runs == 1:
            return None
        number = min((n for n in numbers if n not in self.ended), default=numbers[-1])
        return number, f"seed {self.first_seed + number}"

    def _done(self) -> float:
        """Share of all epochs; those that an ended run did not train count."""
        epochs = [self.num_epochs if number in self.ended else len(self.runs.get(number, ())) for number in self._all]
        return sum(epochs) / (self.num_runs * self.num_epochs)

    @property
    def _all(self) -> range:
        return range(self.num_runs)

    def _head(self) -> Text:
        text = Text.assemble((f"{self.study:<{LABEL - 1}} ", "bold"))
        if self.num_runs == 1:
            epochs = self.runs.get(0, {})
            text.append(f"epoch {max(epochs, default=0)}/{self.num_epochs}")
            if epochs:
                best, last = best_epoch(list(epochs.values()), self.metric.direction), epochs[max(epochs)]
                text.append(f"  {self.metric.column} {value_text(last.val_score)}")
                text.append(f"  best {value_text(best.val_score)} at {best.epoch}")
        else:
            text.append(
                f"{len(self.ended)} of {count_text(self.num_runs, 'seed')} x {count_text(self.num_epochs, 'epoch')}"
            )
        now = time.monotonic()
        text.append(f"  {_clock(now - self._begun)}")
        if self._left is not None and (left := self._left.seconds(now)) is not None:
            text.append(f"  left {_clock(left)}")
        return text

    def _rows(self, most: int) -> list[Text]:
        """The seeds that train now and those that ended last."""
        seen = sorted(self.runs.keys() | self.ended.keys())[-most:]
        values = [result.val_score for number in seen for result in self.runs.get(number, {}).values()]
        ends = (min(values, default=0.0), max(values, default=1.0))
        column = f"{self.metric.column:>7}"
        rows = [Text(f"{'seed':>8}  {'epoch':>7}  {column}  {'best':>6}  curve", "bold")] if seen else []
        for number in seen:
            epochs = self.runs.get(number, {})
            curve = [epochs[epoch].val_score for epoch in sorted(epochs)]
            last = value_text(curve[-1]) if curve else "-"
            best = value_text(self.metric.best(curve)) if curve else "-"
            place = f"{max(epochs, default=0)}/{self.num_epochs}"
            row = Text(f"{self.first_seed + number:>8}  {place:>7}  {last:>{len(column)}}  {best:>6}  ")
            row.append(sparkline(curve, CURVE, *ends), "cyan")
            if (event := self.ended.get(number)) is not None and event.state != "COMPLETE":
                row.append("  exploded" if event.state == "PRUNED" else "  failed", "red")
            rows.append(row)
        return rows


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
