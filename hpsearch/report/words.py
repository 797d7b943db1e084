"""The search in plain words: what was found, whether to believe it, what to do next. Pure."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from hpsearch.analysis import attributes
from hpsearch.analysis.decision import Limits, best_stage, decide
from hpsearch.analysis.diagnosis import VERDICTS, VerdictName
from hpsearch.analysis.summary import next_stage
from hpsearch.report.stage import StageData, value_text
from hpsearch.space import Verdict, format_range, format_value
from hpsearch.space.explosions import explosion_edges

ENDLESS = 1000  # stages: a report advises, it is not the loop that must end somewhere


@dataclass(frozen=True)
class Summary:
    """The top of the report. `flags` are sentences to be seen in red; `command` is what to type next."""

    best: str
    study: str | None
    sentences: tuple[str, ...]
    flags: tuple[str, ...]
    next_step: str
    command: str | None
    verdicts: dict[VerdictName, int]


def summarize(stages: Sequence[StageData]) -> Summary:
    """Sum up stages in the order in which they were made; the advice is about the last one."""
    last = stages[-1]
    lineage = lineage_of(last, stages)
    found = best_stage([stage.summary for stage in lineage])
    sentences = [_budget(lineage), *_exploded(last)]
    flags = [_boundary(last.name, verdict) for verdict in last.on_boundary]
    if last.best is not None and not flags and last.summary.verdicts:
        sentences.append(_inside(last))
    if diagnosis := last.diagnoses.get(last.best.number if last.best else -1):
        sentences.append(f"The best trial of {last.name} looks {diagnosis.verdict}: {diagnosis.advice}.")
    next_step, command = _next(lineage)
    counts = Counter(diagnosis.verdict for diagnosis in last.diagnoses.values())
    return Summary(
        best=_best(found.study, found.best.number) if found and found.best else "No trial has finished yet",
        study=found.study if found else None,
        sentences=tuple(sentences),
        flags=tuple(flags),
        next_step=next_step,
        command=command,
        verdicts={name: counts[name] for name in reversed(VERDICTS) if counts[name]},
    )


def lineage_of(last: StageData, stages: Sequence[StageData]) -> list[StageData]:
    """The stages that led to `last`, first one first, as far as they are at hand."""
    by_name = {stage.name: stage for stage in stages}
    chain = [last]
    while (source := by_name.get(chain[0].summary.source or "")) is not None and source not in chain:
        chain.insert(0, source)
    return chain


def _best(study: str, number: int) -> str:
    return f"trial {number} of {study}"


def _budget(lineage: Sequence[StageData]) -> str:
    parts = []
    for stage in lineage:
        summary = stage.summary
        ended = "" if summary.num_finished == summary.num_trials else f" ({summary.num_finished} ended)"
        epochs = f" of {summary.epochs} epochs" if summary.epochs else ""
        best = f", best {value_text(summary.best.value)}" if summary.best else ", none finished"
        parts.append(f"{stage.name}: {summary.num_trials} trials{epochs}{ended}{best}")
    return f"{'; '.join(parts)}."


def _exploded(stage: StageData) -> list[str]:
    num = stage.evidence.num_exploded
    if not num:
        return [f"Nothing exploded in {stage.name}."]
    text = f"{num} of {len(stage.trials)} trials of {stage.name} exploded"
    edge = _lr_edge(stage)
    return [f"{text}{edge}."]


def _lr_edge(stage: StageData) -> str:
    range_ = stage.evidence.ranges.get("lr")
    if range_ is None or "lr" not in stage.numeric_params:
        return ""
    tried = [o for o in stage.evidence.observations if "lr" in o.params]
    exploded = [o.params["lr"] for o in tried if o.outcome == "exploded"]
    survived = [o.params["lr"] for o in tried if o.outcome != "exploded"]
    edges = explosion_edges(range_, exploded, survived)  # type: ignore[arg-type]
    return f"; above lr {format_value(edges.high, range_)} every trial did" if edges.high is not None else ""


def _boundary(stage: str, verdict: Verdict) -> str:
    assert verdict.low is not None
    assert verdict.high is not None
    proposed = verdict.proposed
    searched = f"[{format_value(verdict.low, proposed)}, {format_value(verdict.high, proposed)}]"
    best = format_value(verdict.best, proposed)
    return (
        f"The best {verdict.param} of {stage}, {best}, sits at the {verdict.verdict} end of {searched}: "
        f"the range was wrong, better values may lie beyond. Proposed: {format_range(proposed)}."
    )


def _inside(stage: StageData) -> str:
    params = [verdict.param for verdict in stage.summary.verdicts if verdict.verdict == "inside"]
    return f"The best of {stage.name} is inside every range that was searched ({', '.join(params)})."


def _next(lineage: Sequence[StageData]) -> tuple[str, str | None]:
    last = lineage[-1]
    summary = last.summary
    if summary.num_finished < summary.num_trials:
        return (
            f"{last.name} is not finished: {summary.num_finished} of {summary.num_trials} trials have ended. "
            "The command that started it goes on where it was stopped.",
            f"hpsearch status {_quoted(last.name)}",
        )
    if last.best is None:
        if last.evidence.num_exploded:
            return "Everything that ended exploded: search lower learning rates.", None
        return f"No trial of {last.name} finished: look at why before searching on.", None
    if last.kind == attributes.TRAIN:
        return "Search around these values.", f"hpsearch {next_stage(last.kind)} --from {_quoted(last.name)}"
    fine = f"hpsearch fine --from {_quoted(last.name)}"
    if last.kind not in ("coarse", "fine"):
        return "Narrow the ranges to where trials did well, and search there.", fine
    decision = decide([stage.summary for stage in lineage], num_val_images(last), Limits(max_stages=ENDLESS))
    if decision.go_on:
        return f"Search on: {decision.reason}.", fine
    best = best_stage([stage.summary for stage in lineage])
    name = best.study if best else last.name
    return f"Stop searching: {decision.reason}. Now use the test set, once.", f"hpsearch test {_quoted(name)}"


def _quoted(name: str) -> str:
    return shlex.quote(name)


def num_val_images(stage: StageData) -> int:
    """How many validation images there were: accuracies are whole numbers of images, one image is their least step."""
    seen = sorted({epoch.val_acc for epochs in stage.epochs.values() for epoch in epochs})
    steps = [high - low for low, high in pairwise(seen) if high - low > 1e-6]
    return max(1, round(1 / min(steps))) if steps else 1
