"""Trials as Optuna's samplers read them: frozen, in ranges, with states and values; of stages before as well. Pure."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hpsearch.config import Choice, Range
from hpsearch.results import Direction
from hpsearch.space import to_optuna, to_optuna_value
from hpsearch.space.scale import choice_index, nearest_value
from hpsearch.stages.earlier_trials import EarlierTrial, as_numbers
from hpsearch.stages.told_values import told_values

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

EXPLODED = 0.0  # stands for an explosion that is complete; what it is told as depends on the others, `told_values`


def frozen_trials(
    earlier: Sequence[EarlierTrial],
    distributions: Mapping[str, BaseDistribution],
    stand_ins: Mapping[str, Any],
    *,
    as_complete: bool,
) -> tuple[list[FrozenTrial], set[float]]:
    """All of them, and the numbers of those that exploded and are complete all the same.

    Args:
        earlier: trials of the stages before, oldest first.
        distributions: of this stage, for those that say none of their own.
        stand_ins: values of hyperparameters that not all of them have.
        as_complete: whether explosions are complete trials, as samplers need it that read no others.
    """
    from optuna.trial import TrialState, create_trial

    frozen, exploded = [], set()
    for number, trial in zip(as_numbers(earlier), earlier, strict=True):
        value = trial.value
        state = TrialState.COMPLETE if value is not None else TrialState.FAIL if trial.failed else TrialState.PRUNED
        if state == TrialState.PRUNED and as_complete:
            value, state = EXPLODED, TrialState.COMPLETE
            exploded.add(number)
        params = {**stand_ins, **trial.params}
        known = create_trial(
            state=state,
            value=value,
            params={name: to_optuna_value(of) for name, of in params.items()},
            distributions={
                name: to_optuna(trial.ranges[name]) if name in trial.ranges else distributions[name] for name in params
            },
        )
        known.number = known._trial_id = number  # type: ignore[assignment]  # it is none of this study
        frozen.append(known)
    return frozen, exploded


def with_told_values(
    trials: Sequence[FrozenTrial], value_of: Callable[[FrozenTrial], float | None], direction: Direction
) -> list[FrozenTrial]:
    """The same, where those that are complete have values from which a sampler can learn that needs one of each.

    Args:
        trials: of any state.
        value_of: what a complete one gave, None where it exploded.
        direction: of the values.
    """
    from optuna.trial import TrialState

    ended = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    values = told_values([value_of(trial) for trial in ended], direction)
    seen = {each.number: _with_value(each, value) for each, value in zip(ended, values, strict=True)}
    return [seen.get(trial.number, trial) for trial in trials]


def _with_value(trial: FrozenTrial, value: float) -> FrozenTrial:
    told = copy.copy(trial)
    told.value = value
    return told


def stand_in(range_: Range, value: Any) -> Any:
    """What a trial without this hyperparameter is taken to have: the value that it trains with, or the nearest."""
    if isinstance(range_, Choice):
        return value if choice_index(range_, value) is not None else range_.values[0]
    return nearest_value(range_, value) if isinstance(value, int | float) else range_.low
