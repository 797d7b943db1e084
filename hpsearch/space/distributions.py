"""Ranges as Optuna's distributions: as objects, as the JSON that its databases hold, and the numbers beside it.

Reading and writing the JSON needs no import of Optuna (0.5 s): commands that only look at a study stay fast.
Choices whose values are lists are stored as their JSON text, "[50, 20]", since Optuna's choices are plain values.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hpsearch.config import Choice, FloatRange, IntRange, Range
from hpsearch.config.ranges import freeze
from hpsearch.errors import ConfigError, StorageError
from hpsearch.space.scale import choice_index, format_range, format_value, on_grid

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


def to_optuna_value(value: Any) -> Any:
    """The value as Optuna's params hold it: a tuple as its JSON text, anything else as it is."""
    return json.dumps(value) if isinstance(value, tuple | list) else value


def from_optuna_value(range_: Range, value: Any) -> Any:
    """The inverse of `to_optuna_value`, for a value of this range."""
    match range_:
        case Choice():
            return _from_optuna_choice(value)
        case IntRange():
            return int(value)
        case FloatRange():
            return float(value)


def _from_optuna_choice(value: Any) -> Any:
    """Text that holds a JSON list as a tuple; text that only starts like one stays text."""
    if isinstance(value, str) and value.startswith("["):
        try:
            return freeze(json.loads(value))
        except json.JSONDecodeError:
            return value
    return value


def range_to_json(range_: Range) -> str:
    """What `optuna.distributions.distribution_to_json` gives for this range, to the letter."""
    name, attributes = _to_attributes(range_)
    return json.dumps({"name": name, "attributes": attributes})


def range_from_json(text: str) -> Range:
    """The range that a database holds as JSON; the distributions of Optuna 1 and 2 are read, too.

    Raises:
        StorageError: it is not the JSON of a distribution that Optuna has or had.
    """
    try:
        parsed = json.loads(text)
        return _from_attributes(parsed["name"], parsed["attributes"])
    except (ValueError, KeyError, TypeError, ConfigError) as error:
        raise StorageError(f"a study has a distribution that cannot be read: {text}\n{error}") from None


def to_optuna(range_: Range) -> BaseDistribution:
    """The Optuna distribution of a range."""
    from optuna import distributions

    name, attributes = _to_attributes(range_)
    distribution: BaseDistribution = getattr(distributions, name)(**attributes)
    return distribution


def from_optuna(distribution: BaseDistribution) -> Range:
    """The range of an Optuna distribution.

    Raises:
        StorageError: Optuna has no such distribution.
    """
    from optuna.distributions import distribution_to_json

    return range_from_json(distribution_to_json(distribution))


def to_internal(range_: Range, value: Any) -> float:
    """The number under which Optuna stores the value: an index for choices.

    Raises:
        ConfigError: the value is not among the choices.
    """
    if not isinstance(range_, Choice):
        return float(value)
    index = choice_index(range_, value)
    if index is None:
        raise ConfigError(f"{format_value(value)} is not one of the choices.\nAllowed: {format_range(range_)}.")
    return float(index)


def from_internal(range_: Range, number: float) -> Any:
    """The value that Optuna stores as this number."""
    match range_:
        case Choice(values):
            return values[int(number)]
        case _:
            return from_optuna_value(range_, number)


def _to_attributes(range_: Range) -> tuple[str, dict[str, Any]]:
    """Class name and attributes, in the order in which Optuna writes them."""
    match range_:
        case Choice(values):
            return "CategoricalDistribution", {"choices": [to_optuna_value(value) for value in values]}
        case IntRange():
            ends = {"low": range_.low, "high": on_grid(range_).high}
            return "IntDistribution", {"log": range_.log, "step": range_.step, **ends}
        case FloatRange():
            ends = {"low": float(range_.low), "high": float(on_grid(range_).high)}
            step = None if range_.step is None else float(range_.step)
            return "FloatDistribution", {"step": step, **ends, "log": range_.log}


def _from_attributes(name: str, attributes: dict[str, Any]) -> Range:
    match name:
        case "CategoricalDistribution":
            return Choice(tuple(_from_optuna_choice(value) for value in attributes["choices"]))
        case "FloatDistribution":
            return FloatRange(attributes["low"], attributes["high"], attributes["log"], attributes["step"])
        case "UniformDistribution":
            return FloatRange(attributes["low"], attributes["high"])
        case "LogUniformDistribution":
            return FloatRange(attributes["low"], attributes["high"], log=True)
        case "DiscreteUniformDistribution":
            return FloatRange(attributes["low"], attributes["high"], step=attributes["q"])
        case "IntDistribution":
            return IntRange(attributes["low"], attributes["high"], attributes["log"], attributes["step"])
        case "IntUniformDistribution":
            return IntRange(attributes["low"], attributes["high"], step=attributes["step"])
        case "IntLogUniformDistribution":
            return IntRange(attributes["low"], attributes["high"], log=True)
    raise ValueError(f"{name} is not a distribution of Optuna.")
