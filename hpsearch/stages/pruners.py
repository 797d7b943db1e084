"""Optuna's pruners, and one of ours, by the names and tables of a study file, wrapped ones included."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hpsearch.config import StageConfig
from hpsearch.errors import ConfigError

if TYPE_CHECKING:
    import optuna

DEFAULTS = {"patient": {"patience": 3, "wrapped_pruner": "none"}}  # of arguments for which Optuna has none
WRAPPED = "wrapped_pruner"  # the argument that is a pruner itself
OURS = "extrapolation"


def make_pruner(settings: StageConfig) -> optuna.pruners.BasePruner:
    """An Optuna pruner by its name: `median` for MedianPruner, `successive-halving`, `HyperbandPruner`, ...

    An option that is a pruner itself is a name, or a table with its `name` and its own options; "none" is none at all:

        pruner = "patient"
        pruner_options = { patience = 3, wrapped_pruner = { name = "median", n_startup_trials = 5 } }

    Raises:
        ConfigError: there is none of that name, or it does not take the given options.
    """
    import optuna

    if settings.pruner == "none":
        return optuna.pruners.NopPruner()
    if _short(settings.pruner) == OURS:
        return _extrapolation(settings)
    table = settings.TABLE
    return _make(settings.pruner, settings.pruner_options, f"{table}.pruner", f"{table}.pruner_options")


def _extrapolation(settings: StageConfig) -> optuna.pruners.BasePruner:
    from hpsearch.stages.extrapolation import ExtrapolationPruner  # with Optuna and scipy, which cost time

    allowed = [name for name in inspect.signature(ExtrapolationPruner).parameters if name != "epochs"]
    given = settings.pruner_options
    try:
        if unknown := sorted(given.keys() - set(allowed)):
            raise TypeError(f"it has no {', '.join(unknown)}")
        return ExtrapolationPruner(settings.epochs, **given)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"{settings.TABLE}.pruner_options = {given} does not fit the pruner {OURS}: {error}.\n"
            f"Allowed: {', '.join(allowed)}."
        ) from None


def why_stopped(pruner: optuna.pruners.BasePruner, number: int, name: str) -> str:
    """The reason that is kept with a trial: the pruner's `name`, or what one says that knows more."""
    why = getattr(pruner, "why", None)
    return str(why(number)) if why is not None else name


def _make(name: str, options: Mapping[str, Any], name_key: str, options_key: str) -> optuna.pruners.BasePruner:
    """The keys are where name and options stand, for messages."""
    import optuna

    classes = {_short(each): getattr(optuna.pruners, each) for each in optuna.pruners.__all__ if each != "BasePruner"}
    chosen = classes.get(_short(name))
    if chosen is None:
        names = sorted([*classes, OURS] if name_key.endswith(".pruner") else classes)
        raise ConfigError(f"{name_key} = {name!r} is not known.\nAllowed: none, {', '.join(names)}.")
    given = {**DEFAULTS.get(_short(name), {}), **options}
    parameters = inspect.signature(chosen).parameters
    try:
        for key, value in given.items():
            if key in parameters and parameters[key].annotation == "int" and type(value) is not int:
                raise TypeError(f"{key} = {value!r} is not a whole number")
        wrapped = {}
        if WRAPPED in given and WRAPPED in parameters:
            wrapped = {WRAPPED: _wrapped(given[WRAPPED], f"{options_key}.{WRAPPED}")}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            pruner: optuna.pruners.BasePruner = chosen(**{**given, **wrapped})
    except (TypeError, ValueError) as error:
        said = str(error).rstrip(".")
        raise ConfigError(
            f"{options_key} = {given} does not fit the pruner {name}: {said}.\nAllowed: {', '.join(parameters)}."
        ) from None
    return pruner


def _wrapped(value: Any, key: str) -> optuna.pruners.BasePruner | None:
    if value is None or value == "none":
        return None
    if isinstance(value, str):
        return _make(value, {}, key, key)
    if isinstance(value, Mapping) and isinstance(value.get("name"), str):
        options = {name: option for name, option in value.items() if name != "name"}
        return _make(value["name"], options, f"{key}.name", key)
    raise ConfigError(
        f'{key} = {value!r} is not a pruner.\nAllowed: a name, as "median", or a table, as '
        '{ name = "median", n_startup_trials = 5 }.'
    )


def _short(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "").removesuffix("pruner")
