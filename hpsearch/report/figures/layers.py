"""What the layers of the best trial's net do: their outputs, their gradients, how much their units are alike."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import plotly.graph_objects as go

from hpsearch.report import style
from hpsearch.report.figures.inside import mosaic_of

if TYPE_CHECKING:
    from hpsearch.training.unit_statistics import LayerStatistics

Layer = TypeVar("Layer")

MOST_RIDGES = 10  # layers with a histogram, evenly spaced
OVERLAP = 0.85  # height of the highest bar, of the way to the next layer
MOST_PAIRS = 64  # units in a field of correlations
GAP = 0.01  # pixels, not to be seen: without any, Plotly draws a picture whose style the page's policy forbids
MOST_MAPS = 23  # with the image before them three rows of 8
MOST_TILE = 56  # pixels of a map's side
MOST_PICTURE = (128, 192)  # rows and columns of a picture of numbers
PIXELS = 320  # of the longer side of such a picture, at least
LEVELS = 16  # of grey: more would not be seen, and take more room
SMALL = 0.01  # of the largest weight: below, one counts as nothing


@dataclass(frozen=True)
class HistogramsInfo:
    """`heights` of each layer's bars between 0 and 1, at `centres`."""

    names: tuple[str, ...]
    centres: tuple[tuple[float, ...], ...]
    heights: tuple[tuple[float, ...], ...]


def _histograms_info(layers: Sequence[LayerStatistics]) -> HistogramsInfo | None:
    """None where there are no layers with numbers in them."""
    chosen = evenly([layer for layer in layers if max(layer.counts) > 0], MOST_RIDGES)
    if not chosen:
        return None
    centres, heights = [], []
    for layer in chosen:
        num = len(layer.counts)
        step = (layer.high - layer.low) / num
        centres.append(tuple(layer.low + (i + 0.5) * step for i in range(num)))
        # The root: a bar at 0 would hide all others behind a ReLU.
        heights.append(tuple(math.sqrt(count / max(layer.counts)) for count in layer.counts))
    return HistogramsInfo(tuple(layer.name for layer in chosen), tuple(centres), tuple(heights))


def plot_histograms(info: HistogramsInfo) -> go.Figure:
    """A ridge for each layer, the first on top, on one axis: what fades or grows is seen."""
    fig, num = go.Figure(), len(info.names)
    for i, (name, centres, heights) in enumerate(zip(info.names, info.centres, info.heights, strict=True)):
        ground = num - 1 - i
        fig.add_scatter(
            x=[round_to(x) for x in (*centres, *reversed(centres))],
            y=[*(round(ground + OVERLAP * height, 3) for height in heights), *([ground] * len(centres))],
            mode="lines",
            fill="toself",
            line={"width": 1, "color": style.LIGHT.sequence_4},
            fillcolor=style.LIGHT.sequence_1,
            name=style.as_text(name),
            hoverinfo="name",
            showlegend=False,
        )
    ticks = {"tickmode": "array", "tickvals": [num - 1 - i for i in range(num)], "showgrid": False}
    fig.update_layout(
        xaxis={"title": {"text": "output"}, "nticks": 6},
        yaxis={**ticks, "ticktext": [style.as_text(short(name)) for name in info.names], "range": [-0.05, num]},
    )
    return style.apply(fig, height=max(240, 90 + 38 * num))


def plot_gradients(start: Mapping[str, float] | None, end: Mapping[str, float]) -> go.Figure:
    """A point for each layer, before and after training, on a logarithmic axis; what is 0 has none."""
    fig = go.Figure()
    names = list(end)
    ways = ((start or {}, "at the start", style.LIGHT.low), (end, "with the kept weights", style.LIGHT.accent))
    for sizes, name, colour in ways:
        if sizes:
            fig.add_scatter(
                x=[sizes[layer] if sizes.get(layer, 0) > 0 else None for layer in names],
                y=list(range(len(names))),
                name=name,
                mode="lines+markers",
                line={"width": 1.5, "color": colour},
                marker={"size": 7, "color": colour},
                text=[style.as_text(layer) for layer in names],
                hovertemplate="%{text}: %{x:.2e}<extra></extra>",
            )
    known = [size for sizes in (start or {}, end) for size in sizes.values() if size > 0 and math.isfinite(size)]
    low, high = (min(known) / 1.5, max(known) * 1.5) if known else (0.1, 1.0)
    every = math.ceil(len(names) / 24)
    shown = list(range(0, len(names), every))
    fig.update_layout(
        xaxis=style.log_axis(low, high, title={"text": "size of the gradient, by weight"}),
        yaxis={
            "tickmode": "array",
            "tickvals": shown,
            "ticktext": [style.as_text(short(names[i])) for i in shown],
            "range": [len(names) - 0.5, -0.5],
        },
    )
    return style.apply(fig, height=max(260, 110 + 22 * len(shown)))


