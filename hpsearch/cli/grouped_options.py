"""How a group of options becomes parameters of a command: its fields are options, in a panel of --help."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import MISSING, fields
from typing import Annotated, Any, ClassVar, TypeVar, get_args, get_type_hints

from typer.models import OptionInfo

from hpsearch.errors import HpsearchError

Command = TypeVar("Command", bound=Callable[..., None])


class OptionGroup:
    """Base of dataclasses whose fields are options."""

    PANEL: ClassVar[str]

    def needed(self) -> dict[str, str]:
        """Options, with their values, without which a command that a message names would look elsewhere."""
        return {}

    def needed_anew(self) -> dict[str, str]:
        """The same, without which a search that it begins would be another one."""
        return {}


def with_groups(command: Command) -> Command:
    """A command whose parameters may be groups, as one whose parameters are all options."""
    hints = get_type_hints(command, include_extras=True)
    shown: list[inspect.Parameter] = []
    groups: dict[str, type[OptionGroup]] = {}
    for name, parameter in inspect.signature(command).parameters.items():
        hint = hints[name]
        if isinstance(hint, type) and issubclass(hint, OptionGroup):
            groups[name] = hint
            shown += _parameters(hint)
        else:
            shown.append(parameter.replace(annotation=hint, kind=inspect.Parameter.KEYWORD_ONLY))

    @functools.wraps(command)
    def called(**given: Any) -> None:
        made = {
            name: group(**{field.name: given.pop(field.name) for field in fields(group)})  # type: ignore[arg-type]
            for name, group in groups.items()
        }
        try:
            command(**given, **made)
        except HpsearchError as error:
            error.needed = _words(group.needed() for group in made.values())
            error.needed_anew = _words(group.needed_anew() for group in made.values())
            raise

    called.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
    called.__annotations__ = {parameter.name: parameter.annotation for parameter in shown}
    return called  # type: ignore[return-value]


def _words(options: Iterable[dict[str, str]]) -> tuple[str, ...]:
    """Of what several groups say of one option, the last one counts."""
    found = {name: value for each in options for name, value in each.items()}
    return tuple(word for option in found.items() for word in option)


def _parameters(group: type[OptionGroup]) -> Sequence[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    parameters = []
    for field in fields(group):  # type: ignore[arg-type]
        hint = hints[field.name]
        # A copy: a group that inherits the option shows it in a panel of its own.
        (option,) = (copy.copy(each) for each in hint.__metadata__ if isinstance(each, OptionInfo))
        option.rich_help_panel = group.PANEL
        hint = Annotated[get_args(hint)[0], option]
        default = inspect.Parameter.empty if field.default is MISSING else field.default
        parameters.append(
            inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint)
        )
    return parameters
