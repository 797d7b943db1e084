"""What many searches say of the ways: regrets, ranks, and shares of seeds won, at one budget."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.search.results import Result

Regrets = Mapping[str, Mapping[str, Mapping[int, float]]]  # by problem, way and seed
TIE = 1e-9


@dataclass(frozen=True)
class Score:
    """Of a way over some problems.

    Attributes:
        rank: mean over problems and seeds, 1 is the best; ways that are level share their ranks.
        won: share of searches in which no way found a better one; those that are level share it.
        searches: that were compared.
    """

    rank: float
    won: float
    searches: int


def regrets_at(results: Iterable[Result], trials: int) -> dict[str, dict[str, dict[int, float]]]:
    """After the epochs of so many whole trials.

    A search of exactly this budget counts before a longer one, which is read where it stood.
    """
    best: dict[tuple[str, str, int], Result] = {}
    for result in results:
        key = result.problem, result.way, result.seed
        if result.trials >= trials and (key not in best or result.trials < best[key].trials):
            best[key] = result
    found: dict[str, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for (problem, way, seed), result in best.items():
        found[problem][way][seed] = result.regret(trials * result.epochs)
    return {problem: dict(ways) for problem, ways in found.items()}


def scores(regrets: Regrets, problems: Sequence[str]) -> dict[str, Score]:
    """Of ways that have been tried on all of these problems, over the seeds that all of them have."""
    problems = [problem for problem in problems if problem in regrets]
    ways = [way for way in _ways(regrets) if all(way in regrets[problem] for problem in problems)]
    ranks: dict[str, list[float]] = {way: [] for way in ways}
    wins: dict[str, list[float]] = {way: [] for way in ways}
    for problem in problems:
        for seed in sorted(set.intersection(*(set(regrets[problem][way]) for way in ways))) if ways else []:
            values = np.array([regrets[problem][way][seed] for way in ways])
            level = values <= values.min() + TIE
            for place, way in enumerate(ways):
                better, equal = (values < values[place] - TIE).sum(), (abs(values - values[place]) <= TIE).sum()
                ranks[way].append(float(better + (equal + 1) / 2))
                wins[way].append(float(level[place] / level.sum()))
    return {
        way: Score(float(np.mean(ranks[way])), float(np.mean(wins[way])), len(ranks[way])) for way in ways if ranks[way]
    }


def _ways(regrets: Regrets) -> list[str]:
    return list(dict.fromkeys(way for ways in regrets.values() for way in ways))


def quantile(regrets: Mapping[int, float], share: float) -> float:
    """Over the seeds."""
    return float(np.quantile(list(regrets.values()), share))


@dataclass(frozen=True)
class Band:
    """Regret against epochs: median and quartiles over the seeds."""

    spent: list[int]
    low: list[float]
    median: list[float]
    high: list[float]


def band(results: Sequence[Result], points: int = 60) -> Band | None:
    """Of one way on one problem at its largest budget; from where half of the seeds have something to choose."""
    if not results:
        return None
    longest = max(result.trials for result in results)
    results = [result for result in results if result.trials == longest]
    end = longest * results[0].epochs
    spent = sorted({round(at) for at in np.geomspace(max(1, end // 50), end, points)})
    values = np.array([[result.regret(at, np.nan) for at in spent] for result in results])
    usable = [place for place in range(len(spent)) if np.isfinite(values[:, place]).mean() > 0.5]
    low, median, high = np.nanquantile(values[:, usable], (0.25, 0.5, 0.75), axis=0)
    return Band([spent[place] for place in usable], low.tolist(), median.tolist(), high.tolist())
