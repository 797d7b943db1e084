"""How much each parameter decides whether a trial is good."""

from __future__ import annotations

from dataclasses import dataclass

import plotly.graph_objects as go

from hpsearch.report import style
from hpsearch.report.stage import MIN_TRIALS, StageData

ROW = 34  # pixels per parameter


@dataclass(frozen=True)
class ImportanceInfo:
    """Shares that add up to 1, largest first; `note` says why there are none."""

    shares: dict[str, float]
    note: str = ""


def _importance_info(stage: StageData) -> ImportanceInfo:
    shares = stage.importances
    if sum(shares.values()) > 0:
        total = sum(shares.values())
        return ImportanceInfo({name: share / total for name, share in shares.items()})
    num_finished = sum(outcome == "complete" for outcome in stage.outcomes.values())
    if len(stage.evidence.ranges) < 2:
        return ImportanceInfo({}, "One parameter was searched, so there is nothing to compare it with.")
    if num_finished < MIN_TRIALS:
        return ImportanceInfo({}, f"{num_finished} trials have finished; it takes {MIN_TRIALS} to tell.")
    return ImportanceInfo({}, "It cannot be told from these trials: no parameter sets the best ones apart.")


def plot_importance(info: ImportanceInfo) -> go.Figure:
    """Bars, the most important parameter on top, each with its share beside it."""
    names = list(info.shares)
    fig = go.Figure(
        go.Bar(
            x=[info.shares[name] for name in names],
            y=list(range(len(names))),
            orientation="h",
            width=0.55,
            marker={"color": style.LIGHT.sequence_3},
            text=[f"{info.shares[name]:.0%}" for name in names],
            textposition="outside",
            cliponaxis=False,
            hovertext=[f"{style.as_text(name)}: {info.shares[name]:.1%}" for name in names],
            hovertemplate="%{hovertext}<extra></extra>",
        )
    )
    fig.update_layout(
        xaxis={"range": [0, 1.12 * max(info.shares.values())], "tickformat": ".0%", "nticks": 5},
        yaxis={
            "tickmode": "array",
            "tickvals": list(range(len(names))),
            "ticktext": [style.as_text(name) for name in names],
            "range": [len(names) - 0.4, -0.6],
            "showgrid": False,
            "ticks": "",
        },
        showlegend=False,
    )
    return style.apply(fig, height=max(130, 48 + ROW * len(names)))
