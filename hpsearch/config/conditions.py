"""When a hyperparameter is searched at all: only beside values of other keys that use it.

A range says so with `when`. Beyond that, a key that only some optimizers, schedules or nets use (`fields.UsedBy`) is
searched beside those alone where optimizer, schedule or net is searched, too: `train.momentum` is not drawn for a
trial with plain sgd. A trial without a hyperparameter trains with the value that the study file has for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hpsearch.config.ranges import When, freeze
from hpsearch.config.study import StudyConfig
from hpsearch.config.usage import users_among
from hpsearch.errors import ConfigError


@dataclass(frozen=True)
class Conditions:
    """Which hyperparameters a trial has, given the values of those that decide."""

    clauses: Mapping[str, When] = field(default_factory=dict)
    """By hyperparameter, what must hold of others; all of it. Those without are always searched."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """Of the keys that decide, and of those decided upon, where a trial has none of its own."""

    def __bool__(self) -> bool:
        return bool(self.clauses)

    def applies(self, name: str, params: Mapping[str, Any]) -> bool:
        """Whether a trial has this hyperparameter; `params` are its own that decide."""
        return all(
            _is_among(params[key] if key in params else self.values.get(key), allowed)
            for key, allowed in self.clauses.get(name, ())
        )

    def in_order(self, names: Iterable[str]) -> list[str]:
        """The names, each after those that decide whether it is searched, else as they come."""
        names, ordered = list(names), dict[str, None]()

        def put(name: str) -> None:
            if name not in ordered:
                for key, _ in self.clauses.get(name, ()):
                    if key in names:
                        put(key)
                ordered[name] = None

        for name in names:
            put(name)
        return list(ordered)

    def restricted(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Those of the hyperparameters that a trial with these values has."""
        kept: dict[str, Any] = {}
        for name in self.in_order(params):
            if self.applies(name, kept):
                kept[name] = params[name]
        return {name: value for name, value in params.items() if name in kept}


ALWAYS = Conditions()


def conditions_of(config: StudyConfig) -> Conditions:
    """Of the space of a config, with those that follow from who uses a key.

    Args:
        config: of a trial of the stage, so that keys which are not searched have the stage's values.

    Raises:
        ConfigError: conditions run in a circle.
    """
    clauses: dict[str, When] = {}
    for name, range_ in config.space.items():
        found = dict(range_.when)
        if (implied := users_among(config, name)) is not None:
            key, users = implied
            found[key] = tuple(value for value in found[key] if _is_among(value, users)) if key in found else users
        if found:
            clauses[name] = tuple(found.items())
    _refuse_circles(clauses)
    named = {*clauses, *(key for when in clauses.values() for key, _ in when)}
    return Conditions(clauses, {key: freeze(config.value(key)) for key in sorted(named)})


def _refuse_circles(clauses: Mapping[str, When]) -> None:
    def follow(name: str, path: tuple[str, ...]) -> None:
        if name in path:
            circle = " -> ".join((*path[path.index(name) :], name))
            raise ConfigError(
                f"space.{name} is searched only where it has a value itself: {circle}.\n"
                "Allowed: conditions that do not run in a circle."
            )
        for key, _ in clauses.get(name, ()):
            follow(key, (*path, name))

    for name in clauses:
        follow(name, ())


def _is_among(value: Any, allowed: tuple[Any, ...]) -> bool:
    """`True` is not 1, but 2.0 is 2."""
    value = freeze(value)
    return any(value == each and isinstance(value, bool) == isinstance(each, bool) for each in allowed)
