"""Trials where they lie: the two parameters that matter most, coloured by value, exploded ones as crosses.

Where some count together, the plane is that of the two that share most: only there the good trials are one line.
Trials that were stopped at a rung are hollow. Their colour is the value until then, by which a fine stage narrows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import plotly.graph_objects as go

from hpsearch.analysis import attributes
from hpsearch.analysis.study_trials import params_text
from hpsearch.analysis.together import Together
from hpsearch.analysis.trial_records import trial_record
from hpsearch.config import IntRange, NumberRange
from hpsearch.report import style
from hpsearch.report.stage import StageData
from hpsearch.storage import TrialRow
from hpsearch.wording import count_text, value_text

Kind = Literal["complete", "halved", "pruned", "exploded"]


@dataclass(frozen=True)
class Axis:
    """A parameter as searched. `flagged` is the end that the best trial sits on."""

    param: str
    low: float
    high: float
    log: bool
    whole: bool
    flagged: Literal["lower", "upper"] | None


@dataclass(frozen=True)
class Point:
    """A trial; `y` is its value where there is one axis only. Of one that was halved, that of its best epoch."""

    number: int
    x: float
    y: float
    value: float | None
    kind: Kind
    text: str


@dataclass(frozen=True)
class LandscapeInfo:
    """All trials that ended, the axes they lie on, and which one is best."""

    x: Axis
    y: Axis | None
    points: tuple[Point, ...]
    best: int | None
    value_name: str
    maximize: bool
    halved_name: str = "stopped at a rung"
    """What those are called that ended before their last epoch with a value that counts."""
    together: Together | None = None
    """Why the axes are those, where these count together."""


def _landscape_info(stage: StageData) -> LandscapeInfo | None:
    """None without a numeric parameter."""
    together = stage.together.among(stage.numeric_params) if stage.together is not None else None
    params = list(together.params[:2]) if together is not None else stage.main_params[:2]
    if not params:
        return None
    params.sort(key=list(stage.evidence.ranges).index)  # the same parameter on the same axis in all stages
    x = _axis(stage, params[0])
    y = _axis(stage, params[1]) if len(params) == 2 else None
    points = []
    halved = {o.number: o.value for o in stage.evidence.observations if o.halved}
    for trial in stage.trials:
        kind = stage.outcomes.get(trial.number)
        if kind is None or any(param not in trial.params for param in params):
            continue
        value = None if kind == "exploded" else trial.value
        if (reached := halved.get(trial.number)) is not None and math.isfinite(reached):
            kind, value = "halved", reached
        height = trial.params[y.param] if y else value if kind == "halved" else trial.value
        if height is None or (x.log and trial.params[x.param] <= 0):
            continue
        text = _trial_text(stage, trial, kind, value)
        points.append(Point(trial.number, trial.params[x.param], height, value, kind, text))  # type: ignore[arg-type]
    best = stage.best.number if stage.best else None
    spent = any(trial_record(trial).reason == attributes.SPENT for trial in stage.trials if trial.number in halved)
    name = "stopped at a rung" + (", or out of epochs" if spent else "")
    value_name = stage.summary.value_name
    return LandscapeInfo(x, y, tuple(points), best, value_name, stage.maximize, name, together)


def _axis(stage: StageData, param: str) -> Axis:
    range_ = stage.evidence.ranges[param]
    assert isinstance(range_, NumberRange)
    verdict = stage.verdicts.get(param)
    flagged = verdict.verdict if verdict and not verdict.at_limit and verdict.verdict in ("lower", "upper") else None
    return Axis(param, range_.low, range_.high, range_.log, isinstance(range_, IntRange), flagged)


def _trial_text(stage: StageData, trial: TrialRow, kind: str, value: float | None) -> str:
    said = kind if kind not in ("complete", "halved") else value_text(value)
    lines = [f"trial {trial.number}: {said}"]
    if kind == "halved":
        why = "out of epochs" if trial_record(trial).reason == attributes.SPENT else "stopped at a rung"
        lines.append(f"{why} after {count_text(max(trial.intermediate), stage.record.step_name)}")
    lines += params_text(trial, "\n").split("\n")
    if (diagnosis := stage.diagnoses.get(trial.number)) and diagnosis.verdict != kind:
        lines.append(diagnosis.verdict)
    return "\n".join(lines)


def plot_landscape(info: LandscapeInfo) -> go.Figure:
    """A scatter in the parameters' own scales; the ends that the best sits on are red."""
    fig = go.Figure()
    fig.add_trace(_exploded(info))
    fig.add_trace(_markers(info, "pruned", "stopped early", {"symbol": "circle-open", "color": style.LIGHT.low}))
    halved, finished = _better_last(info, "halved"), _better_last(info, "complete")
    colours = _colours(info, halved, has_bar=not finished)  # one bar is enough, as both have the same scale
    hollow = {**colours, "symbol": "circle-open", "size": 9, "line": {"width": 2}}
    fig.add_trace(_scatter(halved, info.halved_name, hollow))
    full = {**_colours(info, finished, has_bar=bool(finished)), "size": 10}
    full["line"] = {"width": 0.75, "color": style.LIGHT.paper}
    fig.add_trace(_scatter(finished, "finished", full))
    best = [point for point in info.points if point.number == info.best]  # it may have ended at a rung
    star = {"symbol": "star", "size": 19, "color": style.LIGHT.best, "line": {"width": 1.5, "color": style.LIGHT.paper}}
    fig.add_trace(_scatter(best, "best", star))
    fig.update_layout(xaxis=_plotly_axis(info.x), yaxis=_plotly_axis(info.y) if info.y else {"title": info.value_name})
    for axis, letter in ((info.x, "x"), (info.y, "y")):
        if axis and axis.flagged:
            _flag(fig, axis, letter)
    return style.apply(fig, height=500)


