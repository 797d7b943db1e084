"""Parallel coordinates: each trial a line through its parameters to its value, in bands from worst to best.

Drawn as plain lines instead of plotly's own parallel coordinates, which need WebGL.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from hpsearch.analysis.study_trials import params_text
from hpsearch.config import Choice
from hpsearch.report import style
from hpsearch.report.stage import StageData
from hpsearch.space import format_value
from hpsearch.space.scale import choice_index, to_unit
from hpsearch.wording import value_text

BANDS = ((0.1, "best tenth"), (0.25, "next 15%"), (0.5, "up to half"), (1.0, "the rest"))  # upper share of the rank
MAX_LINES = 1500  # finished trials; beyond, the worst ones are left out: they hide what is to be seen


@dataclass(frozen=True)
class Coordinate:
    """One axis: its name, and labels at places from 0 (bottom) to 1 (top)."""

    name: str
    labels: tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class Line:
    """A trial: its place on each axis, None where it does without, and its share of the rank (0 is the best)."""

    number: int
    places: tuple[float | None, ...]
    rank: float
    text: str


@dataclass(frozen=True)
class ParallelInfo:
    """Axes from left to right, the value last; lines from best to worst."""

    axes: tuple[Coordinate, ...]
    lines: tuple[Line, ...]


def _parallel_info(stage: StageData) -> ParallelInfo | None:
    """None with fewer than two parameters or two finished trials."""
    ranges = stage.evidence.ranges
    names = [n for n in ranges if n in stage.numeric_params or (isinstance(ranges[n], Choice) and _many(ranges[n]))]
    names.sort(key=lambda name: -stage.importances.get(name, 0.0))
    finished = [t for t in stage.trials if stage.outcomes.get(t.number) == "complete" and t.value is not None]
    finished = [t for t in finished if math.isfinite(t.value or 0.0) and any(name in t.params for name in names)]
    if len(names) < 2 or len(finished) < 2:
        return None
    finished.sort(key=lambda t: (t.value or 0.0) * (-1 if stage.maximize else 1))
    values = [t.value or 0.0 for t in finished]
    low, high = min(values), max(values)
    lines = [
        Line(
            t.number,
            (
                *(_place(ranges[n], t.params[n]) if n in t.params else None for n in names),
                (value - low) / (high - low) if high > low else 0.5,
            ),
            rank / len(finished),
            f"trial {t.number}: {value_text(t.value)}\n{params_text(t, chr(10))}",
        )
        for rank, (t, value) in enumerate(zip(finished, values, strict=True))
    ]
    axes = [Coordinate(name, _labels(ranges[name])) for name in names]
    axes.append(Coordinate(stage.summary.value_name, ((0.0, f"{low:.3g}"), (1.0, f"{high:.3g}"))))
    return ParallelInfo(tuple(axes), tuple(lines[:MAX_LINES]))


def _many(range_: Any) -> bool:
    return len(range_.values) > 1


def _place(range_: Any, value: Any) -> float:
    if isinstance(range_, Choice):
        return (choice_index(range_, value) or 0) / (len(range_.values) - 1)
    return to_unit(range_, value)


def _labels(range_: Any) -> tuple[tuple[float, str], ...]:
    if isinstance(range_, Choice):
        return tuple((_place(range_, value), format_value(value)) for value in range_.values)
    if range_.log:
        ticks: Sequence[float] = style.log_ticks(range_.low, range_.high)
        inner = [(to_unit(range_, tick), style.number_text(tick)) for tick in ticks]
        ends = [(0.0, _rounded(range_.low)), (1.0, _rounded(range_.high))]
        return (*ends, *((place, text) for place, text in inner if 0.08 < place < 0.92))
    middle = (range_.low + range_.high) / 2
    return tuple((place, f"{v:.3g}") for place, v in ((0.0, range_.low), (0.5, middle), (1.0, range_.high)))


def _rounded(value: float) -> str:
    return style.number_text(float(f"{value:.2g}"))


def plot_parallel(info: ParallelInfo) -> go.Figure:
    """Lines in four bands by rank, the best one on top in its own colour."""
    fig = go.Figure()
    colours = [style.LIGHT.sequence_5, style.LIGHT.sequence_3, style.LIGHT.sequence_1, style.LIGHT.sequence_0]
    bounds = [0.0, *(upper for upper, _ in BANDS)]
    for (_, name), colour, low, high in reversed(list(zip(BANDS, colours, bounds[:-1], bounds[1:], strict=True))):
        band = [line for line in info.lines[1:] if low <= line.rank < high]
        if band:
            fig.add_trace(_lines(band, name, {"color": colour, "width": 1.25}))
    fig.add_trace(_lines(list(info.lines[:1]), "best", {"color": style.LIGHT.best, "width": 3}))
    for x, axis in enumerate(info.axes):
        fig.add_shape(type="line", x0=x, x1=x, y0=0, y1=1, line={"color": style.LIGHT.muted, "width": 1}, layer="above")
        for place, text in axis.labels:
            fig.add_annotation(
                x=x,
                y=place,
                text=style.as_text(text),
                showarrow=False,
                xanchor="right" if x else "left",
                xshift=-5 if x else 5,
                font={"size": style.FONT_SIZE - 2, "color": style.LIGHT.muted},
                bgcolor=style.LIGHT.paper,
                opacity=0.9,
                borderpad=1,
            )
    fig.update_layout(
        xaxis={
            "tickmode": "array",
            "tickvals": list(range(len(info.axes))),
            "ticktext": [style.as_text(axis.name) for axis in info.axes],
            "tickfont": {"size": style.FONT_SIZE, "color": style.LIGHT.ink},
            "range": [-0.15, len(info.axes) - 0.82],
            "ticklabeloverflow": "allow",
            "showgrid": False,
            "showline": False,
            "ticks": "",
            "fixedrange": True,
        },
        yaxis={"visible": False, "range": [-0.06, 1.06], "fixedrange": True},
        legend={"traceorder": "reversed"},
        margin={"l": 12, "r": 12},
    )
    return style.apply(fig, height=440)


def _lines(lines: list[Line], name: str, look: dict[str, object]) -> go.Scatter:
    """Many trials as one trace, with gaps between them: a trace for each would be slow."""
    xs: list[float | None] = []
    ys: list[float | None] = []
    texts: list[str | None] = []
    for line in lines:
        text = style.as_text(line.text).replace("\n", "<br>")
        xs += [*range(len(line.places)), None]
        ys += [*(None if place is None else round(place, 4) for place in line.places), None]
        texts += [*[text] * len(line.places), None]
    return go.Scatter(
        x=xs, y=ys, text=texts, name=name, mode="lines", line=look, hovertemplate="%{text}<extra></extra>"
    )