def plot_correlations(correlations_CC: np.ndarray[Any, Any]) -> go.Figure:
    """The size of the correlation of each pair of units or filters; without colour where one does not vary."""
    every = max(1, math.ceil(len(correlations_CC) / MOST_PAIRS))
    shown = np.round(np.abs(correlations_CC[::every, ::every].astype(np.float64)), 2)
    num = len(shown)
    z = [[None if math.isnan(r) else float(r) for r in row] for row in shown]
    fig = go.Figure(
        go.Heatmap(
            z=z,
            x0=0,
            dx=every,
            y0=0,
            dy=every,
            zmin=0,
            zmax=1,
            xgap=GAP,
            ygap=GAP,
            colorscale=style.LIGHT.colorscale,
            colorbar=style.colorbar("|r|"),
            hovertemplate="units %{x} and %{y}: %{z}<extra></extra>",
        )
    )
    axis = {"showgrid": False, "showline": False, "ticks": "", "nticks": 6, "constrain": "domain"}
    ends = [-every / 2, (num - 0.5) * every]
    fig.update_layout(
        plot_bgcolor=style.LIGHT.grid,
        xaxis={**axis, "range": ends},
        yaxis={**axis, "range": ends[::-1], "scaleanchor": "x"},
    )
    return style.apply(fig, height=360)


def feature_maps(places_CHW: np.ndarray[Any, Any], picture_HWC: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The image, and what the units of a convolution make of it, each on its own scale: an RGBA mosaic."""
    maps = places_CHW[:MOST_MAPS]
    every = max(1, math.ceil(max(maps.shape[1:]) / MOST_TILE))
    maps = maps[:, ::every, ::every]
    low, high = maps.min((1, 2), keepdims=True), maps.max((1, 2), keepdims=True)
    grey = np.round((maps - low) / np.maximum(high - low, 1e-12) * 255).astype(np.uint8)
    _, height, width = grey.shape
    rows, columns = (
        np.arange(side) * full // side for side, full in zip((height, width), picture_HWC.shape, strict=False)
    )
    image = picture_HWC[rows[:, None], columns[None, :]]
    tiles = np.broadcast_to(grey[..., None], (*grey.shape, 3))
    return mosaic_of(np.concatenate([image[None], tiles]))


def picture_of_numbers(numbers_RC: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The sizes of a matrix's numbers as an RGBA picture, black for 0; of a large one, means over blocks."""
    sizes = np.abs(np.nan_to_num(numbers_RC.astype(np.float64)))
    for axis, most in enumerate(MOST_PICTURE):
        if (num := sizes.shape[axis]) > most:
            starts = np.arange(most) * num // most
            lengths = np.diff(np.append(starts, num))
            sizes = np.add.reduceat(sizes, starts, axis) / (lengths[:, None] if axis == 0 else lengths)
    top = np.quantile(sizes, 0.995) if sizes.size else 0.0
    grey = np.round(np.clip(sizes / max(top or sizes.max(initial=0.0), 1e-30), 0, 1) * (LEVELS - 1)) * (
        255 // (LEVELS - 1)
    )
    zoom = max(1, math.ceil(PIXELS / max(grey.shape)))
    grey = grey.astype(np.uint8).repeat(zoom, 0).repeat(zoom, 1)
    return np.dstack([grey, grey, grey, np.full_like(grey, 255)])


def share_small(weights: np.ndarray[Any, Any]) -> float:
    """Of the weights, those below a hundredth of the largest."""
    sizes = np.abs(weights)
    return float((sizes < SMALL * sizes.max(initial=0.0)).mean()) if sizes.size else 0.0


def evenly(layers: Sequence[Layer], most: int) -> list[Layer]:
    """So many of them, the first and the last included."""
    if len(layers) <= most:
        return list(layers)
    return [layers[round(i * (len(layers) - 1) / (most - 1))] for i in range(most)]


def short(name: str) -> str:
    """The end of a layer's name, which tells more than its beginning."""
    return name if len(name) <= 18 else f"…{name[-17:]}"


def round_to(x: float) -> float:
    """Four digits: a page needs no more."""
    return float(f"{x:.4g}")
