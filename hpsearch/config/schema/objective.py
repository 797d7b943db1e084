"""[objective]: a function or a program of the user's own, in place of [data], [model] and [train]."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from hpsearch.config.data_sources import FUNCTION, is_user_code
from hpsearch.config.fields import MAX_SEED, CameLater, Known, Options, OptionsField, Section
from hpsearch.errors import ConfigError

OBJECTIVE_FORMS = Known((), (FUNCTION,))
PLACEHOLDER = r"\{(\w[\w.]*)\}"
"""In a command: a hyperparameter's value, `{lr}`."""
EPOCH = "epoch"
"""The group of a pattern that holds the epoch of a value."""
GIVEN = ("epochs", "seed", "device", "checkpoint", "trial")
"""What a trial has beside its parameters: a function that has such an argument is given it."""


def _function(name: str | None) -> str | None:
    if name is None or is_user_code(name):
        return name
    raise ValueError(f"allowed: {OBJECTIVE_FORMS}, as train:objective")


def _pattern(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        found = re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"allowed: a regular expression that can be read, so not with {error}") from None
    if found.groups - (EPOCH in found.groupindex) != 1:
        raise ValueError(
            "allowed: a regular expression with one group in parentheses, as val_acc=([0-9.]+), and beside it none or "
            f"(?P<{EPOCH}>[0-9]+)"
        )
    return text


class ObjectiveConfig(Section):
    """What a trial does, where it is not ours to know."""

    function: Annotated[str | None, AfterValidator(_function), OBJECTIVE_FORMS] = None
    """MODULE:FUNCTION, called with (params, report); see docs/own-code.md."""
    form: Annotated[Literal["call", "optuna"], CameLater] = "call"
    """optuna: the function is an Optuna objective, called with a trial, whose calls of suggest_* say the ranges."""
    narrowed: Annotated[tuple[str, ...], CameLater] = ()
    """optuna: those of [space] that stay within the ranges of the calls; the others take their place."""
    command: tuple[str, ...] = ()
    """Or a program with its arguments; {lr} stands for a value, {epochs}, {seed}, {checkpoint}, {trial} for those."""
    pattern: Annotated[str | None, AfterValidator(_pattern)] = None
    """command: a line with a value, "val_acc=([0-9.]+)", and maybe (?P<epoch>[0-9]+); else the last of JSON lines."""
    key: str | None = None
    """command: the name of the value in lines of JSON; without it and `pattern`, that of `metric`."""
    file: str | None = None
    """command: a file of such lines that the program writes, not its output; {checkpoint} stands for a folder."""
    metric: str = Field("value", min_length=1)
    """What the value is called."""
    direction: Literal["maximize", "minimize"] = "maximize"
    """Which values are better."""
    params: OptionsField = Options()
    """Values of parameters that are not searched."""
    explosion: float | None = Field(None, gt=1)
    """Where less is better, a value so many times the first one is an explosion; nan and inf always are."""
    timeout: float | None = Field(None, gt=0)
    """Seconds without a word after which a trial is ended as failed."""
    seed: int = Field(0, ge=0, le=MAX_SEED)
    """For the function or program, if it takes one."""

    @field_validator("explosion", "timeout", "pattern", "key", "file", mode="before")
    @classmethod
    def _none(cls, given: Any) -> Any:
        """TOML has no null."""
        return None if given == "none" else given

    @model_validator(mode="after")
    def _one_of_two(self) -> ObjectiveConfig:
        if (self.function is None) == (not self.command):
            raise ConfigError(
                "[objective] has one of function and command.\n"
                'Allowed: function = "train:objective"; or command = ["python", "train.py", "--lr", "{lr}"].'
            )
        if self.defines and self.command:
            raise ConfigError("objective.form = 'optuna' is not for a command.\nAllowed: beside objective.function.")
        return self

    @property
    def defines(self) -> bool:
        """Whether it says itself, as it runs, what it wants a value of and from which range."""
        return self.form == "optuna"

    @property
    def name(self) -> str:
        """The function, or the program with its arguments."""
        return self.function or " ".join(self.command)

    def has_exploded(self, value: float, first: float) -> bool:
        """Whether a trial ends with this value, which it has reported after its `first` one."""
        if not math.isfinite(value):
            return True
        runs_away = self.explosion is not None and self.direction == "minimize"
        return runs_away and value > (self.explosion or 0.0) * max(abs(first), 1e-12)

    def placeholders(self) -> set[str]:
        """Names in braces that the command has."""
        return {name for word in self.command for name in re.findall(PLACEHOLDER, word)}

    def command_takes(self) -> tuple[str, ...]:
        """What the command is told beside its parameters."""
        return tuple(name for name in GIVEN if name in self.placeholders())


def refuse_beside(study: Mapping[str, Any], sections: Iterable[str]) -> None:
    """Whether tables of our own training stand beside [objective], where they would do nothing.

    Raises:
        ConfigError: the first one.
    """
    for section in sections:
        if isinstance(table := study.get(section), Mapping) and table:
            raise ConfigError(
                f"{section}.{next(iter(table))} does nothing beside [objective], a function or program of yours."
                "\nAllowed: objective.params for its values; or no [objective]."
            )


def refuse_objective(objective: ObjectiveConfig | None, command: str) -> None:
    """Say no for a command that trains nets of ours, where it is given a function or program of the user's.

    Raises:
        ConfigError: it is.
    """
    if objective is not None:
        raise ConfigError(
            f"{command} trains a net of [model], but [objective] has {objective.name}.\n"
            "Allowed: hpsearch coarse, fine, run, compare, rerun, which call it."
        )


def refuse_other_names(objective: ObjectiveConfig, space: Mapping[str, Any]) -> None:
    """Whether a command has a place for each parameter, and a parameter for each place; of a function, conditions.

    Raises:
        ConfigError: one is missing.
    """
    for name, range_ in space.items() if objective.defines else ():
        if range_.when:
            raise ConfigError(
                f"space.{name} has a condition, but {objective.name} says itself when it wants a value of it.\n"
                f"Allowed: its range alone, or no space.{name}."
            )
    if not objective.command:
        return
    places = objective.placeholders()
    for name in space:
        if name not in places:
            raise ConfigError(
                f"space.{name}: the command has no place for it.\n"
                f"Write {{{name}}} where its value belongs, as --{name.rpartition('.')[2]} {{{name}}}."
            )
    for name in sorted(places - {*space, *objective.params, *GIVEN}):
        raise ConfigError(
            f"objective.command has {{{name}}}, which nothing gives a value.\n"
            f"Give it a range (--space '{name}=log(1e-4,1)') or a value (--set objective.params.{name}=1); "
            f"there are also {', '.join(f'{{{each}}}' for each in GIVEN)}."
        )
