"""What a study says, as the Markdown note that the dashboard shows beside it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from hpsearch.analysis.advice_form import Advice
from hpsearch.analysis.diagnosis import Diagnosis
from hpsearch.analysis.gain import ahead_once_text
from hpsearch.analysis.study_trials import StudyTrials
from hpsearch.analysis.summary import StageSummary
from hpsearch.config import Range
from hpsearch.space import Verdict, format_range, format_value
from hpsearch.stages.next_ranges import planned_summary
from hpsearch.wording import count_text

END = "*hpsearch writes what is above; what is below is yours.*"
WORDS = {"inside": "inside", "lower": "**at the lower end**", "upper": "**at the upper end**", "single": "fixed"}


def as_markdown(text: object) -> str:
    """Anything as text that Markdown shows and does not read: punctuation escaped, on one line."""
    printable = "".join(char if char.isprintable() else " " for char in str(text))
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", printable)


def study_note(evidence: StudyTrials, diagnoses: Mapping[int, Diagnosis], advice: Advice) -> str:
    """The best trial, where it lies in the ranges, where these came from, how the trials went, what to do next."""
    summary = planned_summary(evidence)
    parts = [f"## {as_markdown(summary.study)}", _counts(summary)]
    if (best := summary.best) is not None:
        params = [f"{name} {format_value(value, best.ranges.get(name))}" for name, value in best.params.items()]
        parts.append(
            f"**Best:** trial {best.number}, {as_markdown(summary.value_name)} {summary.best_text}"
            + "".join(f", {as_markdown(param)}" for param in params)
        )
    if summary.ahead_once is not None:
        parts.append(f"**Once:** {as_markdown(ahead_once_text(summary.ahead_once, summary.metric))}")
    if summary.verdicts:
        rows = [
            f"| {as_markdown(verdict.param)} | {as_markdown(format_range(evidence.ranges[verdict.param]))} "
            f"| {as_markdown(format_value(verdict.best, verdict.proposed))} | {_place(verdict)} "
            f"| {as_markdown(format_range(verdict.proposed))} |"
            for verdict in summary.verdicts
        ]
        head = "| hyperparameter | searched | best | the best is | search next |\n|---|---|---|---|---|"
        parts.append("\n".join([head, *rows]))
        reasons = [f"- {as_markdown(verdict.param)}: {as_markdown(verdict.reason)}" for verdict in summary.verdicts]
        parts.append("\n".join(reasons))
    parts += _provenance(evidence)
    if summary.together is not None:
        parts.append(f"**Together:** {as_markdown(summary.together.text)}")
    if diagnoses:
        verdicts = Counter(diagnosis.verdict for diagnosis in diagnoses.values())
        parts.append("**Trials:** " + " · ".join(f"{number} {verdict}" for verdict, number in verdicts.most_common()))
        if best is not None and best.number in diagnoses:
            found = diagnoses[best.number]
            parts.append(
                f"**The best of them is {found.verdict}:** {as_markdown('; '.join([found.advice, *found.notes]))}"
            )
    parts.append(f"**Next:** {as_markdown(advice.sentence)}")
    parts += [as_markdown(advice.command)] if advice.command is not None else []
    if advice.other_command is not None:
        parts += [as_markdown(advice.other_sentence), as_markdown(advice.other_command)]
    return "\n\n".join(parts)


def joined(note: str, stored: str) -> str:
    """A new note in the place of the one that is stored; what people wrote there is kept."""
    _, sign, theirs = stored.partition(END)
    theirs = (theirs if sign else stored).strip()
    return f"{note}\n\n{END}" + (f"\n\n{theirs}" if theirs else "")


def _place(verdict: Verdict) -> str:
    return "at its limit" if verdict.at_limit else WORDS[verdict.verdict]


def _counts(summary: StageSummary) -> str:
    num_waiting = summary.counts.get("WAITING", 0)
    open_ones = {"running": summary.num_running, "waiting at rungs": summary.num_paused, "waiting": num_waiting}
    ended = {"pruned": summary.num_pruned, "exploded": summary.num_exploded, "failed": summary.counts.get("FAIL", 0)}
    complete = summary.num_finished - sum(ended.values())
    parts = [f"{number} {how}" for how, number in {"complete": complete, **ended, **open_ones}.items() if number]
    return f"{count_text(summary.num_trials, 'trial')}: {', '.join(parts)}" if parts else "no trials yet"


def _provenance(evidence: StudyTrials) -> list[str]:
    record = evidence.record
    if not record.source:
        return []
    rows = []
    for row in record.ranges:
        old, new = (_bounds(bounds, evidence.ranges.get(row.param)) for bounds in (row.old, row.new))
        rows.append(f"- {as_markdown(row.param)}: {old} → {new}, {as_markdown(row.reason)}")
    return [f"**Ranges from** {as_markdown(record.source)}:", "\n".join(rows)]


def _bounds(bounds: Sequence[Any] | None, range_: Range | None) -> str:
    if bounds is None:
        return as_markdown("-")
    return as_markdown(f"[{', '.join(format_value(bound, range_) for bound in bounds)}]")
