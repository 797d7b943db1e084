"""How the user's function is called: with its parameters, `report`, and whatever else it has an argument for."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hpsearch.config.schema.objective import GIVEN
from hpsearch.config.usercode import UserCodeError
from hpsearch.errors import HpsearchError
from hpsearch.programs.messages import Task

MAX_EPOCH = 2**31 - 1  # of an integer column
Report = Callable[..., None]
ALLOWED = (
    "Allowed: def objective(params, report), or (params) alone, which returns a number; "
    f"and by name: {', '.join(GIVEN)}."
)


class TrialEnded(HpsearchError):  # noqa: N818 - no error, as optuna.TrialPruned is none
    """Raised by `report` in a trial that is to end: it was pruned, exploded, or the work is stopped.

    Let it pass, or raise it again after cleaning up.
    """


def refuse_other_forms(name: str, function: Callable[..., Any]) -> None:
    """Whether it can be called as trials are.

    Raises:
        UserCodeError: it takes too few arguments, or others that nobody gives.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # of a builtin: nobody knows
        return
    first = next(iter(signature.parameters), None)
    if first in GIVEN:
        raise UserCodeError(f"{name} takes {first} where it is given params.\n{ALLOWED}")
    try:
        signature.bind(*_first_arguments(function, {}, _nobody), **given_by_name(function, Task(0)))
    except TypeError as error:
        raise UserCodeError(f"{name} cannot be called as objective(params, report): {error}.\n{ALLOWED}") from None


def takes_report(function: Callable[..., Any]) -> bool:
    """Whether its second argument is `report`: one that returns its value alone may be (params), or (params, seed)."""
    try:
        arguments = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # of a builtin: nobody knows
        return True
    in_order = [each for each in arguments if each.kind not in (each.KEYWORD_ONLY, each.VAR_KEYWORD)]
    if in_order and in_order[0].kind is inspect.Parameter.VAR_POSITIONAL:
        return True
    return len(in_order) > 1 and in_order[1].name not in GIVEN


def _first_arguments(function: Callable[..., Any], params: dict[str, Any], report: Report) -> tuple[Any, ...]:
    return (params, report) if takes_report(function) else (params,)


def taken(function: Callable[..., Any], num_first: int | None = None) -> tuple[str, ...]:
    """What it is given by name: those of GIVEN that it has arguments for, behind the first ones."""
    try:
        return tuple(given_by_name(function, Task(0), num_first))
    except (TypeError, ValueError):  # of a builtin: nobody knows
        return ()


def call(name: str, function: Callable[..., Any], task: Task, report: Report) -> float:
    """The value of a trial.

    Raises:
        UserCodeError: it is no number.
        BaseException: whatever the function raises.
    """
    first = _first_arguments(function, dict(task.params), report)
    return as_number(name, function(*first, **given_by_name(function, task)), ALLOWED)


def as_number(name: str, value: Any, allowed: str) -> float:
    """What a function returned, as a number.

    Raises:
        UserCodeError: it is none; `allowed` is what the message ends with.
    """
    try:
        if isinstance(value, bool) or value is None:
            raise TypeError
        return float(value)
    except (TypeError, ValueError):
        raise UserCodeError(f"{name} returned {_shown(value)}, not a number.\n{allowed}") from None


def as_value(value: Any) -> float:
    """What was reported, as a number; nan and inf are such.

    Raises:
        UserCodeError: it is none.
    """
    try:
        if isinstance(value, bool | str | bytes) or value is None:
            raise TypeError
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise UserCodeError(f"report(value): value = {_shown(value)} is no number.\nAllowed: a number.") from None


def as_epoch(epoch: Any) -> int:
    """Of what was reported: a whole number, also one of numpy's, or 3.0.

    Raises:
        UserCodeError: it is none, or too small or large.
    """
    try:
        if isinstance(epoch, bool | str | bytes) or int(epoch) != epoch:
            raise TypeError
    except (TypeError, ValueError, OverflowError):
        raise UserCodeError(
            f"report(value, epoch): epoch = {_shown(epoch)} is no whole number.\nAllowed: 0 to {MAX_EPOCH}, or none."
        ) from None
    if not 0 <= epoch <= MAX_EPOCH:
        raise UserCodeError(
            f"report(value, epoch): epoch = {_shown(epoch)} is not allowed.\nAllowed: 0 to {MAX_EPOCH}, or none."
        )
    return int(epoch)


def given_by_name(function: Callable[..., Any], task: Task, num_first: int | None = None) -> dict[str, Any]:
    """What the function wants to know, by the names of its arguments; the first ones, params and report, otherwise."""
    named: Mapping[str, Any] = inspect.signature(function).parameters
    offered = {
        "epochs": task.epochs,
        "seed": task.seed,
        "device": task.device,
        "checkpoint": Path(task.checkpoint),
        "trial": task.number,
    }
    if num_first is None:
        num_first = 1 + takes_report(function)
    first = list(named)[:num_first]
    return {name: value for name, value in offered.items() if name in named and name not in first}


def _nobody(_value: float, _epoch: int | None = None) -> None:
    """In place of `report`."""


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{type(value).__name__} {text[:57]}..."
