"""How much each parameter decides whether a trial is good."""

from __future__ import annotations

from dataclasses import dataclass, field

import plotly.graph_objects as go

from hpsearch.analysis.together import Together
from hpsearch.report import style
from hpsearch.report.stage import MIN_TRIALS, StageData
from hpsearch.wording import count_text, listed_text

ROW = 34  # pixels per parameter


@dataclass(frozen=True)
class ImportanceInfo:
    """Shares that add up to 1, largest first, and what each would be by chance; `note` says why there are none."""

    shares: dict[str, float]
    note: str = ""
    chance: dict[str, float] = field(default_factory=dict)
    told_at: str = ""
    """The rung whose values tell it, as `1 epoch`; empty where those of finished trials do."""
    together: Together | None = None
    """What counts together: each of these alone may set few trials apart."""

    @property
    def by_chance(self) -> list[str]:
        """The parameters of which these trials do not show that they matter, neither alone nor with others."""
        linked = self.together.params if self.together is not None else ()
        return [n for n, share in self.shares.items() if share <= self.chance.get(n, 0.0) and n not in linked]


def _importance_info(stage: StageData) -> ImportanceInfo:
    shares = stage.importances
    if sum(shares.values()) > 0:
        total = sum(shares.values())
        told_at = count_text(stage.told_at, stage.record.step_name) if stage.told_at is not None else ""
        relative = {name: share / total for name, share in shares.items()}
        return ImportanceInfo(relative, chance=stage.chance_shares, told_at=told_at, together=stage.together)
    num_finished = sum(outcome == "complete" for outcome in stage.outcomes.values())
    if len(stage.evidence.ranges) < 2:
        return ImportanceInfo({}, "One parameter was searched, so there is nothing to compare it with.")
    if num_finished < MIN_TRIALS:
        return ImportanceInfo({}, f"{num_finished} trials have finished; it takes {MIN_TRIALS} to tell.")
    return ImportanceInfo({}, "It cannot be told from these trials: no parameter sets the best ones apart.")


def importance_text(info: ImportanceInfo) -> str:
    """What the bars and the marks mean, and of which parameters it is not shown that they matter."""
    trial, place = "finished trial", ""
    if info.told_at:
        trial, place = "trial", f" after {info.told_at}, the first rung, as few have finished"
    sentences = [f"Share of each parameter in what lifts a {trial} into the best tenth{place} (PED-ANOVA)."]
    if info.chance:
        sentences.append("The mark is what one that does nothing reaches by chance, in one search of twenty.")
    if info.together is not None:
        sentences.append(f"{info.together}, and a share tells of one alone.")
    if names := info.by_chance:
        sentences.append(f"These trials do not show that {listed_text(names)} matter{'s' if len(names) == 1 else ''}.")
    return " ".join(sentences)


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
    most = 1.12 * max(info.shares.values())
    if info.chance:
        chance = [min(info.chance[name], most) for name in names]
        fig.add_trace(
            go.Scatter(
                x=chance,
                y=list(range(len(names))),
                mode="markers",
                marker={"symbol": "line-ns-open", "size": 22, "line": {"width": 2}, "color": style.LIGHT.ink},
                hovertext=[f"{style.as_text(name)}: up to {info.chance[name]:.1%} by chance" for name in names],
                hovertemplate="%{hovertext}<extra></extra>",
                showlegend=False,
            )
        )
    fig.update_layout(
        xaxis={"range": [0, most], "tickformat": ".0%", "nticks": 5},
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
