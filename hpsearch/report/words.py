"""The search in plain words: what was found, whether to believe it, what to do next. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from hpsearch.analysis.advice import search_so_far, what_next
from hpsearch.analysis.advice_form import Advice
from hpsearch.analysis.decision import best_stage, beyond_text, searched_beyond
from hpsearch.analysis.diagnosis import VERDICTS, VerdictName
from hpsearch.analysis.gain import ahead_once_text, called_later_text
from hpsearch.report.stage import StageData
from hpsearch.space import Verdict, format_range, format_value
from hpsearch.space.explosions import explosion_edges
from hpsearch.wording import count_text, listed_text


@dataclass(frozen=True)
class Summary:
    """The top of the report, about the best trial of all stages. `flags` are sentences to be seen in red."""

    best: str
    study: str | None
    sentences: tuple[str, ...]
    flags: tuple[str, ...]
    flagged: frozenset[str]
    """The parameters of which the best value sits on an end with unknown ground beyond."""
    advice: Advice
    verdicts: dict[VerdictName, int]


def summarize(stages: Sequence[StageData], advice: Advice | None = None) -> Summary:
    """Sum up stages in the order in which they were made; the advice, if not given, is what they say themselves."""
    last = stages[-1]
    lineage = lineage_of(last, stages)
    holder = best_of(lineage)
    sentences = [_budget(lineage), *_ahead_once(holder), *_exploded(lineage)]
    on_end, searched = _on_end(holder, lineage) if holder else ([], [])
    sentences += searched
    flags = [_boundary(holder, verdict) for verdict in on_end] if holder else []
    if holder is not None and holder.summary.stopped is not None:
        flags.append(f"No trial of {holder.name} came to its last epoch: {holder.summary.stopped.text}.")
    if holder is not None and not flags and not searched and holder.summary.verdicts:
        sentences += _inside(holder)
    if holder is not None and holder.best is not None and (found := holder.diagnoses.get(holder.best.number)):
        sentences.append(
            f"The best trial, {_named(holder, holder.best.number)}, looks {found.verdict}: {found.advice}."
        )
    counts = Counter(diagnosis.verdict for stage in lineage for diagnosis in stage.diagnoses.values())
    return Summary(
        best=f"trial {_named(holder, holder.best.number)}" if holder and holder.best else _none(last),
        study=holder.name if holder else None,
        sentences=tuple(sentences),
        flags=tuple(flags),
        flagged=frozenset(verdict.param for verdict in on_end),
        advice=advice or advice_for(lineage),
        verdicts={name: counts[name] for name in reversed(VERDICTS) if counts[name]},
    )


def _none(last: StageData) -> str:
    stopped = last.summary.stopped
    return "No trial has finished yet" if stopped is None else f"No trial came to its last epoch: {stopped.text}"


def advice_for(chain: Sequence[StageData], *, taken: Collection[str] = (), at_work: bool = False) -> Advice:
    """What to do after the last of the stages that led to it; see `what_next`."""
    summaries = [stage.summary for stage in chain]
    found = best_stage(search_so_far(summaries))
    holder = chain[summaries.index(found)] if found is not None else None
    number = holder.best.number if holder is not None and holder.best is not None else -1
    diagnosis = holder.diagnoses.get(number) if holder is not None else None
    return what_next(summaries, diagnosis, taken=taken, at_work=at_work)


def best_of(lineage: Sequence[StageData]) -> StageData | None:
    """The stage with the best trial of all."""
    found = best_stage(search_so_far([stage.summary for stage in lineage]))
    return next((stage for stage in lineage if found is not None and stage.name == found.study), None)


def lineage_of(last: StageData, stages: Sequence[StageData]) -> list[StageData]:
    """The stages that led to `last`, first one first, as far as they are at hand."""
    by_name = {stage.name: stage for stage in stages}
    chain = [last]
    while (source := by_name.get(chain[0].summary.source or "")) is not None and source not in chain:
        chain.insert(0, source)
    return chain


def _named(stage: StageData, number: int) -> str:
    return f"{number} of {stage.name}"


def _budget(lineage: Sequence[StageData]) -> str:
    parts = []
    for place, stage in enumerate(lineage):
        summary = stage.summary
        waiting = f", {summary.num_paused} waiting at rungs" if summary.num_paused else ""
        ended = "" if summary.num_finished == summary.num_trials else f" ({summary.num_finished} ended{waiting})"
        epochs = f" of {count_text(summary.epochs, 'epoch')}" if summary.epochs else ""
        if summary.epochs and summary.spent is not None:
            epochs = f" of up to {count_text(summary.epochs, 'epoch')}, {summary.spent[0]} in all"
        of = "" if summary.metric.is_accuracy else f"{summary.value_name} "
        again = called_later_text(summary, [later.summary for later in lineage[place + 1 :]])
        best = f", best {of}{summary.best_text}{again}" if summary.best else ", none finished"
        parts.append(f"{stage.name}: {count_text(summary.num_trials, 'trial')}{epochs}{ended}{best}")
    return f"{'; '.join(parts)}."


def _ahead_once(holder: StageData | None) -> list[str]:
    """Of a trial of the best one's stage whose one value is better than the mean by which that was chosen."""
    if holder is None or (trial := holder.summary.ahead_once) is None:
        return []
    return [f"In {holder.name}, {ahead_once_text(trial, holder.summary.metric)}."]


