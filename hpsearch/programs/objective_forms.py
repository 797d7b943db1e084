"""Whether a function is an Optuna objective, as far as that can be known before it is called."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from typing import Any

from hpsearch.config.schema.objective import GIVEN
from hpsearch.config.usercode import UserCodeError
from hpsearch.programs.calling import given_by_name
from hpsearch.programs.messages import Task

ALLOWED = f"Allowed: def objective(trial), an Optuna objective, which returns a number; by name: {', '.join(GIVEN)}."


def refuse_other_objectives(name: str, function: Callable[..., Any]) -> None:
    """Whether it can be called with a trial, and may return a number.

    Raises:
        UserCodeError: it is a class, takes no argument, or others that nobody gives, or returns nothing.
    """
    if why := _is_other(function):
        raise UserCodeError(f"{name} cannot be called as objective(trial): {why}.\n{ALLOWED}")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # of a builtin: nobody knows
        return
    try:
        signature.bind(None, **given_by_name(function, Task(0), 1))
    except TypeError as error:
        raise UserCodeError(f"{name} cannot be called as objective(trial): {error}.\n{ALLOWED}") from None


def _is_other(function: Callable[..., Any]) -> str:
    if inspect.isclass(function):
        return "it is a class; an instance of one with __call__ can be given"
    if not callable(function):
        return f"it is a {type(function).__name__}"
    called = function if inspect.isroutine(function) else type(function).__call__
    if inspect.iscoroutinefunction(called) or inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called):
        return "it is asynchronous or a generator, and gives no number when it is called"
    return "it returns no number: it has no return with a value" if _returns_nothing(called) else ""


def _returns_nothing(function: Callable[..., Any]) -> bool:
    """Whether its source has no `return VALUE` and nothing that it raises; False where there is no source to read."""
    if not inspect.isfunction(function):
        return False
    try:
        [defined] = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(function)))).body
    except (OSError, TypeError, ValueError, SyntaxError):
        return False
    if not isinstance(defined, ast.FunctionDef) or defined.decorator_list:  # what decorates it may return another value
        return False
    return not any(_ends_with_a_value(node) for node in _own_nodes(defined))


def _ends_with_a_value(node: ast.AST) -> bool:
    if isinstance(node, ast.Raise):
        return True
    return isinstance(node, ast.Return) and not (
        node.value is None or (isinstance(node.value, ast.Constant) and node.value.value is None)
    )


def _own_nodes(node: ast.AST) -> list[ast.AST]:
    """All below it but those of functions and classes within."""
    found: list[ast.AST] = []
    for child in ast.iter_child_nodes(node):
        found.append(child)
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            found += _own_nodes(child)
    return found
