"""What a hyperparameter may be: a float or int range, linear or logarithmic, or a choice.

In a study file: `lr = { log = [1e-6, 1e-3] }`, `{ uniform = [a, b] }`, `{ int = [a, b] }`, `{ int_log = [a, b] }`,
`{ choice = [...] }`. On the command line: `log(1e-6, 1e-3)`, `choice([50], [100])` and so on.

A range may say when the hyperparameter is searched at all: `{ uniform = [0.5, 0.99], when = { "train.optimizer" =
"momentum" } }`, with a list for several values; on the command line `uniform(0.5, 0.99) if optimizer=momentum`, with
commas between values and `and` between keys.

A range of numbers may say what the hyperparameter can be at all, where later ranges may move: `{ uniform = [0, 0.5],
limits = [0, 1] }`, with "none" for no end; on the command line `uniform(0, 0.5) in [0, 1]`, in front of `if`.
"""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from hpsearch.errors import ConfigError

FORMS = ("log", "uniform", "int", "int_log", "choice")

When: TypeAlias = tuple[tuple[str, tuple[Any, ...]], ...]
"""Other keys, each with the values of which it must have one; see `config.conditions`."""
Limits: TypeAlias = tuple[float | None, float | None]
"""The lowest and the highest value that a number can have; None where there is no end."""


@dataclass(frozen=True, slots=True)
class FloatRange:
    """All floats from low to high, both included; logarithmic, or on a grid of `step` from low."""

    low: float
    high: float
    log: bool = False
    step: float | None = None
    when: When = field(default=(), kw_only=True)
    limits: Limits = field(default=(None, None), kw_only=True)

    def __post_init__(self) -> None:
        _check_ends(self.low, self.high, self.log)


@dataclass(frozen=True, slots=True)
class IntRange:
    """All ints from low to high, both included."""

    low: int
    high: int
    log: bool = False
    step: int = 1
    when: When = field(default=(), kw_only=True)
    limits: Limits = field(default=(None, None), kw_only=True)

    def __post_init__(self) -> None:
        _check_ends(self.low, self.high, self.log)


@dataclass(frozen=True, slots=True)
class Choice:
    """One of some values: None, bool, int, float, str, or tuples of them (shown as lists)."""

    values: tuple[Any, ...]
    when: When = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        if not self.values:
            raise ConfigError("a choice must have at least one value, but got choice = [].")


NumberRange: TypeAlias = FloatRange | IntRange
Range: TypeAlias = FloatRange | IntRange | Choice


def _check_ends(low: float, high: float, log: bool) -> None:
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ConfigError(f"the ends of a range must be finite, but got [{low!r}, {high!r}].")
    if low > high:
        raise ConfigError(f"a range goes from low to high, but got [{low!r}, {high!r}].")
    if log and low <= 0:
        raise ConfigError(f"a log range must start above 0, but got [{low!r}, {high!r}].")


def freeze(value: Any) -> Any:
    """Lists as tuples, all the way down, so that values can be compared and hashed."""
    return tuple(freeze(item) for item in value) if isinstance(value, list | tuple) else value


def thaw(value: Any) -> Any:
    """Tuples as lists, all the way down: the form of TOML and JSON."""
    return [thaw(item) for item in value] if isinstance(value, list | tuple) else value


