"""What the database holds of a study and its trials, as plain values."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal, get_args

from hpsearch.config import Range
from hpsearch.space import range_from_json, range_to_json, to_internal

Direction = Literal["minimize", "maximize"]
State = Literal["WAITING", "RUNNING", "COMPLETE", "PRUNED", "FAIL"]
STATES: tuple[State, ...] = get_args(State)


@dataclass(frozen=True, slots=True)
class StudyRow:
    """A study: one direction per objective, and its user attributes."""

    study_id: int
    name: str
    directions: tuple[Direction, ...]
    attrs: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TrialRow:
    """A trial. `value` is that of the first objective, and None if there is none or if it is nan.

    A pruned trial has the value that whoever pruned it gave it; Optuna gives it the last intermediate one.
    Intermediate values are in the order of their steps, and may be inf or nan. Times are UTC.
    """

    trial_id: int
    number: int
    state: State
    value: float | None = None
    params: dict[str, Any] = field(default_factory=dict)
    ranges: dict[str, Range] = field(default_factory=dict)
    intermediate: dict[int, float] = field(default_factory=dict)
    attrs: dict[str, Any] = field(default_factory=dict)
    started: datetime | None = None
    completed: datetime | None = None


@dataclass(frozen=True, slots=True)
class NewTrial:
    """A trial to wait for a worker; without `params`, they are drawn when one takes it."""

    params: Mapping[str, Any] | None = None
    attrs: Mapping[str, Any] = field(default_factory=dict)


def to_stored(value: float) -> tuple[float | None, str]:
    """A float as Optuna keeps it: (number or None, FINITE | INF_POS | INF_NEG | NAN)."""
    if math.isfinite(value):
        return float(value), "FINITE"
    return None, "NAN" if math.isnan(value) else "INF_POS" if value > 0 else "INF_NEG"


def from_stored(value: float | None, kind: str) -> float:
    """The float that `to_stored` took; nan also for a NULL called FINITE, which SQLite makes of nan."""
    if kind == "FINITE" and value is not None:
        return value
    return {"INF_POS": math.inf, "INF_NEG": -math.inf}.get(kind, math.nan)


@lru_cache(maxsize=1024)
def cached_range(text: str) -> Range:
    """`range_from_json`; a study repeats the same few texts in each of its trials."""
    return range_from_json(text)


def attr_rows(attrs: Mapping[str, Any]) -> list[dict[str, str]]:
    """Attributes as Optuna keeps them: their keys, and their values as JSON."""
    return [{"key": key, "value_json": json.dumps(value)} for key, value in attrs.items()]


def param_rows(drawn: Iterable[tuple[int, Mapping[str, Any]]], ranges: Mapping[str, Range]) -> list[dict[str, Any]]:
    """Hyperparameters, by trial id, as Optuna keeps them: a float and the JSON of the range."""
    texts = {name: range_to_json(range_) for name, range_ in ranges.items()}
    return [
        {
            "trial_id": trial_id,
            "param_name": name,
            "param_value": to_internal(ranges[name], value),
            "distribution_json": texts[name],
        }
        for trial_id, params in drawn
        for name, value in params.items()
    ]
