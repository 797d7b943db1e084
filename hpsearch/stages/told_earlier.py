"""The trials of the stages before, as a sampler is told of them: with the values that they would have in its stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from hpsearch.config.metric import Metric
from hpsearch.stages.earlier_trials import EarlierTrial
from hpsearch.stages.frozen_trials import frozen_trials
from hpsearch.stages.learned_shift import LearnedShift

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial


class ToldEarlier:
    """All of them.

    Args:
        earlier: oldest first.
        shift: what the trials of the stage teach of their worth.
        metric: what their values are.
        distributions: of the stage, for those that say none of their own.
        stand_ins: values of hyperparameters that not all of them have.
        as_complete: whether explosions are complete trials, as samplers need it that read no others.
    """

    def __init__(
        self,
        earlier: Sequence[EarlierTrial],
        shift: LearnedShift,
        metric: Metric,
        distributions: Mapping[str, BaseDistribution],
        stand_ins: Mapping[str, Any],
        as_complete: bool,
    ) -> None:
        self._earlier, self._shift, self._metric = tuple(earlier), shift, metric
        self._distributions, self._stand_ins, self._as_complete = distributions, stand_ins, as_complete

    def __len__(self) -> int:
        return len(self._earlier)

    def trials(self) -> list[FrozenTrial]:
        """As far as is known now."""
        frozen, _ = self._frozen
        for told, trial in zip(frozen, self._earlier, strict=True):
            if trial.value is not None:
                told.value = trial.value + self._shift.of(trial.epochs)
        return frozen

    @property
    def exploded(self) -> set[float]:
        """Numbers of those that exploded and are told as complete."""
        return self._frozen[1]

    @property
    def failed(self) -> list[FrozenTrial]:
        """Those that have no value."""
        from optuna.trial import TrialState

        return [trial for trial in self._frozen[0] if trial.state == TrialState.FAIL]

    @property
    def best(self) -> EarlierTrial | None:
        """The one of the best value; None where none has any."""
        ended = [trial for trial in self._earlier if trial.value is not None]
        return max(ended, key=lambda trial: self._metric.goodness(trial.value), default=None)

    @cached_property
    def _frozen(self) -> tuple[list[FrozenTrial], set[float]]:
        return frozen_trials(self._earlier, self._distributions, self._stand_ins, as_complete=self._as_complete)

    def forget(self) -> None:
        """None of them is told from now on."""
        self._earlier = ()
        self.__dict__.pop("_frozen", None)
