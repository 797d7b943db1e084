"""Rungs: which trials were stopped where, and what became of those that went on."""

from __future__ import annotations

import math
from dataclasses import dataclass

import plotly.graph_objects as go

from hpsearch.analysis.study_trials import params_text
from hpsearch.analysis.trial_records import trial_record
from hpsearch.report import style
from hpsearch.report.stage import StageData
from hpsearch.stages.halving import Halving
from hpsearch.storage import TrialRow
from hpsearch.wording import count_text, value_text


@dataclass(frozen=True)
class RungLine:
    """A trial at its rungs: the value that it had there, and at its end."""

    number: int
    epochs: tuple[int, ...]
    values: tuple[float, ...]
    stopped: bool
    """Whether it ended at a rung, or where a budget did, and not at its own end."""
    text: str


@dataclass(frozen=True)
class Rung:
    """How many trials came to a rung, and how many went on; `least` is the worst value of those that did."""

    epoch: int
    num_come: int
    num_on: int
    least: float | None
    rank_of_best: int | None
    """There, of the trial that was the best in the end; 1 is the first."""


@dataclass(frozen=True)
class RungsInfo:
    """Trials that came to a rung, in the order of their numbers."""

    rungs: tuple[Rung, ...]
    lines: tuple[RungLine, ...]
    best: int | None
    value_name: str
    step_name: str = "epoch"
    """What rungs are counted in."""


def _rungs_info(stage: StageData) -> RungsInfo | None:
    """None where the stage has no rungs, or no trial has come to one."""
    direction = stage.evidence.direction
    halving = Halving.kept(stage.record, direction)
    if halving is None or not halving.rungs:
        return None
    lines = tuple(line for trial in stage.trials if (line := _line(trial, halving, stage)) is not None)
    if not lines:
        return None
    best = stage.best.number if stage.best else None
    return RungsInfo(
        tuple(_rung(epoch, lines, best, halving) for epoch in halving.rungs),
        lines,
        best,
        stage.summary.value_name,
        stage.record.step_name,
    )


def _line(trial: TrialRow, halving: Halving, stage: StageData) -> RungLine | None:
    finite = {epoch: value for epoch, value in trial.intermediate.items() if math.isfinite(value)}
    last = max(trial.intermediate, default=0)
    if last < halving.rungs[0] or not finite or stage.outcomes.get(trial.number) == "exploded":
        return None
    pick = max if halving.direction == "maximize" else min
    stops = [*(rung for rung in halving.rungs if rung < last), last]
    until = {stop: min(epoch for epoch in trial.intermediate if epoch >= stop) for stop in stops}  # as it was judged
    values = {stop: [value for epoch, value in finite.items() if epoch <= until[stop]] for stop in stops}
    known = {stop: pick(found) for stop, found in values.items() if found}
    step = stage.record.step_name
    said = ", ".join(f"{value_text(value)} after {count_text(stop, step)}" for stop, value in known.items())
    stopped = trial_record(trial).halved
    return RungLine(
        trial.number,
        tuple(known),
        tuple(known.values()),
        stopped,
        f"trial {trial.number}: {said}{', stopped' if stopped else ''}\n{params_text(trial, chr(10))}",
    )


def _rung(epoch: int, lines: tuple[RungLine, ...], best: int | None, halving: Halving) -> Rung:
    sign = 1 if halving.direction == "maximize" else -1
    come = {line.number: dict(zip(line.epochs, line.values, strict=True)).get(epoch) for line in lines}
    there = {number: sign * value for number, value in come.items() if value is not None}
    on = [there[line.number] for line in lines if line.number in there and line.epochs[-1] > epoch]
    order = sorted(there, key=lambda number: (-there[number], number))
    rank = order.index(best) + 1 if best in there else None
    return Rung(epoch, len(there), len(on), sign * min(on) if on else None, rank)


def rungs_note(info: RungsInfo) -> str:
    """What was stopped when, and where the best trial stood then."""
    come = [rung for rung in info.rungs if rung.num_come]
    parts = [
        f"after {count_text(rung.epoch, info.step_name)}: {rung.num_on} of {rung.num_come} went on" for rung in come
    ]
    ranks = [
        f"number {rung.rank_of_best} of {rung.num_come} after {count_text(rung.epoch, info.step_name)}"
        for rung in come
        if rung.rank_of_best is not None
    ]
    told = f" Trial {info.best}, the best in the end, was {', '.join(ranks)}." if ranks else ""
    text = "; ".join(parts)
    said = f"{text[:1].upper()}{text[1:]}. A value is that of the best {info.step_name} so far; crosses were stopped."
    return f"{said}{told}"


def plot_rungs(info: RungsInfo) -> go.Figure:
    """A line for each trial that went on, a cross where one was stopped."""
    fig = go.Figure()
    going = [line for line in info.lines if len(line.epochs) > 1]
    for line in going:
        is_best = line.number == info.best
        fig.add_scatter(
            x=list(line.epochs),
            y=list(line.values),
            mode="lines",
            line={"color": style.LIGHT.best if is_best else style.LIGHT.accent, "width": 3 if is_best else 1.25},
            opacity=1.0 if is_best else 0.6,
            hoverinfo="skip",
            showlegend=False,
        )
    groups = {
        "stopped": ("x", style.LIGHT.low, [line for line in info.lines if line.stopped]),
        "trained on": ("circle", style.LIGHT.accent, [line for line in info.lines if not line.stopped]),
    }
    for name, (symbol, colour, lines) in groups.items():
        if lines:
            fig.add_scatter(
                x=[line.epochs[-1] for line in lines],
                y=[line.values[-1] for line in lines],
                mode="markers",
                name=name,
                marker={"symbol": symbol, "size": 8, "color": colour},
                text=[style.as_text(line.text).replace("\n", "<br>") for line in lines],
                hovertemplate="%{text}<extra></extra>",
                cliponaxis=False,
            )
    ticks = [*(rung.epoch for rung in info.rungs), max(line.epochs[-1] for line in info.lines)]
    ticks = sorted(set(ticks))
    fig.update_layout(
        xaxis={
            "type": "log",
            "title": {"text": f"{info.step_name}s"},
            "tickvals": ticks,
            "ticktext": list(map(str, ticks)),
            "minor": {"ticks": ""},
        },
        yaxis={"title": {"text": style.as_text(info.value_name)}, "nticks": 6},
    )
    return style.apply(fig, height=380)
