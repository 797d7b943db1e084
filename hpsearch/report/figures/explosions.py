"""Where trials explode: their share in each part of the learning rate's range."""

from __future__ import annotations

import math
from dataclasses import dataclass

import plotly.graph_objects as go

from hpsearch.config import NumberRange
from hpsearch.report import style
from hpsearch.report.stage import StageData
from hpsearch.space.scale import from_unit, to_unit

MAX_BINS = 14


@dataclass(frozen=True)
class Bin:
    """A part of the range with the trials in it."""

    low: float
    high: float
    num_trials: int
    num_exploded: int

    @property
    def share(self) -> float:
        """Of the trials in it, how many exploded."""
        return self.num_exploded / self.num_trials if self.num_trials else 0.0


@dataclass(frozen=True)
class ExplosionsInfo:
    """The range of one parameter in bins of equal width on its scale."""

    param: str
    log: bool
    bins: tuple[Bin, ...]


def _explosions_info(stage: StageData) -> ExplosionsInfo | None:
    """None where nothing exploded, or no numeric parameter could have made it."""
    exploded = {number for number, outcome in stage.outcomes.items() if outcome == "exploded"}
    params = stage.numeric_params
    if not exploded or not params:
        return None
    param = "lr" if "lr" in params else stage.main_params[0]
    range_ = stage.evidence.ranges[param]
    assert isinstance(range_, NumberRange)
    ended = [t for t in stage.trials if t.number in stage.outcomes and param in t.params]
    num_bins = max(4, min(MAX_BINS, round(math.sqrt(len(ended)))))
    found = [[0, 0] for _ in range(num_bins)]
    for trial in ended:
        place = min(num_bins - 1, int(to_unit(range_, trial.params[param]) * num_bins))
        found[place][0] += 1
        found[place][1] += trial.number in exploded
    ends = [from_unit(range_, i / num_bins) for i in range(num_bins + 1)]
    bins = [Bin(ends[i], ends[i + 1], *found[i]) for i in range(num_bins)]
    return ExplosionsInfo(param, range_.log, tuple(bins))


def plot_explosions(info: ExplosionsInfo) -> go.Figure:
    """Bars from 0 to 100%, as wide as their part of the range."""
    filled = [each for each in info.bins if each.num_trials]
    fig = go.Figure()
    for each in filled:  # outlined to the top: a bin without explosions is not a bin without trials
        low, high = _inset(each, info.log)
        text = (
            f"{style.as_text(info.param)} {each.low:.1e} to {each.high:.1e}"
            f"<br>{each.num_exploded} of {each.num_trials} exploded"
        )
        for top, colour in ((1.0, style.LIGHT.grid), (each.share, style.LIGHT.bad)):
            if top > 0:
                fig.add_scatter(
                    x=[low, low, high, high, low],
                    y=[0, top, top, 0, 0],
                    mode="lines",
                    line={"width": 0},
                    fill="toself",
                    fillcolor=colour,
                    hoverinfo="skip",
                )
        middle = math.sqrt(low * high) if info.log else (low + high) / 2
        fig.add_scatter(
            x=[middle],
            y=[max(each.share / 2, 0.03)],
            mode="markers",
            marker={"size": 26, "opacity": 0},
            text=[text],
            hovertemplate="%{text}<extra></extra>",
        )
    low, high = info.bins[0].low, info.bins[-1].high
    title = {"text": style.as_text(info.param)}
    fig.update_xaxes(showgrid=False)
    fig.update_layout(
        xaxis=style.log_axis(low, high, title=title, showgrid=False)
        if info.log
        else {"range": [low, high], "title": title},
        yaxis={"range": [0, 1], "tickformat": ".0%", "nticks": 5, "title": {"text": "exploded"}},
        showlegend=False,
    )
    return style.apply(fig, height=320)


def _inset(each: Bin, log: bool, share: float = 0.06) -> tuple[float, float]:
    if log:
        factor = (each.high / each.low) ** share
        return each.low * factor, each.high / factor
    return each.low + share * (each.high - each.low), each.high - share * (each.high - each.low)
