"""Training against validation accuracy: how far below the diagonal a trial lies is how much it overfits."""

from __future__ import annotations

from dataclasses import dataclass

import plotly.graph_objects as go

from hpsearch.analysis.diagnosis import VERDICTS
from hpsearch.analysis.study_trials import params_text
from hpsearch.report import style
from hpsearch.report.stage import StageData
from hpsearch.results import best_epoch


@dataclass(frozen=True)
class GapPoint:
    """A trial at its best epoch."""

    number: int
    train_acc: float
    val_acc: float
    verdict: str
    text: str


@dataclass(frozen=True)
class GapInfo:
    """All trials that ended without exploding."""

    points: tuple[GapPoint, ...]
    best: int | None


def _gap_info(stage: StageData) -> GapInfo | None:
    """None where no trial was watched epoch by epoch."""
    points = []
    for trial in stage.trials:
        epochs = stage.epochs.get(trial.number)
        if not epochs or stage.outcomes.get(trial.number) in (None, "exploded"):
            continue
        epoch = best_epoch(epochs, stage.evidence.direction)
        diagnosis = stage.diagnoses.get(trial.number)
        verdict = diagnosis.verdict if diagnosis else "healthy"
        text = (
            f"trial {trial.number}: {verdict}\n"
            f"epoch {epoch.epoch}: train {epoch.train_acc:.3f}, val {epoch.val_acc:.3f}\n{params_text(trial, chr(10))}"
        )
        points.append(GapPoint(trial.number, epoch.train_acc, epoch.val_acc, verdict, text))
    return GapInfo(tuple(points), stage.best.number if stage.best else None) if points else None


def plot_gap(info: GapInfo) -> go.Figure:
    """A scatter with the diagonal, coloured by verdict."""
    fig = go.Figure()
    fig.add_scatter(
        x=[0, 1],
        y=[0, 1],
        mode="lines",
        line={"color": style.LIGHT.line, "dash": "dot", "width": 1.5},
        hoverinfo="skip",
        showlegend=False,
    )
    symbols = {
        "healthy": "circle",
        "overfitting": "diamond",
        "underfitting": "square",
        "lr too low": "triangle-down",
        "lr too high": "triangle-up",
        "dead": "hexagon",
    }
    for verdict in VERDICTS:
        points = [point for point in info.points if point.verdict == verdict]
        if points:
            look = {
                "color": style.VERDICT_COLOURS[verdict],
                "symbol": symbols.get(verdict, "circle"),
                "size": 8,
                "line": {"width": 0.75, "color": style.LIGHT.paper},
            }
            fig.add_trace(_scatter(points, verdict, look))
    star = {"symbol": "star", "size": 17, "color": style.LIGHT.best, "line": {"width": 1.5, "color": style.LIGHT.paper}}
    fig.add_trace(_scatter([point for point in info.points if point.number == info.best], "best", star))
    low = min(min(point.train_acc, point.val_acc) for point in info.points)
    span = [max(-0.01, low - 0.03), 1 + 0.02 * (1 - low)]
    fig.update_layout(
        xaxis={"title": {"text": "training accuracy"}, "range": span},
        yaxis={"title": {"text": "validation accuracy"}, "range": span},
    )
    return style.apply(fig, height=420)


def _scatter(points: list[GapPoint], name: str, marker: dict[str, object]) -> go.Scatter:
    return go.Scatter(
        x=[point.train_acc for point in points],
        y=[point.val_acc for point in points],
        mode="markers",
        name=name,
        marker=marker,
        text=[style.as_text(point.text).replace("\n", "<br>") for point in points],
        hovertemplate="%{text}<extra></extra>",
        cliponaxis=False,
    )