def parse_range(name: str, value: Any) -> Range:
    """The range that a study file or a flag gives for `name`.

    Raises:
        ConfigError: the form is unknown or its ends are not allowed; the message names `name`.
    """
    if isinstance(value, FloatRange | IntRange | Choice):
        return value
    if isinstance(value, str):
        value = _parse_text(name, value)
    if isinstance(value, dict) and "when" in value:
        form = {key: item for key, item in value.items() if key != "when"}
        return replace(parse_range(name, form), when=_parse_when(name, value["when"]))
    if isinstance(value, dict) and "limits" in value:
        form = {key: item for key, item in value.items() if key != "limits"}
        return _limited(name, parse_range(name, form), value["limits"])
    if not isinstance(value, dict) or len(value) != 1 or next(iter(value)) not in FORMS:
        raise ConfigError(
            f"space.{name} = {value!r} is not a range.\n"
            "Allowed: { log = [a, b] }, { uniform = [a, b] }, { int = [a, b] }, { int_log = [a, b] }, { choice = [a] }."
        )
    form, ends = next(iter(value.items()))
    if not isinstance(ends, list | tuple):
        raise ConfigError(f"space.{name}: {form} takes a list, but got {ends!r}.")
    try:
        if form == "choice":
            values = freeze(ends)
            if len(set(map(repr, values))) != len(values):
                raise ConfigError(f"a value stands twice in choice = {list(ends)!r}.")
            return Choice(values)
        if len(ends) != 2 or any(isinstance(end, bool) or not isinstance(end, int | float) for end in ends):
            raise ConfigError(f"{form} takes two numbers [low, high], but got {list(ends)!r}.")
        if form.startswith("int"):
            if any(end != int(end) for end in ends if math.isfinite(end)):
                raise ConfigError(f"{form} takes whole numbers, but got {list(ends)!r}.")
            return IntRange(int(ends[0]), int(ends[1]), log=form == "int_log")
        return FloatRange(float(ends[0]), float(ends[1]), log=form == "log")
    except (ConfigError, OverflowError, ValueError) as error:
        raise ConfigError(f"space.{name}: {error}") from None


def _limited(name: str, range_: Range, given: Any) -> Range:
    """The range with what its hyperparameter can be at all."""
    if isinstance(range_, Choice):
        raise ConfigError(f"space.{name}: a choice has no limits beyond its values.\nAllowed: limits of a range.")
    ends = [None if end in ("none", "", None) else end for end in given] if isinstance(given, list | tuple) else []
    numbers = [end for end in ends if end is not None]
    if len(ends) != 2 or not numbers or not all(isinstance(n, int | float) and math.isfinite(n) for n in numbers):
        raise ConfigError(
            f"space.{name}: limits = {given!r} is not allowed.\n"
            'Allowed: [lowest, highest], of which one may be "none", as [0, 1] and [0, "none"].'
        )
    low, high = ends
    if (low is not None and low > range_.low) or (high is not None and high < range_.high):
        raise ConfigError(
            f"space.{name}: the range [{range_.low!r}, {range_.high!r}] is not within its limits {_listed(given)}."
        )
    return replace(range_, limits=(low, high))


def dotted(space: Mapping[str, Any]) -> dict[str, Any]:
    """Ranges by their dotted names: without quotes, TOML makes tables of `data.augment.rotate`."""
    found: dict[str, Any] = {}
    for name, value in space.items():
        if isinstance(value, Mapping) and value and all(isinstance(inner, Mapping) for inner in value.values()):
            found |= {f"{name}.{key}": inner for key, inner in dotted(value).items()}
        else:
            found[name] = value
    return found


def _parse_when(name: str, given: Any, prefix: str = "") -> When:
    """Of a table; TOML reads `train.optimizer = "momentum"` in it as a table in a table."""
    if not isinstance(given, Mapping) or not given:
        raise ConfigError(
            f"space.{name}: when = {given!r} is no condition.\n"
            'Allowed: a table of other keys and their values, as { "train.optimizer" = "momentum" }.'
        )
    clauses: list[tuple[str, tuple[Any, ...]]] = []
    for key, value in given.items():
        if isinstance(value, Mapping):
            clauses += _parse_when(name, value, f"{prefix}{key}.")
            continue
        values = freeze(value) if isinstance(value, list | tuple) else (value,)
        if not values:
            raise ConfigError(f"space.{name}: when {prefix}{key} = [] is never so.\nAllowed: a value, or several.")
        clauses.append((f"{prefix}{key}", values))
    return tuple(clauses)


TEXT = r"\s*(\w+)\s*\((.*)\)\s*(?:\bin\s*\[([^\[\]]*)\]\s*)?(?:\bif\b(.*))?"
"""Form, values, limits, condition."""


