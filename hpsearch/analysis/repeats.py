"""The best trials of a stage, trained again with other seeds before a winner is named. Pure.

Of many trials the one with the best score is partly the luckiest (the winner's curse): its first score, by which it was
chosen, is too good. What the same hyperparameters give with other seeds has not been chosen by anything, so the winner
is the one with the best mean of these, and the first score is shown beside it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hpsearch.config.metric import Metric
from hpsearch.results import Direction, goodness
from hpsearch.space import Observation
from hpsearch.wording import count_text, value_text

# Quantiles of Student's t distribution for two-sided intervals of 95%, from one degree of freedom on.
T_95 = (12.71, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.16, 2.145, 2.131, 2.12,
        2.11, 2.101, 2.093, 2.086, 2.08, 2.074, 2.069, 2.064, 2.06, 2.056, 2.052, 2.048, 2.045)  # fmt: skip
MOST_SEEDS = len(T_95) + 1


def interval_of_mean(values: Sequence[float]) -> tuple[float, float] | None:
    """95% for the mean of what the values are drawn from, by Student's t; None below two.

    Beyond 30 values it is a little too wide: the quantile stays that of 30.
    """
    if len(values) < 2:
        return None
    mean = statistics.fmean(values)
    half = T_95[min(len(values), MOST_SEEDS) - 2] * statistics.stdev(values) / math.sqrt(len(values))
    return mean - half, mean + half


def mean_of_calls(first: float, again: Sequence[float]) -> float:
    """Of a trial that was called again for having led: over its first value as well."""
    return statistics.fmean([first, *again])


@dataclass(frozen=True)
class Repeated:
    """One trial and what it gave with other seeds. What exploded or failed then is counted, and has no value."""

    number: int
    first: float
    """The value by which it was chosen."""
    values: tuple[float, ...]
    num_exploded: int = 0
    counts_first: bool = False
    """Whether the first value is one of those that the mean is of."""

    @property
    def again(self) -> float | None:
        """The mean over the other seeds; None where all exploded."""
        return statistics.fmean(self.values) if self.values else None

    @property
    def mean(self) -> float | None:
        """By which the winner is chosen; None where all other seeds exploded, or one of the calls gave no value."""
        if not self.counts_first:
            return self.again
        return mean_of_calls(self.first, self.values) if self.values and not self.num_exploded else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """95% for the mean over the other seeds, by Student's t; None below two values."""
        return interval_of_mean(self.values)

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "trial": self.number,
            "first": self.first,
            "values": list(self.values),
            "exploded": self.num_exploded,
            "mean": self.mean,
            "interval": list(self.interval) if self.interval is not None else None,
        }


@dataclass(frozen=True)
class Repeats:
    """What a stage keeps of them: the trials, by what they first gave, and a value for each seed, None if it exploded.

    It is written after each training, so that a stage which is stopped goes on.
    """

    num_seeds: int
    first: Mapping[int, float]
    """By trial."""
    values: Mapping[int, Mapping[int, float | None]]
    """By trial and seed."""
    among_trials: bool = False
    """Whether they are trials of the stage, of which whoever led got more: see `analysis.called_again`."""

    @property
    def is_whole(self) -> bool:
        """Whether all have been trained; of trials of the stage, what there is counts."""
        return self.among_trials or all(len(self.values.get(number, {})) >= self.num_seeds for number in self.first)

    @property
    def repeated(self) -> list[Repeated]:
        """The trials in the order of their numbers' first values."""
        found = []
        for number, first in self.first.items():
            values = list(self.values.get(number, {}).values())
            known = tuple(value for value in values if value is not None)
            found.append(Repeated(number, first, known, len(values) - len(known), self.among_trials))
        return found

    def as_dict(self) -> dict[str, Any]:
        """As kept with the study."""
        return {
            "seeds": self.num_seeds,
            "first": {str(number): value for number, value in self.first.items()},
            "values": {str(n): {str(seed): v for seed, v in own.items()} for n, own in self.values.items()},
        }

    def with_values(self, new: Mapping[int, Mapping[int, float | None]]) -> Repeats:
        """With more trainings."""
        merged = {n: {**self.values.get(n, {}), **new.get(n, {})} for n in {**self.values, **new}}
        return replace(self, values=merged)


def stored_repeats(stored: Any) -> Repeats | None:
    """From what `as_dict` wrote."""
    match stored:
        case {"seeds": int(seeds), "first": dict(first), "values": dict(values)}:
            try:
                return Repeats(
                    seeds,
                    {int(number): float(value) for number, value in first.items()},
                    {
                        int(number): {int(seed): None if v is None else float(v) for seed, v in own.items()}
                        for number, own in values.items()
                    },
                )
            except (AttributeError, TypeError, ValueError):
                return None
    return None


