"""Whether two trials would try the same. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpsearch.config import Choice, Range
from hpsearch.space.scale import choice_index, to_unit

NEAR = 0.01  # of a range, on its scale


def try_the_same(space: Mapping[str, Range], one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether all hyperparameters of two trials are the same, or nearer to each other than NEAR of their ranges."""
    return one.keys() == other.keys() and all(
        _is_near(space[name], value, other[name]) for name, value in one.items() if name in space
    )


def _is_near(range_: Range, one: Any, other: Any) -> bool:
    if isinstance(range_, Choice):
        return choice_index(range_, one) == choice_index(range_, other)
    return one == other or abs(to_unit(range_, one) - to_unit(range_, other)) < NEAR
