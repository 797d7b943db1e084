"""What a study says, as the Markdown note that the dashboard shows beside it."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Mapping
from typing import Any

from hpsearch.analysis import attributes
from hpsearch.analysis.diagnosis import Diagnosis
from hpsearch.analysis.study_trials import StudyTrials
from hpsearch.analysis.summary import next_stage, stage_summary
from hpsearch.space import format_range, format_value

END = "*hpsearch writes what is above; what is below is yours.*"
WORDS = {"inside": "inside", "lower": "**at the lower end**", "upper": "**at the upper end**", "single": "fixed"}


def as_markdown(text: object) -> str:
    """Anything as text that Markdown shows and does not read: punctuation escaped, on one line."""
    printable = "".join(char if char.isprintable() else " " for char in str(text))
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", printable)


def study_note(evidence: StudyTrials, diagnoses: Mapping[int, Diagnosis]) -> str:
    """The best trial, where it lies in the ranges, where these came from, how the trials went, what to do next."""
    summary = stage_summary(evidence)
    parts = [f"## {as_markdown(summary.study)}", _counts(summary.num_trials, summary.counts, summary.num_exploded)]
    if (best := summary.best) is not None:
        params = [f"{name} {format_value(value, best.ranges.get(name))}" for name, value in best.params.items()]
        value = f"{best.value:.4f}" if best.value is not None else "-"
        parts.append(
            f"**Best:** trial {best.number}, {as_markdown(summary.value_name)} {value}"
            + "".join(f", {as_markdown(param)}" for param in params)
        )
    if summary.verdicts:
        rows = [
            f"| {as_markdown(verdict.param)} | {as_markdown(format_range(evidence.ranges[verdict.param]))} "
            f"| {as_markdown(format_value(verdict.best, verdict.proposed))} | {WORDS[verdict.verdict]} "
            f"| {as_markdown(format_range(verdict.proposed))} |"
            for verdict in summary.verdicts
        ]
        head = "| hyperparameter | searched | best | the best is | search next |\n|---|---|---|---|---|"
        parts.append("\n".join([head, *rows]))
        reasons = [f"- {as_markdown(verdict.param)}: {as_markdown(verdict.reason)}" for verdict in summary.verdicts]
        parts.append("\n".join(reasons))
    parts += _provenance(evidence)
    if diagnoses:
        verdicts = Counter(diagnosis.verdict for diagnosis in diagnoses.values())
        parts.append("**Trials:** " + " · ".join(f"{number} {verdict}" for verdict, number in verdicts.most_common()))
        if best is not None and best.number in diagnoses:
            found = diagnoses[best.number]
            parts.append(f"**The best one is {found.verdict}:** {as_markdown('; '.join([found.advice, *found.notes]))}")
    if best is not None:
        command = ["hpsearch", next_stage(summary.stage), "--from", summary.study]
        parts.append(f"**Next:** {as_markdown(shlex.join(command))}")
    return "\n\n".join(parts)


def joined(note: str, stored: str) -> str:
    """A new note in the place of the one that is stored; what people wrote there is kept."""
    _, sign, theirs = stored.partition(END)
    theirs = (theirs if sign else stored).strip()
    return f"{note}\n\n{END}" + (f"\n\n{theirs}" if theirs else "")


def _counts(num_trials: int, counts: Mapping[str, int], num_exploded: int) -> str:
    parts = [f"{number} {state.lower()}" for state, number in counts.items() if number]
    text = f"{num_trials} trials: {', '.join(parts)}" if parts else "no trials yet"
    return text + (f"; {num_exploded} exploded" if num_exploded else "")


def _provenance(evidence: StudyTrials) -> list[str]:
    provenance = evidence.study.attrs.get(attributes.PROVENANCE) or {}
    if not provenance.get("from"):
        return []
    rows = [
        f"- {as_markdown(row['param'])}: {_bounds(row.get('old'))} → {_bounds(row.get('new'))}, "
        f"{as_markdown(row.get('reason'))}"
        for row in provenance.get("ranges") or []
    ]
    return [f"**Ranges from** {as_markdown(provenance['from'])}:", "\n".join(rows)]


def _bounds(bounds: Any) -> str:
    if not isinstance(bounds, list):
        return as_markdown("-" if bounds is None else bounds)
    return as_markdown(f"[{', '.join(map(format_value, bounds))}]")
