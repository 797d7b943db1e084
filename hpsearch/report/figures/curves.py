"""The best trial, epoch by epoch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import plotly.graph_objects as go

from hpsearch.config.losses import CROSS_ENTROPY
from hpsearch.report import style
from hpsearch.report.stage import StageData


@dataclass(frozen=True)
class Curve:
    """One quantity over the epochs (or steps) of a trial."""

    name: str
    steps: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class CurvesInfo:
    """What is drawn together, on one axis."""

    number: int
    axis: str
    curves: tuple[Curve, ...]
    step_name: str = "epoch"


def _curves_info(stage: StageData) -> list[CurvesInfo]:
    """Accuracies and losses of the best trial, after what counts where that is something else.

    For a foreign study its intermediate values, if there are any.
    """
    if stage.best is None:
        return []
    number = stage.best.number
    if epochs := stage.epochs.get(number):
        steps = tuple(epoch.epoch for epoch in epochs)
        metric = stage.summary.metric
        loss = "loss (nats)" if metric.loss == CROSS_ENTROPY else "loss"
        groups = {
            "accuracy": {"training": "train_acc", "validation": "val_acc"},
            loss: {
                "training": "train_loss",
                "validation": "val_loss",
            },
        }
        if metric.is_apart:
            groups = {metric.label.removeprefix("validation "): {"validation": "val_score"}, **groups}
        return [
            CurvesInfo(
                number,
                axis,
                tuple(Curve(name, steps, tuple(getattr(e, field) for e in epochs)) for name, field in group.items()),
            )
            for axis, group in groups.items()
        ]
    shown = {step: value for step, value in sorted(stage.best.intermediate.items()) if math.isfinite(value)}
    if len(shown) < 2:
        return []
    name = stage.summary.value_name
    curve = Curve(name, tuple(shown), tuple(shown.values()))
    return [CurvesInfo(number, name, (curve,), stage.record.step_name)]


def plot_curves(info: CurvesInfo) -> go.Figure:
    """Lines over epochs; validation is the strong one."""
    fig = go.Figure()
    for curve in info.curves:
        strong = curve.name != "training"
        fig.add_scatter(
            x=list(curve.steps),
            y=list(curve.values),
            name=style.as_text(curve.name),
            mode="lines+markers" if len(curve.steps) < 40 else "lines",
            line={
                "color": style.LIGHT.accent if strong else style.LIGHT.low,
                "width": 2.5 if strong else 1.75,
                "dash": "solid" if strong else "dot",
            },
            marker={"size": 5},
            hovertemplate=f"{info.step_name} %{{x}}: %{{y:.4g}}",
        )
    axis = style.as_text(info.axis)
    fig.update_layout(
        xaxis=style.whole_axis(*_span(info), title={"text": info.step_name}),
        yaxis={"title": {"text": axis}, "nticks": 6},
        hovermode="x unified",
        showlegend=len(info.curves) > 1,
        legend={"itemsizing": "trace"},
    )
    return style.apply(fig, height=340)


def _span(info: CurvesInfo) -> list[float]:
    steps = [step for curve in info.curves for step in curve.steps]
    return [min(steps) - 0.4, max(steps) + 0.4]
