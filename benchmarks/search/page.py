"""The tables and the page of results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.colors import qualitative

from benchmarks.pages import COLOURS as FEW_COLOURS
from benchmarks.pages import Table, figure
from benchmarks.search.results import Result
from benchmarks.search.scores import band, quantile, regrets_at, scores

LEAST = 1e-4  # regret: below, curves on a logarithmic axis say nothing
GROUPS = {
    "inside": "Surfaces whose ranges hold the optimum",
    "outside": "Surfaces whose ranges do not hold it",
    "table": "Recorded trainings, equal epochs",
    "published": "Published tables of whole trainings",
}
COLOURS = (*FEW_COLOURS, *qualitative.Dark24)
PEER = "tpe"


def groups_of(results: Sequence[Result]) -> dict[str, list[str]]:
    """Problems by group, in the order in which they were run."""
    found: dict[str, list[str]] = {}
    for group in GROUPS:
        names = dict.fromkeys(result.problem for result in results if result.group == group)
        if names:
            found[group] = list(names)
    return found


def score_table(results: Sequence[Result], problems: Sequence[str], trials: int) -> Table:
    """Ways by mean rank."""
    found = scores(regrets_at(results, trials), problems)
    rows = [
        (way, f"{score.rank:.2f}", f"{100 * score.won:.0f}%", str(score.searches))
        for way, score in sorted(found.items(), key=lambda item: item[1].rank)
    ]
    return Table(("way", "mean rank", "won", "searches"), rows)


def regret_table(results: Sequence[Result], problems: Sequence[str], trials: int, ways: Sequence[str]) -> Table:
    """Median regret of each way on each problem, and the ninetieth percentile in parentheses."""
    regrets = regrets_at(results, trials)
    rows = []
    for problem in problems:
        cells = [regrets.get(problem, {}).get(way) for way in ways]
        rows.append((problem, *(f"{quantile(c, 0.5):.4f} ({quantile(c, 0.9):.3f})" if c else "-" for c in cells)))
    return Table(("median regret (p90)", *ways), rows)


def against_table(results: Sequence[Result], problems: Sequence[str], trials: int, own: str = "hpsearch") -> Table:
    """How much lower the regret of one way is than that of Optuna's TPE, and than that of the best of the others.

    The best of the others is chosen by hindsight, for each problem, by its median.
    """
    regrets, rows = regrets_at(results, trials), []
    for problem in problems:
        ways = regrets.get(problem, {})
        others = {way: seeds for way, seeds in ways.items() if not way.startswith("hpsearch")}
        if own not in ways or PEER not in ways:
            continue
        best = min(others, key=lambda way: quantile(others[way], 0.5))
        gains = [quantile(ways[PEER], share) - quantile(ways[own], share) for share in (0.5, 0.9)]
        seeds = ways[own].keys() & ways[PEER].keys()
        better = sum(ways[own][seed] < ways[PEER][seed] for seed in seeds)
        to_best = quantile(others[best], 0.5) - quantile(ways[own], 0.5)
        cells = (*(f"{gain:+.4f}" for gain in gains), f"{better} of {len(seeds)}", best, f"{to_best:+.4f}")
        rows.append((problem, *cells))
    head = (f"{own} against {PEER}", "median", "p90", "seeds better", "best of the others", "against it, median")
    return Table(head, rows)


def curves(results: Sequence[Result], problem: str, ways: Sequence[str]) -> go.Figure:
    """Regret against what was spent: medians, and the middle half of the seeds."""
    mine = [result for result in results if result.problem == problem]
    unit = "epochs" if mine and mine[0].epochs > 1 else "trials"
    fig = figure(problem, f"{unit} spent", "regret of the chosen trial", log_x=True, log_y=True)
    for place, way in enumerate(ways):
        found = band([result for result in mine if result.way == way])
        if found is None:
            continue
        colour = COLOURS[place % len(COLOURS)]
        shown: dict[str, Any] = {"legendgroup": way, "visible": True if place < 6 else "legendonly"}
        low, high = ([max(LEAST, value) for value in values] for values in (found.low, found.high))
        fig.add_scatter(
            x=[*found.spent, *reversed(found.spent)],
            y=[*high, *reversed(low)],
            fill="toself",
            fillcolor=colour,
            opacity=0.15,
            line={"width": 0},
            hoverinfo="skip",
            showlegend=False,
            **shown,
        )
        median = [max(LEAST, value) for value in found.median]
        fig.add_scatter(x=found.spent, y=median, name=way, line={"color": colour, "shape": "hv"}, **shown)
    return fig


def text(results: Sequence[Result], budgets: Sequence[int]) -> str:
    """The ranks, for a terminal."""
    parts = []
    for group, problems in groups_of(results).items():
        for trials in budgets:
            table = score_table(results, problems, trials)
            parts.append(f"{GROUPS[group]}, {trials} trials\n{table.as_text()}")
    return "\n\n".join(parts)


def parts(results: Sequence[Result], budgets: Sequence[int], ways: Sequence[str]) -> list[Table | go.Figure | str]:
    """Of the page: ranks and regrets of each group at each budget, then a figure for each problem."""
    found: list[Table | go.Figure | str] = [
        "Regret: the true value of the optimum less that of the trial that the search would choose, without noise and "
        "trained to its last epoch. Ranks and shares of searches won are over the problems of a group and all seeds, "
        "of the ways that were tried on each of them. "
        "Of one way beside another, more is better. Curves: the median over the seeds, and their middle half."
    ]
    for group, problems in groups_of(results).items():
        for trials in budgets:
            found += [f"{GROUPS[group]}, {trials} trials or as many epochs", score_table(results, problems, trials)]
            found.append(regret_table(results, problems, trials, ways))
            if (against := against_table(results, problems, trials)).rows:
                found.append(against)
        found += [curves(results, problem, ways) for problem in problems]
    return found


def machine_facts(command: str, machine: Mapping[str, Any], seeds: int) -> dict[str, Any]:
    return {"command": command, "machine": machine, "work": {"seeds": seeds}}
