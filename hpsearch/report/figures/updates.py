"""How long the steps are: |update| / |weights| of each trial's last epoch over its learning rate; 1e-3 is healthy."""

from __future__ import annotations

import math
from dataclasses import dataclass

import plotly.graph_objects as go

from hpsearch.analysis.study_trials import params_text
from hpsearch.analysis.trial_curves import HEALTHY_RATIO
from hpsearch.report import style
from hpsearch.report.stage import StageData
from hpsearch.wording import value_text


@dataclass(frozen=True)
class UpdatePoint:
    """A trial: its first learning rate, and the update ratio of its last epoch."""

    number: int
    lr: float
    ratio: float
    value: float | None
    text: str


@dataclass(frozen=True)
class UpdatesInfo:
    """All trials with positive finite numbers."""

    points: tuple[UpdatePoint, ...]
    best: int | None
    value_name: str
    maximize: bool = True


def _updates_info(stage: StageData) -> UpdatesInfo | None:
    """None where no trial was watched epoch by epoch."""
    points = []
    for trial in stage.trials:
        epochs = stage.epochs.get(trial.number)
        if not epochs or stage.outcomes.get(trial.number) in (None, "exploded"):
            continue
        lr, ratio = max(epoch.lr for epoch in epochs), epochs[-1].update_ratio
        if lr > 0 and ratio > 0 and math.isfinite(ratio):
            text = f"trial {trial.number}: {value_text(trial.value)}\nupdate ratio {ratio:.1e}\n"
            text += params_text(trial, "\n")
            points.append(UpdatePoint(trial.number, lr, ratio, trial.value, text))
    best = stage.best.number if stage.best else None
    return UpdatesInfo(tuple(points), best, stage.summary.value_name, stage.maximize) if points else None


def plot_updates(info: UpdatesInfo) -> go.Figure:
    """A log-log scatter, coloured by value, with the line at 1e-3. Trials whose metric gave no number are grey."""
    valued = [point for point in info.points if point.value is not None]
    points = sorted(valued, key=lambda point: (point.value or 0.0) * (1 if info.maximize else -1))
    marker = {
        "size": 8,
        "color": [point.value for point in points],
        "colorscale": style.LIGHT.colorscale if info.maximize else style.reversed_colorscale(style.LIGHT),
        "showscale": True,
        "colorbar": style.colorbar(info.value_name),
        "line": {"width": 0.75, "color": style.LIGHT.paper},
    }
    star = {"symbol": "star", "size": 17, "color": style.LIGHT.best, "line": {"width": 1.5, "color": style.LIGHT.paper}}
    grey = {"symbol": "circle-open", "size": 8, "color": style.LIGHT.low}
    fig = go.Figure([_scatter(points, marker), _scatter([p for p in points if p.number == info.best], star)])
    if len(valued) < len(info.points):
        fig.add_trace(_scatter([point for point in info.points if point.value is None], grey))
    rates = [point.lr for point in info.points]
    ratios = [*(point.ratio for point in info.points), HEALTHY_RATIO / 2, HEALTHY_RATIO * 2]
    x = style.log_axis(*_span(rates), title={"text": "learning rate"})
    y = style.log_axis(*_span(ratios), title={"text": "|update| / |weights|"})
    fig.add_hline(HEALTHY_RATIO, line={"color": style.LIGHT.healthy, "width": 1.5, "dash": "dash"})
    fig.add_annotation(
        x=0.01,
        xref="x domain",
        xanchor="left",
        y=style.log_place(HEALTHY_RATIO),
        yanchor="bottom",
        text="1e-3: healthy",
        showarrow=False,
        font={"color": style.LIGHT.healthy, "size": style.FONT_SIZE - 1},
    )
    fig.update_layout(xaxis=x, yaxis=y, showlegend=False)
    return style.apply(fig, height=420)


def _span(values: list[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    if high / low < 10:  # half a decade to each side of a point
        low, high = low / 10**0.5, high * 10**0.5
    return style.padded(low, high, log=True)


def _scatter(points: list[UpdatePoint], marker: dict[str, object]) -> go.Scatter:
    return go.Scatter(
        x=[point.lr for point in points],
        y=[point.ratio for point in points],
        mode="markers",
        marker=marker,
        text=[style.as_text(point.text).replace("\n", "<br>") for point in points],
        hovertemplate="%{text}<extra></extra>",
        cliponaxis=False,
    )
