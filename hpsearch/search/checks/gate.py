"""What every coarse search does before its study is made: see that the net can learn at all."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

from hpsearch.analysis import attributes
from hpsearch.config import StudyConfig
from hpsearch.config.usercode import blame, is_user_code
from hpsearch.datasets.device import TrainingData
from hpsearch.errors import StudyNotFoundError
from hpsearch.search.checks.findings import CheckReport
from hpsearch.search.checks.gates import check_data, check_initial_cost, check_size, checked_config
from hpsearch.search.checks.overfit import check_overfit
from hpsearch.stages.plan import StagePlan
from hpsearch.storage import Database, find_study
from hpsearch.storage.creation import check_name

MAX_SECONDS = 20.0  # for 20 images by heart; only a deep net on a CPU needs more


def quick_checks(
    config: StudyConfig,
    data: TrainingData,
    seconds: float = MAX_SECONDS,
    listener: Callable[[str], None] = lambda _what: None,
) -> CheckReport:
    """Images, initial loss, regularization, and 20 images by heart: a second or two, however large the data set.

    A deep net on a CPU needs minutes for the 20 images: after `seconds` it is not known whether it learns them.
    `listener` hears how far they are.

    Raises:
        ConfigError: the net does not fit the images, or the user's net raises.
    """
    config = checked_config(config)
    with _blaming(config, "training its net on a few images"):
        initial_loss, regularization = check_initial_cost(config, data)
        overfit = check_overfit(config, data, seconds=seconds, listener=listener)
        size = check_size(config, data)
    return CheckReport((check_data(data), size, initial_loss, regularization, overfit))


def check_before_search(
    db: Database, plan: StagePlan, data: TrainingData, tell: Callable[[str], None] = lambda _what: None
) -> CheckReport | None:
    """The quick checks for a coarse stage that is not in the storage yet; None for one that is, or is of another kind.

    A stage that is there already, by this name, goes on (or is refused) without them. The caller refuses to search
    when one failed: `CheckReport.refuse_if_failed`. A training is looked at, too, as far as that costs next to nothing,
    but what would fail a search is a note then: the training shows it at once.

    Args:
        db: the storage.
        plan: the stage, validated.
        data: its images.
        tell: hears what is being checked.

    Raises:
        ConfigError: the name is not allowed.
    """
    if plan.kind not in ("coarse", attributes.TRAIN):
        return None
    check_name(plan.name)
    try:
        find_study(db, plan.name)
        return None
    except StudyNotFoundError:
        pass
    if plan.kind == attributes.TRAIN:
        tell("the initial loss")
        return _first_look(plan.trial_config, data)
    tell("20 images by heart")
    return quick_checks(plan.trial_config, data, seconds=MAX_SECONDS)


def _first_look(config: StudyConfig, data: TrainingData) -> CheckReport:
    """Images and initial loss; a failure counts as a note."""
    with _blaming(config, "looking at its net's initial loss"):
        initial_loss, _ = check_initial_cost(config, data)
    softened = [replace(f, outcome="note") if f.outcome == "failed" else f for f in (check_data(data), initial_loss)]
    return CheckReport(tuple(softened))


def _blaming(config: StudyConfig, doing: str) -> AbstractContextManager[None]:
    """What a net of the user's raises is said to be theirs."""
    name = config.model.name
    return blame(name, doing) if is_user_code(name) else nullcontext()
