"""Trials in the plane of an important and an unimportant parameter, with the response along each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from hpsearch.analysis.sampler_comparison import Comparison, Search
from hpsearch.config import Choice, Range
from hpsearch.config.metric import ACCURACY, Metric
from hpsearch.report import style
from hpsearch.report.compare_figures import COLOURS
from hpsearch.space import format_value

PAD = 0.06  # of an axis, so that no marker is cut at its ends
MAX_IN_CLOUD = 300  # grey dots; they stand in each plane, and more would only be a blot


@dataclass(frozen=True)
class AxisInfo:
    """A parameter as an axis: its scale, its ends, and where a value stands on it."""

    param: str
    range_: Range

    def places(self, params: Sequence[Any]) -> list[Any]:
        """Numbers as they are; values of a choice by their index."""
        if isinstance(self.range_, Choice):
            known = [repr(value) for value in self.range_.values]
            return [known.index(repr(point[self.param])) for point in params]
        return [point[self.param] for point in params]

    def layout(self) -> dict[str, Any]:
        """The axis as plotly takes it, with room at the ends."""
        title = {"text": style.as_text(self.param)}
        if isinstance(self.range_, Choice):
            names = [style.as_text(format_value(value)) for value in self.range_.values]
            ends = [-0.5, len(names) - 0.5]
            return {"tickvals": list(range(len(names))), "ticktext": names, "range": ends, "title": title}
        low, high = self.range_.low, self.range_.high
        if self.range_.log:
            factor = (high / low) ** PAD
            return style.log_axis(low / factor, high * factor, title=title)
        room = PAD * (high - low) or 1.0
        return {"range": [low - room, high + room], "title": title}


@dataclass(frozen=True)
class PlaneInfo:
    """One search in the plane of two parameters, with the response along each of them.

    `cloud` are trials of all samplers and repeats, evenly thinned out; explosions stand at the value of a guess.
    `y` is None where there is one parameter.
    """

    search: Search
    x: AxisInfo
    y: AxisInfo | None
    cloud: tuple[tuple[Any, float], ...]
    guessing: float
    metric: Metric = ACCURACY

    @property
    def value_range(self) -> tuple[float, float]:
        """Common to all planes of a comparison."""
        values = [value for _, value in self.cloud]
        room = PAD * (max(values) - min(values)) or 0.05
        return min(values) - room, max(values) + room


def _planes_info(comparison: Comparison, repeat: int) -> list[PlaneInfo]:
    """One per sampler: across the most important parameter, up the least important one."""
    ranked = comparison.ranked_params
    x, y = ranked[0], ranked[-1] if len(ranked) > 1 else None
    shown = {x, y} if y is not None else {x}
    everything = [
        (params, comparison.guessing if value is None else value)
        for runs in comparison.searches.values()
        for search in runs
        for params, value in zip(search.params, search.values, strict=True)
        if params.keys() >= shown
    ]
    cloud = tuple(everything[:: -(-len(everything) // MAX_IN_CLOUD)])
    index = comparison.repeats.index(repeat)
    return [
        PlaneInfo(
            runs[index],
            AxisInfo(x, comparison.ranges[x]),
            AxisInfo(y, comparison.ranges[y]) if y is not None else None,
            cloud,
            comparison.guessing,
            comparison.metric,
        )
        for runs in comparison.searches.values()
    ]


def plot_plane(info: PlaneInfo) -> go.Figure:
    """The trials in the plane, and above and beside it what each value gave (as Bergstra & Bengio 2012, figure 1)."""
    fig = go.Figure()
    shown = {axis.param for axis in (info.x, info.y) if axis is not None}
    pairs = [(p, v) for p, v in zip(info.search.params, info.search.values, strict=True) if p.keys() >= shown]
    params, responses = [p for p, _ in pairs], [info.guessing if v is None else v for _, v in pairs]
    cloud_params, cloud_responses = [p for p, _ in info.cloud], [v for _, v in info.cloud]
    low, high = info.value_range
    texts = [_trial_text(*pair, info.metric) for pair in pairs]
    hover = {"text": texts, "hovertemplate": "%{text}<extra></extra>", "cliponaxis": False}
    marker = {
        **_shape(pairs, 9),
        "color": [style.LIGHT.bad if v is None else COLOURS[info.search.sampler] for _, v in pairs],
    }
    cloud = {"mode": "markers", "marker": {"size": 4, "color": style.LIGHT.line}, "hoverinfo": "skip"}
    value_axis = {"range": [low, high], "nticks": 4, "title": {"text": style.as_text(info.metric.column)}}

    xs = info.x.places(params)
    above = {"xaxis": "x", "yaxis": "y2"}
    fig.add_scatter(x=info.x.places(cloud_params), y=cloud_responses, **cloud, **above)
    stems = _stems(xs, responses, low)
    fig.add_scatter(x=stems[0], y=stems[1], **STEM, **above)
    fig.add_scatter(x=xs, y=responses, mode="markers", marker=marker, **hover, **above)
    if info.y is None:
        fig.update_layout(xaxis={**info.x.layout(), "anchor": "y2"}, yaxis2={**value_axis, "anchor": "x"})
        return style.apply(fig.update_layout(showlegend=False), height=300)

    ys = info.y.places(params)
    beside = {"xaxis": "x2", "yaxis": "y"}
    fig.add_scatter(x=cloud_responses, y=info.y.places(cloud_params), **cloud, **beside)
    stems = _stems(ys, responses, low)
    fig.add_scatter(x=stems[1], y=stems[0], **STEM, **beside)
    fig.add_scatter(x=responses, y=ys, mode="markers", marker=marker, **hover, **beside)

    best_is_high = info.metric.direction == "maximize"
    scale = style.LIGHT.colorscale if best_is_high else style.reversed_colorscale(style.LIGHT)
    shades = {"color": responses, "colorscale": scale, "cmin": low, "cmax": high, "showscale": False}
    exploded = [i for i, (_, v) in enumerate(pairs) if v is None]
    fig.add_scatter(x=xs, y=ys, mode="markers", marker={**_shape(pairs, 14), **shades}, **hover)
    fig.add_scatter(
        x=[xs[i] for i in exploded],
        y=[ys[i] for i in exploded],
        mode="markers",
        marker={"symbol": "x", "size": 9, "opacity": 1, "color": style.LIGHT.bad},
        hoverinfo="skip",
    )
    fig.update_layout(
        xaxis={**info.x.layout(), "domain": [0, 0.7], "anchor": "y"},
        yaxis={**info.y.layout(), "domain": [0, 0.62], "anchor": "x"},
        yaxis2={**value_axis, "domain": [0.68, 1], "anchor": "x"},
        xaxis2={**value_axis, "domain": [0.76, 1], "anchor": "y"},
        showlegend=False,
    )
    return style.apply(fig, height=460)


STEM = {"mode": "lines", "line": {"width": 1.5, "color": style.LIGHT.muted}, "hoverinfo": "skip"}


def _shape(pairs: Sequence[tuple[Any, float | None]], size: int) -> dict[str, Any]:
    return {
        "symbol": ["x" if value is None else "circle" for _, value in pairs],
        "size": [7 if value is None else size for _, value in pairs],
        "opacity": 1,
        "line": {"width": [0 if value is None else 1 for _, value in pairs], "color": style.LIGHT.muted},
    }


def _stems(places: Sequence[Any], values: Sequence[float], foot: float) -> tuple[list[Any], list[Any]]:
    """A line from the axis to the highest of the trials that share a value: as many lines as values were tried."""
    highest: dict[Any, float] = {}
    for place, value in zip(places, values, strict=True):
        highest[place] = max(value, highest.get(place, value))
    along = [x for place in highest for x in (place, place, None)]
    return along, [y for value in highest.values() for y in (foot, value, None)]


def _trial_text(params: Any, value: float | None, metric: Metric) -> str:
    shown = ", ".join(f"{name} {format_value(item)}" for name, item in params.items())
    return style.as_text(f"{'exploded or failed' if value is None else f'{metric.column} {value:.4f}'}: {shown}")