def by_mean(repeats: Repeats | None, direction: Direction) -> list[Repeated]:
    """The trials, the best mean first: those that never exploded before all others. None before all are trained.

    Of trials of the stage, the first value counts as well: whoever fell behind has been called less often than others.
    """
    if repeats is None or not repeats.is_whole:
        return []

    return sorted(repeats.repeated, key=lambda each: (each.num_exploded, -goodness(each.mean, direction)))


def in_order_of_means(
    observations: Sequence[Observation], repeats: Repeats | None, direction: Direction
) -> list[Observation]:
    """The observations of a stage, in which the trials that were trained again are in the order of their means.

    They share the first scores among them, so that together they stay as far ahead of the others as they were.
    """
    order = by_mean(repeats, direction)
    ranked = sorted((each.first for each in order), key=lambda value: -goodness(value, direction))
    for position in range(len(ranked) - 2, -1, -1):  # of equal scores the lower number would be the best
        if goodness(ranked[position], direction) <= goodness(ranked[position + 1], direction):
            better = math.inf if direction == "maximize" else -math.inf
            ranked[position] = math.nextafter(ranked[position + 1], better)
    values = {each.number: value for each, value in zip(order, ranked, strict=True)}
    return [replace(each, value=values[each.number]) if each.number in values else each for each in observations]


def repeated_text(each: Repeated, metric: Metric) -> str:
    """`trial 5: 0.9896 at first, again 0.9757 [0.9612, 0.9902]`."""
    text = f"trial {each.number}: {metric.text(each.first)} at first, "
    text += f"again {metric.text(each.again)}" if each.again is not None else "again none"
    if each.interval is not None:
        low, high = each.interval
        text += f" [{metric.text(low)}, {metric.text(high)}]"
    if each.counts_first and each.mean is not None:
        text += f", mean {metric.text(each.mean)}"
    if each.num_exploded:
        how = "exploded" if not each.counts_first else "without a value"  # it may have failed
        text += f", {each.num_exploded} {how}"
    return text


def best_called_again(order: Sequence[Repeated]) -> Repeated | None:
    """The best trial of a stage, where it was chosen by the mean of its first value and others.

    A net that is trained again with other seeds has the value of its own training, of which the weights are.
    """
    return order[0] if order and order[0].counts_first and order[0].mean is not None else None


def without_mean(order: Sequence[Repeated]) -> set[int]:
    """The trials that gave no value when they were called again, and so cannot be a stage's best.

    None of nets, of which the trial's own training is kept whatever others give.
    """
    return {each.number for each in order if each.counts_first and each.mean is None}


def best_value(highest: float | None, order: Sequence[Repeated]) -> float | None:
    """The value of a stage's best trial: the mean of its calls, or the first one of a net that was trained again.

    Args:
        highest: the best first value of all trials, which it is where none was trained again to the end.
        order: the trials that were, the best mean first.
    """
    if not order or order[0].mean is None:
        return highest
    return order[0].mean if order[0].counts_first else order[0].first


def chosen_text(value: float | None, order: Sequence[Repeated]) -> str:
    """The value of a stage's best trial: `0.9413`; of one that was called again, `0.9281, the mean of 2 calls`."""
    if (called := best_called_again(order)) is None:
        return value_text(value)
    return f"{value_text(called.mean)}, {calls_text(called)}"


def calls_text(called: Repeated) -> str:
    """`the mean of 2 calls`."""
    return f"the mean of {count_text(1 + len(called.values), 'call')}"


def curse_text(order: Sequence[Repeated], metric: Metric) -> str:
    """By how much the first scores were too good, in one sentence."""
    pairs = [(each.first, each.again) for each in order if each.again is not None]
    if not pairs:
        if any(each.counts_first for each in order):
            return "none of them gave a value when it was called again"
        return "none of them was trained to the end with another seed"
    what = "what they give again" if len(pairs) > 1 else "what it gives again"
    gap = statistics.fmean(metric.goodness(first) - metric.goodness(again) for first, again in pairs)
    whose = f"the first score{'s' if len(pairs) > 1 else ''} of {count_text(len(pairs), 'trial')}"
    verb = "were" if len(pairs) > 1 else "was"
    if gap <= 0:
        return f"{whose} {verb} no better than {what}"
    return f"{whose} {verb} {metric.text(gap)} better than {what}: chosen for a score, chosen for luck"
