"""From settings and evidence to the plan of a coarse stage: which ranges, and where each comes from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hpsearch.analysis.rate_verdicts import pad_for_training
from hpsearch.analysis.records import stage_record
from hpsearch.config import (
    Choice,
    FloatRange,
    Range,
    Settings,
    StudyConfig,
)
from hpsearch.config.conditions import conditions_of
from hpsearch.config.study import validate
from hpsearch.config.usage import refuse_unused_ranges
from hpsearch.errors import ConfigError, RefusedError, Typed
from hpsearch.space import Narrowing
from hpsearch.stages.around_training import ranges_around
from hpsearch.stages.enqueued import refuse_other_values
from hpsearch.stages.plan import StagePlan
from hpsearch.stages.sampler_choice import (
    AUTO,
    choose_coarse_sampler,
)
from hpsearch.storage import StudyRow

BODY_LR = "train.body_lr"


def plan_coarse(settings: Settings, name: str = "coarse", check: StudyRow | None = None) -> StagePlan:
    """The coarse stage of a study file.

    Args:
        settings: data, model, training and ranges.
        name: of the stage.
        check: a study made by `hpsearch check`, to take the range of lr from, or by `hpsearch train`, to search around
            its lr and reg. What --space says goes before.

    Raises:
        ConfigError: there is nothing to search, or what nothing uses; sampler, pruner and space do not fit each other;
            or `check` is another kind of study.
        RefusedError: the check found no rate at which the loss goes down.
    """
    config = settings.study
    found: dict[str, tuple[Range, str]] = {}
    if check is not None and stage_record(check).is_training:
        found = ranges_around(check)
    elif check is not None:
        found = _checked_ranges(check, settings)
    changes = tuple(
        Narrowing(param, config.space.get(param, new), under_condition(new, config.space.get(param)), reason)
        for param, (new, reason) in found.items()
        if param not in settings.ranges_given | settings.ranges_removed
    )
    if changes:
        space = {**config.space, **{change.param: change.new for change in changes}}
        config = validate(StudyConfig, {**dict(config), "space": space})
    own = config.objective
    if not config.space and not (own is not None and own.defines):
        raise ConfigError(
            "[space] is empty: nothing to search.\n"
            "Give a range: --space 'lr=log(1e-6, 1e-3)'; or train with the given values: hpsearch train."
        )
    refuse_unused_ranges(config, config.space)
    refuse_other_values(config, "coarse", conditions_of(config.for_stage("coarse")))
    plan = StagePlan(name, "coarse", config, check.name if check is not None else None, changes)
    if config.coarse.sampler != AUTO:
        return plan
    return plan.with_sampler(choose_coarse_sampler(one_by_one=own is not None))


def _checked_ranges(check: StudyRow, settings: Settings) -> dict[str, tuple[Range, str]]:
    """Of lr and, where it is searched and the check found one, of train.body_lr; but for what a flag says.

    Each with the lower rates that trials of this config can use, and why.
    """
    config, said = settings.study.for_stage("coarse"), settings.ranges_given | settings.ranges_removed
    found: dict[str, tuple[Range, str]] = {}
    if "lr" not in said:
        found["lr"] = _checked_rates(check, config)
    findings = {each["name"]: each["measured"] for each in (stage_record(check).checks or {}).get("findings", ())}
    measured = findings.get("body rate", {})
    if "low" in measured and BODY_LR in config.space and BODY_LR not in said:
        found[BODY_LR] = _padded(measured, findings["data"]["images"], config)
    return found


def under_condition(new: Range, like: Range | None) -> Range:
    """The range, searched under the same condition as another one, and with its limits."""
    if like is None:
        return new
    if not isinstance(like, Choice) and not isinstance(new, Choice):
        new = replace(new, limits=like.limits)
    return replace(new, when=like.when)


def _checked_rates(check: StudyRow, config: StudyConfig) -> tuple[Range, str]:
    """The range of lr that a check found."""
    record = stage_record(check)
    if record.checks is None or record.kind != "check":
        raise ConfigError(
            f"the study {check.name!r} is no check, so it has no rough range of lr.\n"
            "Allowed: a study made by hpsearch check or hpsearch train; ",
            Typed(("hpsearch", "fine", "--from", check.name)),
            " narrows any.",
        )
    found = next((each for each in record.checks["findings"] if each["name"] == "learning rate"), None)
    if found is None or "low" not in found["measured"]:
        raise RefusedError(
            f"the check {check.name!r} found no learning rate at which the loss goes down.\n"
            "Give lr a range: --space 'lr=log(1e-4, 1e-1)', or check again with more --steps under another --name."
        )
    num_images = next(each["measured"]["images"] for each in record.checks["findings"] if each["name"] == "data")
    return _padded(found["measured"], num_images, config)


def _padded(measured: Mapping[str, Any], num_images: int, config: StudyConfig) -> tuple[Range, str]:
    """What a check measured as a range, with the lower rates that trials of this config can use, and why."""
    rough, steps = FloatRange(measured["low"], measured["high"], log=True), measured["steps"]
    trial_steps = config.train.epochs * math.ceil(num_images / config.train.batch_size)
    padded = pad_for_training(rough, steps, trial_steps)
    if padded == rough:
        return rough, measured["reason"]
    lower = (
        f"{rough.low / padded.low:.2g} times lower, as a trial takes {trial_steps:,} steps and the check took {steps}"
    )
    return padded, f"{measured['reason']}; {lower}"
