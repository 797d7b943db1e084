"""Optuna's Gaussian process, and where trials show lines that no axis follows, one that has learned these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna
from optuna.trial import TrialState

from hpsearch.config import Range
from hpsearch.space import from_optuna, from_optuna_value, to_optuna_value
from hpsearch.stages.expected_improvement import most_promising
from hpsearch.stages.gaussian_process import GaussianProcess, fit_process
from hpsearch.stages.process_columns import ProcessColumns
from hpsearch.stages.process_lines import can_be_linked, linked_process, scaled

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study
    from optuna.trial import FrozenTrial

MORE = 1.1  # times as many trials may show other lines: it is looked anew


class LinkedGPSampler(optuna.samplers.GPSampler):
    """As its parent, but where several numbers act together: see `stages.process_lines`.

    Args:
        seed: of what is drawn.
    """

    def __init__(self, seed: int) -> None:
        super().__init__(seed=seed, warn_independent_sampling=False)
        self._rng_of_points = np.random.default_rng(seed)
        self._process: GaussianProcess | None = None
        self._looked_in: dict[str, Range] = {}
        self._look_again_at = 0

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """What is proposed for a trial of a study; nothing where the process would have a place measured again."""
        states = (TrialState.COMPLETE, TrialState.RUNNING)
        known = [
            each
            for each in study.get_trials(deepcopy=False, states=states)
            if search_space.keys() <= each.params.keys()
        ]
        complete = [each for each in known if each.state == TrialState.COMPLETE]
        running = [each.params for each in known if each.state == TrialState.RUNNING and each.number != trial.number]
        sign = 1.0 if study.direction == optuna.study.StudyDirection.MAXIMIZE else -1.0
        values_N = np.array([sign * each.value for each in complete if each.value is not None])
        found = self._along_lines(search_space, [each.params for each in complete], values_N, running)
        if found is None:
            found = super().sample_relative(study, trial, search_space)
        # Where it takes for noise what numbers outside the space do, it would measure one place again and again.
        was_tried = any(all(each.params[name] == value for name, value in found.items()) for each in known)
        return {} if was_tried else found  # then each is drawn by itself

    def _along_lines(
        self,
        search_space: Mapping[str, BaseDistribution],
        complete: Sequence[Mapping[str, Any]],
        values_N: np.ndarray,
        running: Sequence[Mapping[str, Any]],
    ) -> dict[str, Any] | None:
        """What a process of linked numbers proposes; None where trials show no lines."""
        space = {name: from_optuna(distribution) for name, distribution in search_space.items()}
        columns = ProcessColumns(space)
        if not can_be_linked(columns, values_N):
            return None

        def of(trials: Sequence[Mapping[str, Any]]) -> np.ndarray:
            return columns.of([{name: from_optuna_value(space[name], each[name]) for name in space} for each in trials])

        columns_NC, scaled_N, linked = of(complete), scaled(values_N), len(columns.numbers)
        # Code that asks for its ranges as it runs may ask for others.
        if space != self._looked_in or len(values_N) >= self._look_again_at:
            self._looked_in = space
            self._look_again_at = int(MORE * len(values_N)) + 1
            self._process = linked_process(columns_NC, scaled_N, linked)
        elif self._process is not None:
            self._process = fit_process(columns_NC, scaled_N, linked, self._process.found, starts=0)
        if self._process is None:
            return None
        process = self._process.with_believed(of(running)) if running else self._process
        seed = int(self._rng_of_points.integers(2**31))
        params = columns.params(most_promising(process, columns.snap, linked, seed))
        return {name: to_optuna_value(params[name]) for name in search_space}