def _parse_text(name: str, text: str) -> dict[str, Any]:
    match = re.fullmatch(TEXT, text, re.DOTALL)
    if not match or match[1] not in FORMS:
        raise ConfigError(
            f"--space {name}={text} is not a range.\n"
            "Allowed: log(a, b), uniform(a, b), int(a, b), int_log(a, b), choice(x, y, ...)."
        )
    parsed: dict[str, Any] = {match[1]: parse_list(match[2])}
    if match[3] is not None:
        parsed["limits"] = [parse_value(end) for end in match[3].split(",")]
    if match[4] is not None:
        parsed["when"] = {}
        for clause in re.split(r"\sand\s", match[4]):
            key, sign, values = clause.partition("=")
            if not sign or not values.strip():
                raise ConfigError(
                    f"--space {name}={text} has no condition after its if.\n"
                    f"Allowed: RANGE if KEY=VALUE, as --space '{name}={text[: match.end(2) + 1].strip()} if"
                    " optimizer=adam,adamw'."
                )
            parsed["when"][key.strip()] = parse_list(values)
    return parsed


def parse_list(text: str) -> list[Any]:
    """Comma-separated values: numbers, true, false, [lists], and bare or quoted words."""
    try:
        result: list[Any] = json.loads(f"[{text}]")
        return result
    except json.JSONDecodeError:
        words = [word for word in re.split(r",(?![^\[]*\])", text) if word.strip()]
        return [parse_value(word) for word in words]


def parse_value(text: str) -> Any:
    """One value of a flag: JSON where it is JSON (1e-4, true, [50, 20]), a table of TOML, else the text itself."""
    text = text.strip()
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        try:
            return float(text) if text.lower() not in {"nan", "inf", "-inf", "infinity"} else text
        except ValueError:
            if text.startswith("[") and text.endswith("]"):
                return parse_list(text[1:-1])
            if text.startswith("{") and text.endswith("}"):
                return _inline_table(text)
            return text[1:-1] if len(text) > 1 and text[0] == text[-1] == "'" else text


def _inline_table(text: str) -> Any:
    """As in a study file, `{ patience = 3 }`; the text itself where it is none."""
    try:
        return tomllib.loads(f"table = {text}")["table"]
    except tomllib.TOMLDecodeError:
        return text


def dump_range(range_: Range) -> dict[str, Any]:
    """The form of a study file; `parse_range` reads it back."""
    dumped = _dump_form(range_)
    if not isinstance(range_, Choice) and range_.limits != (None, None):
        dumped["limits"] = ["none" if end is None else end for end in range_.limits]
    if range_.when:
        dumped["when"] = {key: thaw(values if len(values) > 1 else _alone(values[0])) for key, values in range_.when}
    return dumped


def _dump_form(range_: Range) -> dict[str, Any]:
    match range_:
        case Choice(values):
            return {"choice": thaw(values)}
        case IntRange(low, high, log):
            return {"int_log" if log else "int": [low, high]}
        case FloatRange(low, high, log):
            return {"log" if log else "uniform": [low, high]}


def _alone(value: Any) -> Any:
    """A single value of a condition: one that is a list itself stays in a list of one."""
    return (value,) if isinstance(value, tuple) else value


def flag_text(plain: Mapping[str, Any]) -> str:
    """The form of a study file as that of the command line."""
    [(form, ends)] = ((form, ends) for form, ends in plain.items() if form in FORMS)
    limits = f" in [{', '.join(map(str, plain['limits']))}]" if "limits" in plain else ""
    when = _parse_when("", plain["when"]) if "when" in plain else ()
    clauses = " and ".join(f"{key}={_listed(values)}" for key, values in when)
    return f"{form}({_listed(ends)}){limits}" + (f" if {clauses}" if clauses else "")


def _listed(values: Any) -> str:
    return ", ".join(json.dumps(thaw(value)) for value in values)
