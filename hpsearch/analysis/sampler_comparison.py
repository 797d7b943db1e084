"""Samplers compared at equal budget over repeats with equal seeds: pure functions of the values they found.

Shapes: R repeats, N trials each. A value is that of train.metric, None for a trial that exploded or failed; guessing
(an accuracy of 1 / number of classes) is open to every search, so it counts as found before the first trial.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from hpsearch.config import Range
from hpsearch.config.metric import ACCURACY, Metric

CONFIDENCE = 0.95  # of the bands


@dataclass(frozen=True)
class Search:
    """One sampler's trials in one repeat, in the order of their numbers."""

    sampler: str
    repeat: int
    params: tuple[Mapping[str, Any], ...]
    values: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class Band:
    """A mean over repeats with its confidence interval; the interval is None for a single repeat."""

    mean: float
    low: float | None
    high: float | None

    @property
    def half_width(self) -> float | None:
        """What stands behind the plus-minus sign."""
        return None if self.high is None else self.high - self.mean

    def as_dict(self) -> dict[str, float | None]:
        """The band as JSON."""
        return {"mean": self.mean, "low": self.low, "high": self.high}


def best_so_far(values: Sequence[float | None], guessing: float, metric: Metric = ACCURACY) -> list[float]:
    """The best value up to each trial, never worse than what guessing gives."""
    best, curve = guessing, []
    for value in values:
        best = best if value is None else max(best, value, key=metric.goodness)
        curve.append(best)
    return curve


def band(samples: Sequence[float]) -> Band:
    """Mean and 95% interval of the mean over repeats, by Student's t: repeats are few and their spread is not known."""
    mean = math.fsum(samples) / len(samples)
    if len(samples) < 2:
        return Band(mean, None, None)
    from scipy.special import stdtrit

    variance = math.fsum((sample - mean) ** 2 for sample in samples) / (len(samples) - 1)
    half = float(stdtrit(len(samples) - 1, 0.5 + CONFIDENCE / 2)) * math.sqrt(variance / len(samples))
    return Band(mean, mean - half, mean + half)


def wins(finals: Mapping[str, Sequence[float]], metric: Metric = ACCURACY) -> dict[str, float]:
    """How many repeats each sampler wins; those who tie for the best of a repeat share it in equal parts."""
    counts = dict.fromkeys(finals, 0.0)
    for row in zip(*finals.values(), strict=True):
        winners = [
            sampler for sampler, value in zip(finals, row, strict=True) if value == max(row, key=metric.goodness)
        ]
        for sampler in winners:
            counts[sampler] += 1 / len(winners)
    return counts


def num_distinct(search: Search, param: str) -> int:
    """How many values of a parameter the search tried: nine by nine random trials, three by a grid of 3 x 3."""
    return len({repr(params[param]) for params in search.params if param in params})


@dataclass(frozen=True)
class Comparison:
    """What repeated searches with several samplers found.

    Attributes:
        name: of the comparison; its studies are called name/sampler/repeat.
        searches: by sampler; the same repeats in the same order for each, all their trials ended.
        ranges: what was searched.
        num_trials: N, the same for all.
        num_asked: the budget that was asked for; more than N where the largest balanced grid has fewer points.
        num_epochs: of each trial; None where it has none.
        guessing: value of a guess.
        num_planned: repeats that there will be; more than R while the comparison is not finished.
        importances: share of each parameter in what makes a trial good, from the most to the least important.
        metric: what the values are.
    """

    name: str
    searches: Mapping[str, Sequence[Search]]
    ranges: Mapping[str, Range]
    num_trials: int
    num_asked: int
    num_epochs: int | None
    guessing: float
    num_planned: int
    importances: Mapping[str, float] = field(default_factory=dict)
    metric: Metric = ACCURACY

    @property
    def samplers(self) -> tuple[str, ...]:
        """In the order in which they were asked for."""
        return tuple(self.searches)

    @property
    def repeats(self) -> tuple[int, ...]:
        """Repeats that all samplers have finished."""
        return tuple(search.repeat for search in next(iter(self.searches.values())))

    @cached_property
    def finals(self) -> dict[str, list[float]]:
        """Best value of each repeat after the full budget, by sampler."""
        return {
            sampler: [best_so_far(search.values, self.guessing, self.metric)[-1] for search in runs]
            for sampler, runs in self.searches.items()
        }

    @cached_property
    def wins(self) -> dict[str, float]:
        """See `wins`."""
        return wins(self.finals, self.metric)

    def curve(self, sampler: str) -> list[Band]:
        """Best so far after each of the N trials."""
        curves = [best_so_far(search.values, self.guessing, self.metric) for search in self.searches[sampler]]
        return [band(column) for column in zip(*curves, strict=True)]

    def difference(self, one: str, other: str) -> Band:
        """How much better one sampler's best is than the other's, repeat by repeat: seeds that are equal cancel."""
        good = self.metric.goodness
        return band([good(a) - good(b) for a, b in zip(self.finals[one], self.finals[other], strict=True)])

    def distinct(self, sampler: str) -> dict[str, float]:
        """Values tried per parameter in one search, averaged over the repeats."""
        runs = self.searches[sampler]
        return {param: sum(num_distinct(search, param) for search in runs) / len(runs) for param in self.ranges}

    @property
    def ranked_params(self) -> tuple[str, ...]:
        """Parameters from the most to the least important; as they stand in the space where that is not known."""
        return tuple(self.importances) or tuple(self.ranges)

    def as_dict(self) -> dict[str, Any]:
        """The comparison as JSON."""
        shares = {sampler: won / len(self.repeats) for sampler, won in self.wins.items()}
        first, *others = self.samplers
        return {
            "comparison": self.name,
            "repeats": len(self.repeats),
            "repeats_planned": self.num_planned,
            "trials": self.num_trials,
            "trials_asked": self.num_asked,
            "epochs": self.num_epochs,
            "metric": self.metric.name,
            "guessing": self.guessing,
            "samplers": {
                sampler: {
                    "best": {**band(self.finals[sampler]).as_dict(), "of_repeats": self.finals[sampler]},
                    "wins": self.wins[sampler],
                    "win_share": shares[sampler],
                    "distinct_values": self.distinct(sampler),
                    "best_so_far": [point.as_dict() for point in self.curve(sampler)],
                }
                for sampler in self.samplers
            },
            "differences": [{"of": first, "to": other, **self.difference(first, other).as_dict()} for other in others],
            "importance": dict(self.importances),
        }
