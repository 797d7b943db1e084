"""Hyperparameters that somebody wants tried first: they are the first trials of a stage, and count in its budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hpsearch.config import Range, StudyConfig
from hpsearch.config.conditions import ALWAYS, Conditions
from hpsearch.config.hyperparameters import name_in
from hpsearch.config.ranges import freeze
from hpsearch.config.usage import STAGES
from hpsearch.errors import ConfigError
from hpsearch.space import draw_random, format_range, format_value, holds


def named_values(config: StudyConfig, kind: str) -> list[dict[str, Any]]:
    """What the stage `kind` is to try first, by the names of its space.

    Raises:
        ConfigError: no hyperparameter is called so.
    """
    if kind not in STAGES:
        return []
    plain = {"objective": config.objective}
    return [
        {name_in(plain, name): freeze(value) for name, value in values.items()} for values in config.stage(kind).enqueue
    ]


def refuse_other_values(config: StudyConfig, kind: str, conditions: Conditions = ALWAYS) -> None:
    """Whether a space has room for what is to be tried first.

    Raises:
        ConfigError: something is not searched, outside its range, or does not apply beside the rest.
    """
    if config.objective is not None and config.objective.defines:  # its calls will say
        return
    for place, values in enumerate(named_values(config, kind)):
        for name, value in values.items():
            range_ = config.space.get(name)
            if range_ is None:
                raise ConfigError(
                    f"{kind}.enqueue[{place}]: {name} is not searched.\nAllowed: {', '.join(config.space)}."
                )
            if not holds(range_, value):
                raise ConfigError(
                    f"{kind}.enqueue[{place}]: {name} = {format_value(value)} is outside its range.\n"
                    f"Allowed: {format_range(range_)}; or another range, with --space."
                )
        whole = completed(config.space, [values], 0, conditions)[0]
        for name in values.keys() - whole.keys():
            raise ConfigError(
                f"{kind}.enqueue[{place}]: {name} is not searched beside the other values.\n"
                f"Allowed: {', '.join(whole)}."
            )


def completed(
    space: Mapping[str, Range], enqueued: Sequence[Mapping[str, Any]], seed: int, conditions: Conditions = ALWAYS
) -> list[dict[str, Any]]:
    """Whole trials: what is not said is as random search would draw it for this trial."""
    drawn = draw_random(space, len(enqueued), seed) if enqueued else []
    return [
        conditions.restricted({name: values.get(name, rest[name]) for name in space})
        for values, rest in zip(enqueued, drawn, strict=True)
    ]
