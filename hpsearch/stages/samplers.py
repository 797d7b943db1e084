"""Optuna's samplers by the names of a study file, and what they are asked for: values of our ranges."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hpsearch.config import Choice, FloatRange, IntRange, Range
from hpsearch.space import from_optuna_value, to_optuna_value

if TYPE_CHECKING:
    import optuna


def suggest(trial: optuna.Trial, name: str, range_: Range) -> Any:
    """Ask an Optuna trial for a value of one of our ranges."""
    match range_:
        case FloatRange(low, high, log, step):
            return trial.suggest_float(name, low, high, step=step, log=log)
        case IntRange(low, high, log, step):
            return trial.suggest_int(name, low, high, step=step, log=log)
        case Choice(values):
            chosen = trial.suggest_categorical(name, [to_optuna_value(value) for value in values])
            return from_optuna_value(range_, chosen)


def make_sampler(name: str, seed: int, best: Mapping[str, Any] | None = None) -> optuna.samplers.BaseSampler:
    """The Optuna sampler of a study file's name. CMA-ES starts from the best trial so far, if there is one."""
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        warnings.simplefilter("ignore", FutureWarning)  # x0 of CMA-ES, to go with Optuna 6
        match name:
            case "tpe":
                return optuna.samplers.TPESampler(seed=seed)
            case "gp":
                from hpsearch.stages.linked_sampler import LinkedGPSampler

                return LinkedGPSampler(seed)
            case "cmaes":
                return optuna.samplers.CmaEsSampler(seed=seed, x0=_numbers(best or {}), warn_independent_sampling=False)
    return optuna.samplers.RandomSampler(seed=seed)


def _numbers(params: Mapping[str, Any]) -> dict[str, Any] | None:
    """The part of some hyperparameters that CMA-ES searches; it leaves choices to random."""
    return {k: v for k, v in params.items() if isinstance(v, int | float) and not isinstance(v, bool)} or None
