"""What further epochs give a trial, learnt from those that were trained further. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping

from hpsearch.config.metric import Metric

MIN_PAIRS = 3  # trials of the stage that say what further epochs give; before, values are told as they are


class LearnedShift:
    """How much higher a trial ends than it stood after fewer epochs: learnt from trials that were trained further.

    Args:
        metric: what is measured.
    """

    def __init__(self, metric: Metric) -> None:
        self._metric = metric
        self._curves: list[tuple[Mapping[int, float], float]] = []
        self._gains: dict[int, list[float]] = {}  # by the fewer epochs that were asked for

    def learn(self, intermediate: Mapping[int, float], value: float) -> None:
        """From one trial that ended: its values after each epoch, and that of its best one."""
        self._curves.append((intermediate, value))
        for few, gains in self._gains.items():
            gains += self._gain(few, intermediate, value)

    def of(self, epochs: int | None) -> float:
        """To be added to the value of a trial of so many epochs; 0 until enough is known, and where they are None."""
        if epochs is None:
            return 0.0
        if epochs not in self._gains:
            self._gains[epochs] = [gain for curve in self._curves for gain in self._gain(epochs, *curve)]
        gains = self._gains[epochs]
        return statistics.median(gains) if len(gains) >= MIN_PAIRS else 0.0

    def _gain(self, few: int, intermediate: Mapping[int, float], value: float) -> list[float]:
        early = best_until(few, intermediate, self._metric)
        return [value - early] if early is not None and max(intermediate) > few else []


def best_until(epoch: int, intermediate: Mapping[int, float], metric: Metric) -> float | None:
    """The best value of a trial up to an epoch; None where it has none. Pure."""
    best: float | None = None
    for at, value in intermediate.items():
        if at <= epoch:
            best = metric.better(best, value)
    return best
