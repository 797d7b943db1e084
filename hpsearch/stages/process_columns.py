"""Hyperparameters as the columns of a Gaussian process, and back. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hpsearch.config import Choice, Range
from hpsearch.space.scale import choice_index, from_unit, num_values, position


class ProcessColumns:
    """First a column for each number, 0 to 1 in its range; then one for each value of a choice, any two 1 apart.

    What has one value alone has no column.

    Args:
        space: ranges.
    """

    def __init__(self, space: Mapping[str, Range]) -> None:
        self._space = dict(space)
        varied = {name: range_ for name, range_ in space.items() if num_values(range_) > 1}
        self.numbers = {name: range_ for name, range_ in varied.items() if not isinstance(range_, Choice)}
        self.choices = {name: range_ for name, range_ in varied.items() if isinstance(range_, Choice)}

    def of(self, trials: Sequence[Mapping[str, Any]]) -> np.ndarray:
        """Of the hyperparameters of N trials: N x columns."""
        rows = [
            [*(position(range_, params[name]) for name, range_ in self.numbers.items()), *self._one_hot(params)]
            for params in trials
        ]
        return np.array(rows, dtype=float).reshape(len(rows), self.num)

    @property
    def num(self) -> int:
        """So many columns."""
        return len(self.numbers) + sum(len(range_.values) for range_ in self.choices.values())

    def params(self, row: np.ndarray) -> dict[str, Any]:
        """The hyperparameters that lie nearest to a point."""
        found: dict[str, Any] = {name: _only_value(range_) for name, range_ in self._space.items()}
        found |= {name: from_unit(range_, float(row[at])) for at, (name, range_) in enumerate(self.numbers.items())}
        for (name, range_), (first, last) in zip(self.choices.items(), self._blocks(), strict=True):
            found[name] = range_.values[int(np.argmax(row[first:last]))]
        return found

    def snap(self, points: np.ndarray) -> np.ndarray:
        """The nearest points that there are: whole numbers and steps, and one value of each choice."""
        snapped = points.copy()
        for at, range_ in enumerate(self.numbers.values()):
            if range_.step is not None:
                snapped[:, at] = [position(range_, from_unit(range_, unit)) for unit in points[:, at]]
        for first, last in self._blocks():
            highest = points[:, first:last].argmax(axis=1)
            snapped[:, first:last] = np.eye(last - first)[highest] / 2**0.5
        return snapped

    def _one_hot(self, params: Mapping[str, Any]) -> list[float]:
        return [
            float(index == choice_index(range_, params[name])) / 2**0.5
            for name, range_ in self.choices.items()
            for index in range(len(range_.values))
        ]

    def _blocks(self) -> list[tuple[int, int]]:
        """The first column of each choice, and the one after its last."""
        blocks, first = [], len(self.numbers)
        for range_ in self.choices.values():
            blocks.append((first, first + len(range_.values)))
            first += len(range_.values)
        return blocks


def _only_value(range_: Range) -> Any:
    return range_.values[0] if isinstance(range_, Choice) else range_.low
