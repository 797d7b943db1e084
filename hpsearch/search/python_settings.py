"""What callers in Python give, as settings: study files or dicts, functions as objectives, ranges in any form."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hpsearch.config import Choice, FloatRange, IntRange, Settings, StudyConfig, load_settings
from hpsearch.config.ranges import dump_range, flag_text
from hpsearch.errors import ConfigError
from hpsearch.logs import get_logger
from hpsearch.programs.given import give
from hpsearch.search.listener import SearchListener
from hpsearch.space import from_optuna

log = get_logger(__name__)

ObjectiveLike = Callable[..., Any] | str | None
Enqueued = Sequence[Mapping[str, Any]] | None
ConfigLike = StudyConfig | Mapping[str, Any] | str | Path | None


def python_settings(
    config: ConfigLike,
    flags: Mapping[str, Any] | None = None,
    space: Mapping[str, Any] | None = None,
    stored: Mapping[str, Any] | None = None,
    *,
    searches: bool = True,
) -> Settings:
    """Whatever form of config a caller in Python has, as settings; the environment is not read.

    A file or dict is the caller's, who vouches for the code that it names; the rest may come from the database.

    Args:
        config: a study file, a StudyConfig, a dict in the form of a study file, or None for the defaults.
        flags: values by dotted path; None means not given.
        space: ranges that replace or join those of the config.
        stored: the config of a study in the storage, where none is given.
        searches: see `load_settings`.

    Raises:
        ConfigError: a value is not allowed; or `config` is a function, which is an objective and no study file.
    """
    if callable(config):
        raise ConfigError(
            f"config = {getattr(config, '__name__', config)!s:.60} is a function, and no study file.\n"
            "Allowed: objective=FUNCTION for one of (params, report); optuna_objective=FUNCTION for one of (trial)."
        )
    return load_settings(
        config if isinstance(config, str | Path) else None,
        document=config if isinstance(config, Mapping) else None,
        stored=config.plain() if isinstance(config, StudyConfig) else stored,
        spaces=_range_flags(space or {}),
        flags=flags,
        searches=searches,
    )


def objective_flags(
    objective: ObjectiveLike, optuna_objective: ObjectiveLike, direction: str | None, metric: str | None
) -> dict[str, Any]:
    """The keys of an objective that is given, as a function or by its name, and what is said of its values.

    Raises:
        ConfigError: two are given; or one cannot be called.
    """
    if objective is not None and optuna_objective is not None:
        raise ConfigError("objective and optuna_objective are two ways to call a function.\nAllowed: one of them.")
    function = objective if objective is not None else optuna_objective
    if function is None:
        return {"objective.direction": direction, "train.metric": metric}
    name = function if isinstance(function, str) else give(function)
    form = "call" if objective is not None else "optuna"
    own = {"objective.function": name, "objective.form": form}
    return {**own, "objective.direction": direction, "objective.metric": metric}


def _range_flags(space: Mapping[str, Any]) -> Sequence[str]:
    return [f"{name}={_range_text(name, value)}" for name, value in space.items()]


def _range_text(name: str, value: Any) -> str:
    """A range as the command line has it, from its text, the form of a study file, or an object of ours or Optuna's.

    Raises:
        ConfigError: it is an Optuna distribution with a step, which no range of a study file has.
    """
    if isinstance(value, str):
        return value
    if "optuna" in sys.modules and isinstance(value, sys.modules["optuna"].distributions.BaseDistribution):
        value = from_optuna(value)
        step = None if isinstance(value, Choice) else value.step
        if step is not None and not (isinstance(value, IntRange) and step == 1):
            raise ConfigError(
                f"space.{name} has step={step:g}, which ranges of a space have not.\n"
                "Allowed: the same without a step; a choice of the values; or an Optuna objective, whose calls may."
            )
    return flag_text(dump_range(value) if isinstance(value, Choice | FloatRange | IntRange) else value)


def tell(notes: Iterable[str], listener: SearchListener | None) -> None:
    """What was given and does nothing: to the listener, or into the log."""
    for note in notes:
        if listener is not None:
            listener.note(note)
        else:
            log.warning(note)
