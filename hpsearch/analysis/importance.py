"""Which hyperparameters matter, by Optuna's evaluators, and which may not."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hpsearch.config import Range
from hpsearch.space import to_optuna, to_optuna_value

if TYPE_CHECKING:
    import optuna

MIN_TRIALS = 4  # below, the best tenth is one trial of a handful
SHUFFLES = 20  # of the values: the highest of so many is what one search in twenty reaches by chance


def importances(
    ranges: Mapping[str, Range], params: Sequence[Mapping[str, Any]], values: Sequence[float]
) -> dict[str, float]:
    """Share of each parameter in what lifts a trial into the best tenth, from the most to the least important.

    By PED-ANOVA (Watanabe, Bansal & Hutter 2023), which takes milliseconds at thousands of trials. Higher values are
    better. Nothing where it cannot be said: few trials, or all of the same value.
    """
    if _says_nothing(ranges, values):
        return {}
    found = _evaluated(_as_study(ranges, params, values), values, normalize=True)
    return {name: float(share) for name, share in found.items()}


def chance_shares(
    ranges: Mapping[str, Range], params: Sequence[Mapping[str, Any]], values: Sequence[float]
) -> dict[str, float]:
    """What each parameter would reach on the scale of `importances` if it did nothing, in one search of twenty.

    The same trials with their values shuffled among them: whatever lifts a trial into the best tenth is luck then. A
    parameter with no more than that may not matter, or these trials are too few to tell. Nothing where `importances`
    says nothing.
    """
    if _says_nothing(ranges, values):
        return {}
    study, rng = _as_study(ranges, params, values), np.random.default_rng(0)
    total = sum(_evaluated(study, values, normalize=False).values())
    if total <= 0:
        return {}
    lucky = [_evaluated(study, rng.permutation(values).tolist(), normalize=False) for _ in range(SHUFFLES)]
    return {name: max(each[name] for each in lucky) / total for name in ranges}


def _says_nothing(ranges: Mapping[str, Range], values: Sequence[float]) -> bool:
    return len(values) < MIN_TRIALS or min(values) == max(values) or not ranges


def _as_study(
    ranges: Mapping[str, Range], params: Sequence[Mapping[str, Any]], values: Sequence[float]
) -> optuna.Study:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions = {name: to_optuna(range_) for name, range_ in ranges.items()}
    study = optuna.create_study(direction="minimize")  # what the evaluator takes any other values than a trial's for
    study.add_trials(
        [
            optuna.create_trial(
                params={name: to_optuna_value(point[name]) for name in ranges},
                distributions=distributions,
                value=value,
            )
            for point, value in zip(params, values, strict=True)
        ]
    )
    return study


def _evaluated(study: optuna.Study, values: Sequence[float], *, normalize: bool) -> dict[str, float]:
    """By parameter, where these are the trials' values and higher ones are better."""
    import optuna

    cost: Callable[[optuna.trial.FrozenTrial], float] = lambda trial: -float(values[trial.number])  # noqa: E731
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the evaluator is new, and that low values of a target are the good ones
        found = optuna.importance.get_param_importances(
            study, evaluator=optuna.importance.PedAnovaImportanceEvaluator(), target=cost, normalize=normalize
        )
    return {name: float(share) for name, share in found.items()}
