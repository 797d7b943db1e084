"""Values that any program may have stored: what is of another type than is asked for counts as not there."""

from __future__ import annotations

from typing import Any, TypeVar

Value = TypeVar("Value")


def of_type(kind: type[Value], stored: Any) -> Value | None:
    """What is stored, if it is of this type; a bool is no int."""
    return stored if isinstance(stored, kind) and not isinstance(stored, bool) else None


def list_in(stored: Any) -> list[Any]:
    """The list, or an empty one."""
    return of_type(list, stored) or []


def number_in(stored: Any) -> float | None:
    """A float, or the text that `results.plain` made of one."""
    if stored in ("nan", "inf", "-inf"):
        return float(stored)
    return float(stored) if isinstance(stored, int | float) and not isinstance(stored, bool) else None


def measures_in(stored: Any) -> dict[str, float] | None:
    """Numbers by name, those that are none left out; None without any."""
    found = {str(name): number_in(value) for name, value in (of_type(dict, stored) or {}).items()}
    return {name: value for name, value in found.items() if value is not None} or None


def numbers_in(stored: Any) -> tuple[float, ...] | None:
    """A list of numbers; None where one is none."""
    found = [number_in(each) for each in list_in(stored)]
    return tuple(each for each in found if each is not None) if found and None not in found else None
