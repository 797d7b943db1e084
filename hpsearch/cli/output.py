"""What people see of results: short tables and lines on stdout, no markup in what comes from the database."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from typing import TYPE_CHECKING, Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text
from typing_extensions import override

from hpsearch.analysis.folds import folds_text
from hpsearch.analysis.gain import ahead_once_text
from hpsearch.analysis.origins import origin_of
from hpsearch.analysis.repeats import curse_text, repeated_text
from hpsearch.analysis.study_trials import params_text
from hpsearch.space import format_value
from hpsearch.wording import count_text, duration_text, trials_text

if TYPE_CHECKING:
    from hpsearch.analysis.advice_form import Advice
    from hpsearch.analysis.summary import StageSummary
    from hpsearch.space import Verdict
    from hpsearch.storage import TrialRow

LABEL = 9  # columns of the word at the start of a line
WIDE = 400  # columns
MAX_REASONS = 3  # for which trials failed
MAX_CHARACTERS = 200  # of one of them


class _TextConsole(Console):
    """A console to which text is text: names in a database come from anyone, and a terminal obeys what they hold."""

    @override
    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=_printable(segment.text))


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() or char == "\n" else " " for char in text)


def console(*, stderr: bool = False) -> Console:
    """A console that takes text as it is: `[x]` is no markup, numbers get no colours, an escape is a blank."""
    here = _TextConsole(stderr=stderr, markup=False, highlight=False, emoji=False, soft_wrap=True)
    if not here.is_terminal:
        here.width = WIDE  # a file or a pipe has no edge at which to fold
    return here


def plain_line(text: str) -> str:
    """Text of anybody's on one line, without what a terminal would obey, and not endless."""
    shown = _printable(text).replace("\n", " ")
    return shown if len(shown) <= MAX_CHARACTERS else f"{shown[:MAX_CHARACTERS]}..."


def line(label: str, text: str, style: str | None = None) -> None:
    """One line with its word in front."""
    console().print(Text.assemble((f"{label:<{LABEL - 1}} ", "bold"), (text, style or "")))


