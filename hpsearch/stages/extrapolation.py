"""The pruner `extrapolation`: stops a trial whose curve will hardly reach the best value."""

from __future__ import annotations

import optuna

from hpsearch.analysis.curve_forecast import MIN_POINTS, probability_to_reach
from hpsearch.wording import value_text

NAME = "extrapolation"


class ExtrapolationPruner(optuna.pruners.BasePruner):
    """Stops a trial that reaches the best value so far with less than a given probability, as its curve goes on.

    The best value is that of all trials that are complete, and of all epochs of those that still run. It keeps nothing
    that decides, so the same curves give the same decision after a kill.

    Args:
        epochs: of each trial.
        probability: below it, a trial is stopped.
        min_epochs: before so many, none is.
        n_startup_trials: as many must be complete before any is stopped.

    Raises:
        ValueError: an argument is out of its bounds.
    """

    def __init__(
        self, epochs: int, probability: float = 0.05, min_epochs: int = MIN_POINTS, n_startup_trials: int = 0
    ) -> None:
        if isinstance(probability, bool) or not 0 < probability < 1:
            raise ValueError(f"probability = {probability!r} is not between 0 and 1")
        for key, value, least in (("min_epochs", min_epochs, MIN_POINTS), ("n_startup_trials", n_startup_trials, 0)):
            if type(value) is not int or value < least:
                raise ValueError(f"{key} = {value!r} is not a whole number from {least} on")
        self.epochs, self.probability = epochs, probability
        self.min_epochs, self.n_startup_trials = min_epochs, n_startup_trials
        self._said: dict[int, str] = {}

    def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
        """Whether to stop the trial after the last epoch that it has reported."""
        if len(trial.intermediate_values) < self.min_epochs:
            return False
        sign = 1.0 if study.direction is optuna.study.StudyDirection.MAXIMIZE else -1.0
        best = self._best(study, trial.number, sign)
        if best is None:
            return False
        shift = max(0, 1 - min(trial.intermediate_values))  # most Optuna objectives count from 0
        curve = {epoch + shift: sign * value for epoch, value in trial.intermediate_values.items()}
        probability = probability_to_reach(curve, best, self.epochs)
        if probability is None or probability >= self.probability:
            return False
        shown = f"{probability:.2g}" if probability >= 0.001 else "below 0.001"
        self._said[trial.number] = f"{NAME} (reaches the best, {value_text(sign * best)}, with probability {shown})"
        return True

    def why(self, number: int) -> str:
        """What to say of a trial that it stopped."""
        return self._said.get(number, NAME)

    def _best(self, study: optuna.Study, but: int, sign: float) -> float | None:
        """The goodness of the best value of other trials; None where too few are known."""
        complete, running = optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.RUNNING
        trials = [each for each in study.get_trials(deepcopy=False, states=(complete, running)) if each.number != but]
        ended = [sign * each.value for each in trials if each.state == complete and each.value is not None]
        if len(ended) < self.n_startup_trials:
            return None
        going = [
            sign * value for each in trials if each.state == running for value in each.intermediate_values.values()
        ]
        return max((value for value in [*ended, *going] if value == value), default=None)
