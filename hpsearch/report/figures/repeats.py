"""The best trials as they did again: means with their intervals, beside the scores that chose them."""

from __future__ import annotations

from dataclasses import dataclass

import plotly.graph_objects as go

from hpsearch.analysis.gain import ahead_once_text
from hpsearch.analysis.repeats import Repeated, curse_text, repeated_text
from hpsearch.config.metric import Metric
from hpsearch.report import style
from hpsearch.report.stage import StageData
from hpsearch.storage import TrialRow

ROW = 46  # pixels per trial


@dataclass(frozen=True)
class RepeatsInfo:
    """Trials with a mean, the winner first."""

    repeated: tuple[Repeated, ...]
    metric: Metric
    ahead_once: TrialRow | None = None
    """One that was not called again, whose value is better than the winner's mean."""


def _repeats_info(stage: StageData) -> RepeatsInfo | None:
    """None where no trial was trained again."""
    found = tuple(each for each in stage.evidence.repeated if each.mean is not None)
    return RepeatsInfo(found, stage.summary.metric, stage.summary.ahead_once) if found else None


def repeats_note(info: RepeatsInfo) -> str:
    """By how much the first scores were luck, and which trial wins."""
    said = [curse_text(info.repeated, info.metric), "the winner is the trial with the best mean"]
    if info.ahead_once is not None:
        said.append(ahead_once_text(info.ahead_once, info.metric))
    return " ".join(f"{each[0].upper()}{each[1:]}." for each in said)


def plot_repeats(info: RepeatsInfo) -> go.Figure:
    """A row for each trial: trainings as dots, the mean with its bar of 95%, the first score as an open circle."""
    rows = list(range(len(info.repeated)))
    texts = [style.as_text(repeated_text(each, info.metric)) for each in info.repeated]
    fig = go.Figure()
    fig.add_scatter(
        x=[value for each in info.repeated for value in each.values],
        y=[row for row, each in zip(rows, info.repeated, strict=True) for _ in each.values],
        mode="markers",
        name="again",
        marker={"size": 6, "color": style.LIGHT.sequence_1},
        hoverinfo="skip",
    )
    halves = [(each.interval[1] - each.interval[0]) / 2 if each.interval is not None else 0.0 for each in info.repeated]
    fig.add_scatter(
        x=[each.mean for each in info.repeated],
        y=rows,
        error_x={"type": "data", "array": halves, "color": style.LIGHT.sequence_4, "thickness": 2, "width": 6},
        mode="markers",
        name="mean, 95%",
        marker={"size": 11, "color": [style.LIGHT.best, *[style.LIGHT.sequence_4] * (len(rows) - 1)]},
        text=texts,
        hovertemplate="%{text}<extra></extra>",
    )
    fig.add_scatter(
        x=[each.first for each in info.repeated],
        y=rows,
        mode="markers",
        name="first score",
        marker={"size": 11, "symbol": "circle-open", "color": style.LIGHT.bad, "line": {"width": 2}},
        text=texts,
        hovertemplate="%{text}<extra></extra>",
    )
    fig.update_layout(
        xaxis={"title": {"text": style.as_text(info.metric.column)}},
        yaxis={
            "tickmode": "array",
            "tickvals": rows,
            "ticktext": [f"trial {each.number}" for each in info.repeated],
            "range": [len(rows) - 0.5, -0.5],
            "showgrid": False,
            "ticks": "",
            "fixedrange": True,
        },
    )
    return style.apply(fig, height=130 + ROW * len(rows))
