"""A stage that fits the time that it has: fewer trials first, then fewer epochs, then fewer of both.

Random points cover a space by their number, and early epochs order trials well: so a search loses least where it gives
up trials beyond the first dozens, then the last epochs (PROCEDURE of a coarse search: many trials, few epochs).
"""

from __future__ import annotations

from dataclasses import replace

from hpsearch.analysis.records import Fitted, stage_record
from hpsearch.config import StageConfig
from hpsearch.errors import ConfigError
from hpsearch.stages.plan import StagePlan
from hpsearch.storage import Database, StudyNotFoundError, find_study

MARGIN = 0.85  # of the time: an estimate from a few steps may be off by a sixth
ENOUGH_TRIALS = 20  # one of so many random points is among the best 10% of the space with probability 1 - 0.9^20 = 88%
MIN_TRIALS = 8  # fewer say nothing of where to narrow
MIN_EPOCHS = 2  # one epoch tells what explodes, the second what learns


def fit_to_time(plan: StagePlan, estimate: float, seconds: float, *, has_epochs: bool = True) -> StagePlan:
    """The plan with as many trials and epochs as fit; it says what was asked for where that is more.

    Args:
        plan: as asked for.
        estimate: seconds that it would take; in proportion to trials and epochs.
        seconds: that it has.
        has_epochs: whether fewer epochs take less time, which those do not that nobody is told of.

    Raises:
        ConfigError: its budget is in epochs, and exact.
    """
    settings = plan.settings
    refuse_exact_budget(plan.kind, settings)
    trials, epochs = fewer(settings, MARGIN * seconds / estimate, has_epochs=has_epochs)
    if (trials, epochs) == (settings.trials, settings.epochs):
        return plan
    return with_budget(plan, trials, epochs, Fitted(settings.trials, settings.epochs, seconds))


def refuse_exact_budget(kind: str, settings: StageConfig) -> None:
    """Whether a stage can be made to fit a time.

    Raises:
        ConfigError: its budget is in epochs, and exact.
    """
    if settings.epochs_budget is not None:
        raise ConfigError(
            f"{kind}.epochs_budget = {settings.epochs_budget} is exact, so it is not made to fit a time.\n"
            "Allowed: one of them; trials in place of epochs_budget are cut to fit a time."
        )


def fewer(settings: StageConfig, share: float, *, has_epochs: bool = True) -> tuple[int, int]:
    """Trials and epochs of a stage that may take this share of its time; never so few that nothing is learnt of it."""
    trials, epochs = settings.trials, settings.epochs
    room = share * trials * epochs
    if share >= 1:
        return trials, epochs
    if not has_epochs:
        points = settings.sampler == "grid"
        return trials if points else max(min(trials, MIN_TRIALS), int(share * trials)), epochs
    if settings.sampler == "grid":  # its points are all of them
        return trials, min(epochs, max(MIN_EPOCHS, int(room / trials)))
    enough = min(trials, ENOUGH_TRIALS)
    if room >= enough * epochs:
        return int(room / epochs), epochs
    fewest_epochs = min(epochs, MIN_EPOCHS)
    if room >= enough * fewest_epochs:
        return enough, int(room / enough)
    return max(min(trials, MIN_TRIALS), int(room / fewest_epochs)), fewest_epochs


def least_share(settings: StageConfig, *, has_epochs: bool = True) -> float:
    """Of the time of a stage, what the smallest that `fewer` makes of it takes."""
    trials, epochs = fewer(settings, 0.0, has_epochs=has_epochs)
    return trials * epochs / (settings.trials * settings.epochs)


def with_budget(plan: StagePlan, trials: int, epochs: int, fitted: Fitted) -> StagePlan:
    """The same stage with another number of trials and epochs than were asked for."""
    fewest = min(plan.settings.min_epochs, max(1, epochs - 1))  # a rung is before the end
    settings = plan.settings.model_copy(update={"trials": trials, "epochs": epochs, "min_epochs": fewest})
    return replace(plan, config=plan.config.model_copy(update={plan.kind: settings}), fitted=fitted)


def as_fitted_before(db: Database, plan: StagePlan) -> StagePlan:
    """The plan with the trials and epochs that its stage was made with, if that was this plan, fitted to a time."""
    try:
        study = find_study(db, plan.name)
    except StudyNotFoundError:
        return plan
    record = stage_record(study)
    fitted, made = record.fitted, record.config_value(plan.kind)
    if fitted is None or made is None:
        return plan
    if (plan.settings.trials, plan.settings.epochs) != (fitted.trials, fitted.epochs):
        return plan
    return with_budget(plan, made["trials"], made["epochs"], fitted)


def share_of_stage(position: int, most_stages: int) -> float:
    """Of the time that is left, what a stage may take: the last one all of it.

    Args:
        position: 0 for coarse, 1 for the first fine one.
        most_stages: that there may be.
    """
    left = most_stages - position
    if left <= 1:
        return 1.0
    return 1 / 3 if position == 0 and left > 2 else 1 / 2
