"""An Optuna objective, called as it is: with a trial of Optuna's own, behind which a worker answers.

The trial belongs to a study in the memory of the process that runs the code. Its sampler asks the worker for each
value, its pruner says what the worker answered to the last report, and its storage passes on what is reported and kept.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial
from typing_extensions import override

from hpsearch.config import Choice, FloatRange, IntRange, Range
from hpsearch.config.ranges import freeze
from hpsearch.config.schema.objective import ObjectiveConfig
from hpsearch.errors import HpsearchError
from hpsearch.programs.calling import TrialEnded, as_number, given_by_name
from hpsearch.programs.messages import Task
from hpsearch.programs.objective_forms import ALLOWED
from hpsearch.space import range_to_json


class SuggestionError(HpsearchError, ValueError):
    """There is no value for a call of the code's."""


class Line(Protocol):
    """The way to the worker."""

    advice: str
    """Why the trial could end after what was reported last; empty: it goes on."""

    def __call__(self, value: float, epoch: int) -> None:
        """Report a value.

        Raises:
            TrialEnded: the trial is to end.
        """

    def ask(self, name: str, distribution: str) -> Any:
        """A value, or the place of a choice.

        Raises:
            SuggestionError: there is none.
        """

    def note(self, name: str, kept: Any) -> None:
        """Keep something with the trial."""


def call_with_trial(
    objective: ObjectiveConfig, name: str, function: Callable[..., Any], task: Task, line: Line
) -> float:
    """The value of a trial.

    Raises:
        UserCodeError: it is no number.
        BaseException: whatever the function raises.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = _Telling(line, task.number)
    study = optuna.create_study(
        study_name=task.study or "study",
        storage=storage,
        direction=objective.direction,
        sampler=_Asking(storage),
        pruner=_Advised(line),
    )
    if task.device.startswith("cuda:"):  # the only one that is visible
        task = replace(task, device="cuda")
    return as_number(name, function(study.ask(), **given_by_name(function, task, 1)), ALLOWED)


class _Telling(InMemoryStorage):
    """Of one trial, which has the number that it has in the search."""

    def __init__(self, line: Line, number: int) -> None:
        super().__init__()
        self._line, self._number = line, number
        self._asked: set[str] = set()

    def ask(self, name: str, distribution: BaseDistribution) -> Any:
        """The value for a call."""
        self._asked.add(name)
        found = self._line.ask(name, range_to_json(_range(name, distribution)))
        return distribution.choices[found] if isinstance(distribution, CategoricalDistribution) else found

    @override
    def get_trial(self, trial_id: int) -> FrozenTrial:
        trial = super().get_trial(trial_id)
        trial.number = self._number
        return trial

    @override
    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        if param_name not in self._asked:  # Optuna samples no value where there is only one
            self.ask(param_name, distribution)
        super().set_trial_param(trial_id, param_name, param_value_internal, distribution)

    @override
    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        super().set_trial_intermediate_value(trial_id, step, intermediate_value)
        try:
            self._line(intermediate_value, step)
        except TrialEnded as ended:
            raise optuna.TrialPruned(str(ended)) from None

    @override
    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        try:
            json.dumps(value)
        except (TypeError, ValueError):
            raise SuggestionError(
                f"trial.set_user_attr({key!r}, ...) was given {type(value).__name__}, which is no JSON.\n"
                "Allowed: numbers, text, true, false, none, lists and dicts of these."
            ) from None
        super().set_trial_user_attr(trial_id, key, value)
        self._line.note(key, value)

    @override
    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        if key.startswith("constraints"):
            raise SuggestionError(
                "trial.set_constraint is not there for a search of hpsearch: no sampler hears of it.\n"
                "Allowed: raise optuna.TrialPruned where a trial is not feasible."
            )
        super().set_trial_system_attr(trial_id, key, value)


class _Asking(optuna.samplers.BaseSampler):
    """Has the worker choose."""

    def __init__(self, storage: _Telling) -> None:
        self._storage = storage

    @override
    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {}

    @override
    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {}

    @override
    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._storage.ask(param_name, param_distribution)


class _Advised(optuna.pruners.BasePruner):
    """Says what the worker's pruner said to the last report."""

    def __init__(self, line: Line) -> None:
        self._line = line

    @override
    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        return bool(self._line.advice)


def _range(name: str, distribution: BaseDistribution) -> Range:
    match distribution:
        case FloatDistribution():
            return FloatRange(distribution.low, distribution.high, distribution.log, distribution.step)
        case IntDistribution():
            return IntRange(distribution.low, distribution.high, distribution.log, distribution.step)
        case CategoricalDistribution():
            choices: Sequence[Any] = distribution.choices
            if all(map(_is_plain, choices)):
                return Choice(tuple(map(freeze, choices)))
    raise SuggestionError(
        f"trial.suggest_categorical({name!r}, ...) has choices that no database can hold.\n"
        "Allowed: none, true, false, numbers, text and lists of these; let names stand for what they are."
    )


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)