def _exploded(lineage: Sequence[StageData]) -> list[str]:
    parts = [
        f"{stage.evidence.num_exploded} of {len(stage.trials)} trials of {stage.name} exploded{_lr_edge(stage)}"
        f"{_returned(stage)}."
        for stage in lineage
        if stage.evidence.num_exploded
    ]
    return parts or ["Nothing exploded."]


def _returned(stage: StageData) -> str:
    """Of code of the user's, where that is all there is to say of a trial."""
    summary = stage.summary
    if not summary.returned:
        return ""
    some = "they" if len(summary.returned) == summary.num_exploded else f"{len(summary.returned)} of these"
    return f": {some} gave {summary.returned_text} and reported nothing"


def _lr_edge(stage: StageData) -> str:
    range_ = stage.evidence.ranges.get("lr")
    if range_ is None or "lr" not in stage.numeric_params:
        return ""
    tried = [o for o in stage.evidence.observations if "lr" in o.params]
    exploded = [o.params["lr"] for o in tried if o.outcome == "exploded"]
    survived = [o.params["lr"] for o in tried if o.outcome != "exploded"]
    edges = explosion_edges(range_, exploded, survived)  # type: ignore[arg-type]
    return f"; above lr {format_value(edges.high, range_)} every trial did" if edges.high is not None else ""


def _on_end(holder: StageData, lineage: Sequence[StageData]) -> tuple[list[Verdict], list[str]]:
    """Of the ends that the best of a stage sits on: those with unknown ground beyond, and a sentence on each other."""
    later = [stage.summary for stage in lineage[lineage.index(holder) + 1 :]]
    unknown, sentences = [], []
    for verdict in holder.on_boundary:
        if (found := searched_beyond(verdict, later)) is None:
            unknown.append(verdict)
            continue
        sentences.append(f"{_end_text(holder.name, verdict)}; {beyond_text(*found)}.")
    return unknown, sentences


def _boundary(stage: StageData, verdict: Verdict) -> str:
    return (
        f"{_end_text(stage.name, verdict)}: the range was wrong, better values may lie beyond.{_along(stage, verdict)}"
        f" Proposed: {format_range(verdict.proposed)}."
    )


def _along(stage: StageData, verdict: Verdict) -> str:
    """Along a ridge the best lies anywhere, also on an end."""
    if stage.together is None or verdict.param not in stage.together.params:
        return ""
    others = listed_text([name for name in stage.together.params if name != verdict.param])
    return f" But with other values of {others}, with which it counts together, it may be as good inside."


def _end_text(stage: str, verdict: Verdict) -> str:
    best = format_value(verdict.best, verdict.proposed)
    return f"The best {verdict.param} of {stage}, {best}, sits at the {verdict.verdict} end of {_searched(verdict)}"


def _searched(verdict: Verdict) -> str:
    assert verdict.low is not None
    assert verdict.high is not None
    return f"[{format_value(verdict.low, verdict.proposed)}, {format_value(verdict.high, verdict.proposed)}]"


def _inside(stage: StageData) -> list[str]:
    params = [verdict.param for verdict in stage.summary.verdicts if verdict.verdict == "inside"]
    held = [
        f"{verdict.param} at its limit, {format_value(verdict.best, verdict.proposed)}"
        for verdict in stage.summary.verdicts
        if verdict.at_limit
    ]
    if not params:
        return [f"The best of {stage.name} has {', '.join(held)}."] if held else []
    but = f"; {', '.join(held)}" if held else ""
    every = "every other range" if held else "every range"
    return [f"The best of {stage.name} is inside {every} that was searched ({', '.join(params)}){but}."]
