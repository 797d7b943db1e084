"""The figures of a comparison: what is drawn as plain values first, then the drawing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from hpsearch.analysis.sampler_comparison import Band, Comparison
from hpsearch.config.metric import ACCURACY, Metric
from hpsearch.report import style

COLOURS = {
    "random": style.LIGHT.accent,
    "grid": style.LIGHT.best,
    "qmc": style.LIGHT.healthy,
    "tpe": style.LIGHT.overfitting,
    "gp": style.LIGHT.underfitting,
    "cmaes": style.LIGHT.low,
}


@dataclass(frozen=True)
class CurvesInfo:
    """Best so far over the trials, by sampler."""

    curves: dict[str, list[Band]]
    num_repeats: int
    metric: Metric = ACCURACY


def _curves_info(comparison: Comparison) -> CurvesInfo:
    curves = {sampler: comparison.curve(sampler) for sampler in comparison.samplers}
    return CurvesInfo(curves, len(comparison.repeats), comparison.metric)


def plot_curves(info: CurvesInfo) -> go.Figure:
    """A line per sampler, with its band."""
    fig = go.Figure()
    for sampler, bands in info.curves.items():
        if bands[0].low is None:
            continue
        fig.add_scatter(**_outline(bands, info.metric), fillcolor=COLOURS[sampler], opacity=0.18)
    for sampler, bands in info.curves.items():
        fig.add_scatter(
            x=list(range(1, len(bands) + 1)),
            y=[point.mean for point in bands],
            mode="lines",
            name=sampler,
            line={"color": COLOURS[sampler], "width": 2.5, "shape": "hv"},
            customdata=[f" ± {point.half_width:.4f}" if point.half_width is not None else "" for point in bands],
            hovertemplate=f"{sampler}, %{{x}} trials: %{{y:.4f}}%{{customdata}}<extra></extra>",
        )
    num_trials = max(len(bands) for bands in info.curves.values())
    fig.update_layout(
        xaxis=style.whole_axis(1, num_trials + 0.02 * (num_trials - 1) or 2, title={"text": "trials"}),
        yaxis={"title": {"text": f"best {style.as_text(info.metric.column)} so far"}},
    )
    return style.apply(fig, height=360)


def _outline(bands: Sequence[Band], metric: Metric) -> dict[str, Any]:
    """The band as a closed shape of steps; cut where shares end, which Student's t does not know."""
    upper, lower = [], []
    for step, point in enumerate(bands, start=1):
        low, high = (point.mean if end is None else end for end in (point.low, point.high))
        if metric.is_share:
            low, high = max(0.0, low), min(1.0, high)
        after = min(step + 1, len(bands))
        upper += [(step, high), (after, high)]
        lower += [(step, low), (after, low)]
    corners = [*upper, *reversed(lower)]
    return {
        "x": [x for x, _ in corners],
        "y": [y for _, y in corners],
        "mode": "lines",
        "line": {"width": 0},
        "fill": "toself",
        "hoverinfo": "skip",
        "showlegend": False,
    }


@dataclass(frozen=True)
class FinalsInfo:
    """Best value of each repeat after the full budget: one row per repeat, one column per sampler."""

    samplers: tuple[str, ...]
    repeats: tuple[int, ...]
    rows: tuple[tuple[float, ...], ...]
    metric: Metric = ACCURACY


def _finals_info(comparison: Comparison) -> FinalsInfo:
    columns = [comparison.finals[sampler] for sampler in comparison.samplers]
    return FinalsInfo(comparison.samplers, comparison.repeats, tuple(zip(*columns, strict=True)), comparison.metric)


def plot_finals(info: FinalsInfo) -> go.Figure:
    """A dot per sampler and repeat; repeats are joined, since their seeds are equal."""
    fig = go.Figure()
    for repeat, row in zip(info.repeats, info.rows, strict=True):
        fig.add_scatter(
            x=list(range(len(row))),
            y=list(row),
            mode="lines+markers",
            line={"color": style.LIGHT.line, "width": 1.5},
            marker={"size": 11, "color": [COLOURS[sampler] for sampler in info.samplers], "opacity": 0.85},
            text=list(info.samplers),
            hovertemplate=f"%{{text}}, repeat {repeat}: %{{y:.4f}}<extra></extra>",
            showlegend=False,
        )
    last = len(info.samplers) - 1
    fig.update_layout(
        xaxis={
            "tickvals": list(range(len(info.samplers))),
            "ticktext": list(info.samplers),
            "range": [-0.4, last + 0.4],
            "fixedrange": True,
            "showgrid": False,
        },
        yaxis={"title": {"text": f"best {style.as_text(info.metric.column)} of the search"}},
    )
    return style.apply(fig, height=360)


@dataclass(frozen=True)
class ImportanceInfo:
    """Share of each parameter, the most important first."""

    shares: dict[str, float]


def plot_importance(info: ImportanceInfo) -> go.Figure:
    """A bar per parameter, the most important on top."""
    names = list(reversed(info.shares))
    fig = go.Figure(
        go.Bar(
            x=[info.shares[name] for name in names],
            y=[style.as_text(name) for name in names],
            orientation="h",
            marker={"color": style.LIGHT.accent},
            text=[f"{info.shares[name]:.0%}" for name in names],
            textposition="outside",
            cliponaxis=False,
            hovertemplate="%{y}: %{x:.1%}<extra></extra>",
            width=0.55,
        )
    )
    fig.update_layout(
        xaxis={"range": [0, 1.08], "tickformat": ".0%", "tickvals": [0, 0.5, 1]},
        yaxis={"showgrid": False, "ticks": "", "ticksuffix": "  "},
    )
    return style.apply(fig, height=90 + 44 * len(names))
