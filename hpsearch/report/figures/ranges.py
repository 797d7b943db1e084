"""The ranges of a parameter, stage under stage: how the search narrowed, and where the best was each time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from hpsearch.config import Choice
from hpsearch.report import style
from hpsearch.report.stage import StageData
from hpsearch.space import format_range, format_value
from hpsearch.wording import value_text

ROW = 46  # pixels per stage


@dataclass(frozen=True)
class Interval:
    """What one stage searched. `source` is the row of the stage that it came from."""

    stage: str
    low: float
    high: float
    text: str
    best: float | None
    best_text: str
    reason: str
    verdict: str | None
    source: int | None


@dataclass(frozen=True)
class RangesInfo:
    """One parameter over the stages, first stage first."""

    param: str
    log: bool
    intervals: tuple[Interval, ...]

    @property
    def ends(self) -> tuple[float, float]:
        """The widest span on show."""
        shown = [(i.low, i.high) for i in self.intervals]
        return min(low for low, _ in shown), max(high for _, high in shown)


def _ranges_info(stages: Sequence[StageData]) -> list[RangesInfo]:
    """One per numeric parameter that any stage searched; the seeds of a training were not."""
    stages = [stage for stage in stages if not stage.record.is_training]
    params = dict.fromkeys(name for stage in stages for name in stage.numeric_params)
    return [_param_info(param, stages) for param in params]


def _param_info(param: str, stages: Sequence[StageData]) -> RangesInfo:
    rows: dict[str, int] = {}
    intervals: list[Interval] = []
    logs: list[bool] = []
    for stage in stages:
        range_ = stage.evidence.ranges.get(param)
        if range_ is None or isinstance(range_, Choice):
            continue
        best, verdict = stage.best, stage.verdicts.get(param)
        value = best.params.get(param) if best else None
        text = f"trial {best.number}: {param} {format_value(value, range_)}, {value_text(best.value)}" if best else ""
        intervals.append(
            Interval(
                stage.name,
                range_.low,
                range_.high,
                format_range(range_),
                value,
                text,
                stage.record.reasons.get(param, "given"),
                verdict.verdict if verdict and not verdict.at_limit else None,
                rows.get(stage.record.source or ""),
            )
        )
        logs.append(range_.log)
        rows[stage.name] = len(intervals) - 1
    return RangesInfo(param, all(logs) and all(i.low > 0 for i in intervals), tuple(intervals))


def plot_ranges(info: RangesInfo) -> go.Figure:
    """Bars stage under stage, joined by their narrowing, the best of each as a star (red on an end)."""
    fig = go.Figure()
    for row, interval in enumerate(info.intervals):
        if interval.source is not None:
            before = info.intervals[interval.source]
            fig.add_scatter(
                x=[before.low, before.high, interval.high, interval.low, before.low],
                y=[interval.source, interval.source, row, row, interval.source],
                mode="lines",
                line={"width": 0},
                fill="toself",
                fillcolor=style.LIGHT.grid,
                hoverinfo="skip",
            )
    for row, interval in enumerate(info.intervals):
        # Hover needs points: some along the bar, not only its ends.
        places = _spread(interval.low, interval.high, info.log)
        fig.add_scatter(
            x=places,
            y=[row] * len(places),
            mode="lines",
            line={"width": 12, "color": style.LIGHT.sequence_2},
            text=[style.as_text(_interval_text(interval)).replace("\n", "<br>")] * len(places),
            hovertemplate="%{text}<extra></extra>",
        )
    placed = [(row, interval) for row, interval in enumerate(info.intervals) if interval.best is not None]
    flagged = [interval.verdict in ("lower", "upper") for _, interval in placed]
    fig.add_scatter(
        x=[interval.best for _, interval in placed],
        y=[row for row, _ in placed],
        mode="markers",
        marker={
            "symbol": "star",
            "size": 15,
            "color": [style.LIGHT.bad if red else style.LIGHT.best for red in flagged],
            "line": {"width": 1.5, "color": style.LIGHT.paper},
        },
        text=[
            style.as_text(f"best of {interval.stage}: {interval.best_text}")
            + ("<br>on the boundary: the range was wrong" if red else "")
            for (_, interval), red in zip(placed, flagged, strict=True)
        ],
        hovertemplate="%{text}<extra></extra>",
        cliponaxis=False,
    )
    low, high = info.ends
    pad = 0.03
    if info.log:
        factor = (high / low) ** pad
        axis = style.log_axis(low / factor, high * factor)
    else:
        axis = {"range": [low - pad * (high - low), high + pad * (high - low)]}
    num = len(info.intervals)
    fig.update_layout(
        showlegend=False,
        xaxis=axis,
        yaxis={
            "tickmode": "array",
            "tickvals": list(range(num)),
            "ticktext": [style.as_text(_short(interval.stage)) for interval in info.intervals],
            "range": [num - 0.4, -0.6],
            "showgrid": False,
            "showline": False,
            "ticks": "",
            "fixedrange": True,
        },
    )
    return style.apply(fig, height=48 + ROW * num)


def _interval_text(interval: Interval) -> str:
    return f"{interval.stage}: {interval.text}\n{_wrapped(interval.reason)}"


def _wrapped(text: str, width: int = 60) -> str:
    lines, line = [], ""
    for word in text.split():
        if line and len(line) + len(word) >= width:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}".strip()
    return "\n".join([*lines, line])


def _spread(low: float, high: float, log: bool, num: int = 25) -> list[float]:
    if log:
        return [low * (high / low) ** (i / (num - 1)) for i in range(num)] if low < high else [low]
    return [low + (high - low) * i / (num - 1) for i in range(num)]


def _short(name: str, longest: int = 18) -> str:
    return name if len(name) <= longest else f"{name[: longest - 1]}…"


def choices_rows(stages: Sequence[StageData]) -> list[tuple[str, str, str, str]]:
    """For parameters chosen from a list: (parameter, stage, values, best)."""
    return [
        (param, stage.name, format_range(range_), format_value(stage.best.params.get(param)) if stage.best else "-")
        for stage in stages
        for param, range_ in stage.evidence.ranges.items()
        if isinstance(range_, Choice)
    ]