def _better_last(info: LandscapeInfo, kind: Kind) -> list[Point]:
    """Points of one kind; better ones are drawn last, on top."""
    points = [point for point in info.points if point.kind == kind]
    return sorted(points, key=lambda point: (point.value or 0.0) * (1 if info.maximize else -1))


def _colours(info: LandscapeInfo, points: list[Point], *, has_bar: bool) -> dict[str, object]:
    """By value, on the scale of all that have one."""
    scale = style.LIGHT.colorscale if info.maximize else style.reversed_colorscale(style.LIGHT)
    values = [p.value for p in info.points if p.kind in ("complete", "halved") and p.value is not None]
    finite = [value for value in values if math.isfinite(value)]
    ends = {"cmin": min(finite), "cmax": max(finite)} if finite and min(finite) < max(finite) else {}
    colours = {"color": [point.value for point in points], "colorscale": scale, **ends}
    return {**colours, "showscale": True, "colorbar": style.colorbar(info.value_name)} if has_bar else colours


def _exploded(info: LandscapeInfo) -> go.Scatter:
    return _markers(
        info, "exploded", "exploded", {"symbol": "x-thin", "line": {"width": 1.75, "color": style.LIGHT.bad}}
    )


def _markers(info: LandscapeInfo, kind: Kind, name: str, marker: dict[str, object]) -> go.Scatter:
    return _scatter([point for point in info.points if point.kind == kind], name, {"size": 8, **marker})


def _scatter(points: list[Point], name: str, marker: dict[str, object]) -> go.Scatter:
    return go.Scatter(
        x=[point.x for point in points],
        y=[point.y for point in points],
        mode="markers",
        name=name,
        marker=marker,
        text=[style.as_text(point.text).replace("\n", "<br>") for point in points],
        hovertemplate="%{text}<extra></extra>",
        cliponaxis=False,
        showlegend=bool(points),
    )


def _plotly_axis(axis: Axis) -> dict[str, object]:
    low, high = style.padded(axis.low, axis.high, axis.log)
    title = {"text": style.as_text(axis.param)}
    if axis.log:
        return style.log_axis(low, high, title=title)
    steps = {"dtick": 1} if axis.whole and high - low < 12 else {}
    return {"range": [low, high], "title": title, **steps}


def _flag(fig: go.Figure, axis: Axis, letter: str) -> None:
    """A red line along the end of the range on which the best sits."""
    place = axis.low if axis.flagged == "lower" else axis.high
    add: Callable[..., object] = fig.add_vline if letter == "x" else fig.add_hline
    add(place, line={"color": style.LIGHT.bad, "width": 3})
    across = "y" if letter == "x" else "x"
    fig.add_annotation(
        **{
            f"{letter}ref": letter,
            f"{across}ref": f"{across} domain",
            letter: style.log_place(place) if axis.log else place,
            across: 0.98 if letter == "x" else 0.02,
            f"{letter}anchor": _inward(axis.flagged, letter),
            f"{across}anchor": "top" if letter == "x" else "left",
        },
        text=f"best at the {axis.flagged} end of {style.as_text(axis.param)}",
        showarrow=False,
        font={"color": style.LIGHT.bad},
        bgcolor=style.LIGHT.paper,
        borderpad=3,
    )


def _inward(flagged: str | None, letter: str) -> str:
    if letter == "x":
        return "left" if flagged == "lower" else "right"
    return "bottom" if flagged == "lower" else "top"
