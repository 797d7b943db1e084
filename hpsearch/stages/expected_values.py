"""What a trial is worth by all trials around it: of many noisy values the highest is partly luck. Pure.

A Gaussian process through the values of all calls predicts what further calls would come to, in the mean, where each
trial lies. On surfaces with a known optimum the trial of the highest prediction is nearer to it than that of the
highest value, the more so the more trials lie near it. What exploded is not told: the best trials often lie beside it,
and would be thought little of (docs/log.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from hpsearch.config import Range
from hpsearch.results import Direction, goodness
from hpsearch.stages.process_columns import ProcessColumns
from hpsearch.stages.told_values import told_values


class Tried(NamedTuple):
    """Hyperparameters, and the value of each call with them that has one."""

    params: Mapping[str, Any]
    values: Sequence[float]


class ExpectedValues:
    """Learns from trials, and then says what it expects of some of them.

    Args:
        space: what is searched.
        direction: of the values.
    """

    def __init__(self, space: Mapping[str, Range], direction: Direction) -> None:
        self._space, self._direction = dict(space), direction
        self._columns = ProcessColumns(space)
        self._process: Any = None  # a GaussianProcess, whose module takes a tenth of a second to import
        self._told: list[tuple[Mapping[str, Any], float]] = []

    def learn(self, tried: Sequence[Tried]) -> None:
        """From all that is known now; nothing where not all trials have all hyperparameters, or all gave the same."""
        told = [(each.params, value) for each in tried for value in each.values]
        if told == self._told:
            return
        self._told = told
        has_all = all(self._space.keys() <= params.keys() for params, _ in told)
        values_N = np.array(told_values([value for _, value in told], self._direction)) * goodness(1.0, self._direction)
        if not has_all or self._columns.num == 0 or len(told) < 2 or not np.ptp(values_N):
            self._process = None
            return
        from hpsearch.stages.gaussian_process import fit_process
        from hpsearch.stages.process_lines import can_be_linked, linked_process, scaled

        columns_NC, scaled_N = self._columns.of([params for params, _ in told]), scaled(values_N)
        if self._process is not None:  # a few more trials change it little
            self._process = fit_process(columns_NC, scaled_N, self._process.linked, self._process.found, starts=0)
            return
        linked = can_be_linked(self._columns, values_N)
        self._process = linked_process(columns_NC, scaled_N, len(self._columns.numbers)) if linked else None
        self._process = self._process or fit_process(columns_NC, scaled_N, starts=1)

    def of(self, trials: Sequence[Mapping[str, Any]]) -> list[float] | None:
        """What is expected of each, the more the better, on a scale of its own; None where nothing was learned.

        Args:
            trials: their hyperparameters.
        """
        if self._process is None or any(not self._space.keys() <= params.keys() for params in trials):
            return None
        means: list[float] = self._process.predict(self._columns.of(trials))[0].tolist()
        return means