def show_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], right: frozenset[str] = frozenset()) -> None:
    """A plain table; cells are text, never markup."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        table.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(_printable(str(cell))) for cell in row))
    console().print(table)


def searched_text(verdict: Verdict) -> str:
    """The range that was searched, `[1e-05, 1e+00]`; `-` for a choice."""
    if verdict.low is None or verdict.high is None:
        return "-"
    return f"[{format_value(verdict.low, verdict.proposed)}, {format_value(verdict.high, verdict.proposed)}]"


def stop_text(reason: str) -> str:
    """Why a trial ended before its last epoch, though it is complete: `stopped early`, `stopped by median`."""
    return reason if reason == "stopped early" else f"stopped by {reason}"


def verdict_text(verdict: Verdict) -> Text:
    """`lr inside [1e-05, 1e+00]`, in red where the best sits on an end."""
    if verdict.low is None:
        return Text(f"{verdict.param} {format_value(verdict.best)}")
    words = {"inside": "inside", "lower": "at the lower end of", "upper": "at the upper end of", "single": "fixed in"}
    text = f"{verdict.param} {words[verdict.verdict]} {searched_text(verdict)}"
    if verdict.at_limit:
        return Text(f"{text}, its limit")
    return Text(text, style="red" if verdict.verdict in ("lower", "upper") else "")


def print_stage(summary: StageSummary, advice: Advice | None = None) -> None:
    """The end of a stage, or how it stands: counts, best, boundary, what to do next."""
    parts = [f"{summary.num_finished} of {trials_text(summary.num_trials, summary.epochs)}"]
    if summary.spent is not None:
        is_over = summary.num_finished == summary.num_trials
        parts = [count_text(summary.num_finished if is_over else summary.num_begun, "trial")]
        parts[0] += f" of up to {count_text(summary.epochs, 'epoch')}" if summary.epochs is not None else ""
        parts += [] if is_over else [f"{summary.num_finished} ended"]
    others = {"pruned": summary.num_pruned, "exploded": summary.num_exploded, "failed": summary.counts.get("FAIL", 0)}
    parts += [f"{number} {how}" for how, number in others.items() if number]
    if summary.num_stopped_early:
        parts.append(f"{summary.num_stopped_early} stopped early")
    if summary.rounding is not None:
        parts.append(summary.rounding)
    if summary.seconds is not None:
        parts.append(duration_text(summary.seconds))
    line(summary.study, " · ".join(parts))
    if summary.spent is not None:
        line("budget", spent_text(summary))
    elif summary.num_finished == summary.num_trials:
        line("budget", f"spent: {summary.num_trials} of {count_text(summary.num_trials, 'trial')}")
    if summary.missed_rungs is not None:
        line("rungs", summary.missed_rungs, "red")
    if summary.diagnoses:
        line("trials", ", ".join(f"{number} {verdict}" for verdict, number in summary.diagnoses.items()))
    for reason, number in list(summary.failures.items())[:MAX_REASONS]:
        line("failed", f"{count_text(number, 'trial')}: {plain_line(reason)}", "red")
    if (left := len(summary.failures) - MAX_REASONS) > 0:
        line("failed", f"and {left} more errors; hpsearch trial {summary.study} N shows that of a trial", "red")
    if summary.best is not None:
        _print_best(summary, summary.best)
        if summary.stopped is not None and summary.num_finished == summary.num_trials:
            line("rungs", f"none came to its last epoch: {summary.stopped.text}", "red")
    elif summary.stopped is not None and summary.num_finished == summary.num_trials:
        line("best", f"none came to its last epoch: {summary.stopped.text}", "red")
    elif summary.num_finished == summary.num_trials:
        line("best", "none: no trial finished", "red")
    else:
        line("best", "none yet: no trial has finished")
    if summary.together is not None:
        line("ridge", summary.together.text)
    if summary.uses is not None and summary.uses.num:
        line("test", summary.uses.count_text)
    if advice is not None:
        print_advice(advice)


def spent_text(summary: StageSummary) -> str:
    """What a stage that counts by epochs has spent: `80 of 300 epochs, by 43 trials, 12 of them waiting at rungs`."""
    spent, budget = summary.spent or (0, None)
    done = "spent: " if summary.num_finished == summary.num_trials else ""
    if not spent and summary.num_complete and summary.metric.is_own:
        return f"{done}{count_text(summary.num_finished, 'trial')}; they report nothing, so no rung stops one"
    step = "epoch" if summary.epochs is not None else "step"  # of code that is told no number of epochs
    of = count_text(spent, step) if budget is None else f"{spent} of {count_text(budget, step)}"
    waiting = f", {summary.num_paused} of them waiting at rungs" if summary.num_paused else ""
    return f"{done}{of}, by {count_text(summary.num_begun, 'trial')}{waiting}"


def _print_best(summary: StageSummary, best: TrialRow) -> None:
    line("best", f"trial {best.number}  {summary.value_name} {summary.best_text}  {params_text(best)}")
    if (origin := origin_of(best.attrs)) is not None:
        line("origin", str(origin))
    for each in summary.repeated:
        line("again", repeated_text(each, summary.metric))
    if summary.ahead_once is not None:
        line("once", ahead_once_text(summary.ahead_once, summary.metric))
    if summary.repeated:
        line("luck", curse_text(summary.repeated, summary.metric))
    if said := folds_text(best):
        line("folds", said)
    if not summary.verdicts:  # nothing was searched
        return
    boundary = Text(f"{'boundary':<{LABEL}}", style="bold")
    for position, verdict in enumerate(summary.verdicts):
        boundary.append(" · " if position else "")
        boundary.append_text(verdict_text(verdict))
    console().print(boundary)


def print_advice(advice: Advice) -> None:
    """Why to search on or to stop, what to do, and the commands for it, ready to be pasted."""
    if advice.reason:
        line("go on" if advice.go_on else "stop", advice.reason)
    if text := "; ".join(part for part in (advice.text, advice.other_text) if part):
        line("advice", text)
    if advice.command is not None:
        line("next", advice.command)
    if advice.other_command is not None:
        line("or", advice.other_command)


@contextmanager
def document_alone(as_json: bool) -> Iterator[None]:
    """Within it, what the user's code prints goes to stderr where stdout is for a document."""
    with redirect_stdout(sys.stderr) if as_json else nullcontext():
        yield
