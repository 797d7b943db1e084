"""Wrong options and arguments, said as all other errors are: two lines, the option, its value, and what is allowed.

Typer finds them while it reads the command line, and would draw them as a box. It brings its own copy of click, or uses
click's, by its version; both have the same names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup
from typing_extensions import override

from hpsearch.errors import ConfigError

USAGE_ERROR: type[Any] = typer.BadParameter.__mro__[1]  # click's UsageError
KINDS = {"int": "a whole number", "integer": "a whole number", "float": "a number"}


class Commands(TyperGroup):
    """Commands whose usage errors are ours."""

    @override
    def make_context(self, *given: Any, **named: Any) -> Any:
        with in_two_lines():
            return super().make_context(*given, **named)

    @override
    def invoke(self, ctx: Any) -> Any:
        with in_two_lines():
            return super().invoke(ctx)


@contextmanager
def in_two_lines() -> Iterator[None]:
    """What typer says of the command line, as a ConfigError; help for a command without words stays help.

    Raises:
        ConfigError: an option, an argument or a command is wrong, missing or unknown.
    """
    try:
        yield
    except Exception as error:
        if not isinstance(error, USAGE_ERROR) or type(error).__name__ == "NoArgsIsHelpError":
            raise
        raise ConfigError(usage_text(error)) from None


def usage_text(error: Any) -> str:
    """Both lines."""
    command = _command(error)
    parameter = getattr(error, "param", None)
    name = _name(parameter) if parameter is not None else str(getattr(error, "option_name", ""))
    match type(error).__name__:
        case "MissingParameter":
            value = getattr(parameter, "metavar", None)
            said = f"{name} is missing{f' in {command}' if command else ''}."
            allowed = f"{name} {value}" if value and name.startswith("-") else _allowed(parameter)
        case "BadParameter" if parameter is not None:
            given = _given(error)
            said = f"{name}{'' if given is None else f' {given}'} is not allowed."
            allowed = _choices(str(error.message)) or _allowed(parameter)
        case "NoSuchOption":
            close = " or ".join(getattr(error, "possibilities", None) or ())
            said = f"{name} is no option{f' of {command}' if command else ''}."
            close = _direction(error, name) or _keys(error, command, name) or close
            allowed = f"{close}; " if close else ""
            allowed += f"those that {command or 'hpsearch'} --help names"
        case "BadOptionUsage" if "requires an argument" in str(error.message):  # of which command is not known here
            said, allowed = f"{name} is given no value.", f"{name} VALUE"
        case _:
            said = str(error.message).split(" Did you mean ")[0].rstrip(".") + "."
            close = str(error.message).partition(" Did you mean ")[2].rstrip("?")
            allowed = f"{close}; " if close else ""
            allowed += f"what {command or 'hpsearch'} --help names"
    return f"{said}\nAllowed: {allowed}."


def _command(error: Any) -> str:
    """`hpsearch data show`, however the program was started; empty where that is not known."""
    names, context = list[str](), getattr(error, "ctx", None)
    while context is not None:
        names.insert(0, str(context.info_name) if context.parent is not None else "hpsearch")
        context = context.parent
    return " ".join(names)


def _direction(error: Any, name: str) -> str:
    """What takes the place of `--minimize`, as some libraries have it, where values have a direction; else empty."""
    way = name.removeprefix("--")
    return f"--direction {way}" if way in ("minimize", "maximize") and _has(error, "--direction") else ""


def _keys(error: Any, command: str, name: str) -> str:
    """The keys of the study file that are called as an option that is none, where `--set` takes them; else empty."""
    if not _has(error, "--set"):
        return ""
    from hpsearch.config import schema  # pydantic's models take a while

    tables: dict[str, Any] = {
        "coarse": schema.StageConfig, "fine": schema.FineConfig, "train": schema.TrainConfig,
        "model": schema.ModelConfig, "data": schema.DataConfig, "run": schema.RunConfig,
    }  # fmt: skip
    stage = command.removeprefix("hpsearch ")
    others = () if stage == "run" else {"coarse", "fine"} - {stage}
    key = name.removeprefix("--").replace("-", "_")
    found = [table for table, keys in tables.items() if key in keys.model_fields and table not in others]
    return ", ".join(f"--set {table}.{key}=VALUE" for table in found)


def _has(error: Any, option: str) -> bool:
    """Whether the command, where it is known, has this option."""
    command = getattr(getattr(error, "ctx", None), "command", None)
    return any(option in each.opts for each in getattr(command, "params", ()))


def _name(parameter: Any) -> str:
    """`--top`, or the name of an argument as the help has it."""
    if parameter.param_type_name == "option":
        return str(max(parameter.opts, key=len))
    return str(parameter.metavar or parameter.name.upper())


def _given(error: Any) -> str | None:
    """The value, as it was typed; None where typer does not say it."""
    cause = error.__cause__
    if cause is not None and hasattr(cause, "errors"):  # pydantic's
        return str(cause.errors()[0].get("input"))
    found = re.match(r"'?(.*?)'? is not (?:in the range|a valid|one of)", str(error.message))
    return found[1] if found is not None else None


def _choices(message: str) -> str | None:
    """`table, json, toml, py` of `'q' is not one of 'table', 'json', 'toml', 'py'.`"""
    _, sign, choices = message.partition(" is not one of ")
    return choices.rstrip(".").replace("'", "") if sign else None


def _allowed(parameter: Any) -> str:
    """`a whole number of at least 1`; of what is neither number nor choice, what the help says."""
    old = getattr(parameter, "type", None)  # of click, whose ranges have their own types
    annotation = getattr(getattr(parameter, "type_descriptor", None), "annotation", None)
    kind = KINDS.get(getattr(annotation, "__name__", "") or str(getattr(old, "name", "")).removesuffix(" range"))
    if kind is None:
        return str(parameter.help).rstrip(".") if getattr(parameter, "help", None) else f"one {_name(parameter)}"
    low, high = (
        next((end for owner in (parameter, old) if (end := getattr(owner, name, None)) is not None), None)
        for name in ("min", "max")
    )
    if low is not None and high is not None:
        return f"{kind} from {low} to {high}"
    if low is not None:
        return f"{kind} of at least {low}"
    return f"{kind} of at most {high}" if high is not None else kind
