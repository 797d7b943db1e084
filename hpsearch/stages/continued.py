"""Which trials of an earlier stage go on in a fine one, and what they must have in common with it.

A trial goes on only where one long training would be the same to the last bit: with the same images, net and training,
and a learning rate that does not depend on how many epochs there are. So whatever trains it again from its
hyperparameters and seed alone finds the same, and a worker that cannot read the state loses time, not results.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hpsearch.analysis.origins import Origin, as_origin
from hpsearch.analysis.records import StageRecord, stage_record
from hpsearch.analysis.study_trials import StudyTrials
from hpsearch.analysis.trial_records import trial_record
from hpsearch.config import Choice, StudyConfig, canonical_name, differences
from hpsearch.config.ranges import freeze, thaw
from hpsearch.config.study import validate
from hpsearch.errors import ConfigError, RefusedError, Typed
from hpsearch.results import goodness
from hpsearch.stages.code_changes import changed_code
from hpsearch.stages.earlier_trials import is_inside
from hpsearch.storage import Database, StudyNotFoundError, StudyRow, TrialRow, find_study

if TYPE_CHECKING:
    from hpsearch.stages.plan import StagePlan

WITHOUT_HORIZON = ("constant", "exponential", "step", "sgdr", "inverse-sqrt")
"""Schedules whose rate in an epoch is the same however many epochs follow."""
SECTIONS = ("data", "model", "train")
STAGES = ("coarse", "fine")


@dataclass(frozen=True)
class Continued:
    """A trial that goes on."""

    origin: Origin
    params: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """As kept with the study."""
        return {**self.origin.as_dict(), "params": {name: thaw(value) for name, value in self.params.items()}}


def stored_continued(record: StageRecord) -> tuple[Continued, ...]:
    """The trials that go on in a stage that is in the storage."""
    found = [(as_origin(each), each.get("params")) for each in record.continued]
    return tuple(
        Continued(origin, {name: freeze(value) for name, value in params.items()})
        for origin, params in found
        if origin is not None and isinstance(params, dict)
    )


def handed_on(record: StageRecord) -> Mapping[str, Any] | None:
    """The config of a stage as another one begins with it: that asks for no states which the stage has not kept.

    A fine stage with `continue_top`, which its own trials went on by, would else refuse any fine stage after it.
    """
    config = record.config
    fine = config.get("fine") if config is not None else None
    if config is None or record.kind != "fine" or not isinstance(fine, Mapping):
        return config
    if int(fine.get("continue_top") or 0) <= int(fine.get("keep_top") or 0):
        return config
    return {**config, "fine": {**fine, "continue_top": 0}}


def states_folder(study: StudyRow) -> str:
    """The name of the folder in which a stage keeps the states of its best trials."""
    return f"{stage_record(study).fingerprint}-{study.study_id}"


def choose_continued(evidence: StudyTrials, config: StudyConfig) -> tuple[tuple[Continued, ...], list[str]]:
    """The best trials of a study that go on in a fine stage, as `fine.continue_top` says, and what is to be told.

    Those that ended before their last epoch are none of them: with more epochs, they would have ended there, too. Nor
    are those outside the fine stage's ranges.

    Args:
        evidence: the stage that they come from.
        config: of the fine stage, with its ranges.

    Raises:
        RefusedError: it keeps no states of so many trials, or trains otherwise, so that none can go on.
    """
    wanted, settings = config.fine.continue_top, config.fine
    if not wanted:
        return (), []
    source, record = evidence.study.name, evidence.record
    done = record.num_epochs
    if is_of_nets(record) and done is not None and done >= settings.epochs:
        return (), [
            f"{source} trained {done} epochs already, and fine.epochs = {settings.epochs}: none of its trials goes on"
        ]
    _refuse_without_states(evidence, wanted)
    assert done is not None
    _refuse_horizon(config, source, done)
    _refuse_other_training(evidence, config)
    kept = int(record.config_value(str(record.kind), "keep_top") or 0)
    whole = [trial for trial in evidence.trials if went_through_all(trial)]
    best = sorted(whole, key=lambda t: (-goodness(t.value or 0.0, evidence.direction), t.number))[:kept]
    named = [(trial, {canonical_name(name): value for name, value in trial.params.items()}) for trial in best]
    inside = [(trial, params) for trial, params in named if _fits(params, config)]
    folder = states_folder(evidence.study)
    chosen = tuple(Continued(Origin(source, trial.number, done, folder), params) for trial, params in inside[:wanted])
    numbers = ", ".join(str(each.origin.trial) for each in chosen)
    plural = ("s", "") if len(chosen) > 1 else ("", "es")
    said = [f"trial{plural[0]} {numbers} of {source} go{plural[1]} on from epoch {done}"] if chosen else []
    if len(chosen) < wanted:
        said.append(
            f"{len(chosen)} of fine.continue_top = {wanted} go on: no more of the {kept} best of {source} went through"
            " all epochs and lie inside the ranges"
        )
    return chosen, said


def with_precision_of(record: StageRecord, config: StudyConfig) -> StudyConfig:
    """The config with the precision in which a stage was trained, where it does not say one itself."""
    before = record.config_value("train", "precision")
    if config.objective is not None or config.train.precision != "auto" or before is None:
        return config
    return config.model_copy(update={"train": config.train.model_copy(update={"precision": before})})


def went_through_all(trial: TrialRow) -> bool:
    """Whether a trial ended with its last epoch, and has a value."""
    is_valued = trial.value is not None and math.isfinite(trial.value)
    return trial.state == "COMPLETE" and is_valued and trial_record(trial).reason is None


def refuse_unkept(config: StudyConfig) -> None:
    """Whether the coarse stage of a whole procedure will keep the states with which its fine stage begins.

    Raises:
        ConfigError: of fewer trials, or of none.
    """
    wanted, kept = config.fine.continue_top, config.coarse.keep_top
    if wanted > kept:
        raise ConfigError(
            f"fine.continue_top = {wanted} needs the states of so many trials, and coarse.keep_top = {kept}.\n"
            f"Allowed: coarse.keep_top = {wanted} or more (--set coarse.keep_top={wanted})."
        )


def refuse_other_images(db: Database, plan: StagePlan, fingerprint: str) -> None:
    """Whether trials that go on were trained on these images.

    Raises:
        RefusedError: on others.
    """
    if not plan.continued or plan.source is None:
        return
    try:
        before = stage_record(find_study(db, plan.source)).images.fingerprint
    except StudyNotFoundError:
        return
    if before != fingerprint:
        raise RefusedError(
            f"fine.continue_top = {len(plan.continued)}: {plan.source!r} was trained on other images"
            f" ({before}, and here {fingerprint}).\n"
            "Allowed: the same images, or fine.continue_top = 0."
        )


def is_of_nets(record: StageRecord) -> bool:
    """Whether it is a stage of a search whose trials hpsearch trained itself."""
    return record.kind in STAGES and record.config_value("objective") is None


def _refuse_without_states(evidence: StudyTrials, wanted: int) -> None:
    source, record = evidence.study.name, evidence.record
    kept = record.config_value(str(record.kind), "keep_top") or 0
    if not is_of_nets(record):
        raise RefusedError(
            f"fine.continue_top = {wanted}: {source!r} is no search of ours over nets, so it keeps no states.\n"
            "Allowed: after coarse or fine with --keep-top N; here fine.continue_top = 0."
        )
    if kept < wanted:
        before = ["--from", record.source] if record.source is not None else []
        kept_name = f"{source}-kept"
        raise RefusedError(
            f"fine.continue_top = {wanted}: {source!r} keeps the states of {kept} trials (--keep-top was {kept}).\n"
            "Keep them: ",
            Typed(["hpsearch", str(record.kind), *before, "--name", kept_name, "--keep-top", str(wanted)]),
            f", with the other options of {source!r}; then ",
            Typed(("hpsearch", "fine", "--from", kept_name)),
        )


def _refuse_horizon(config: StudyConfig, source: str, done: int) -> None:
    train = config.for_stage("fine").train
    searched = config.space.get("train.lr_schedule")
    schedules = searched.values if isinstance(searched, Choice) else (train.lr_schedule,)
    if with_horizon := [name for name in schedules if name not in WITHOUT_HORIZON]:
        raise RefusedError(
            f"fine.continue_top: the rate of train.lr_schedule = {with_horizon[0]!r} depends on the number of epochs, "
            f"so after {done} of {done} in {source!r} it is not where it is after {done} of {train.epochs}.\n"
            f"Allowed: {', '.join(WITHOUT_HORIZON)}; or fine.continue_top = 0."
        )


def _refuse_other_training(evidence: StudyTrials, config: StudyConfig) -> None:
    """What differs between the two stages must be their epochs alone."""
    source, record = evidence.study.name, evidence.record
    before: StudyConfig = validate(StudyConfig, dict(record.config or {}))
    lines = []
    if other := sorted(set(before.space) ^ set(config.space)):
        lines.append(f"{', '.join(other)} {'is' if len(other) == 1 else 'are'} searched in one of them alone")
    old, new = before.for_stage(str(record.kind)), config.for_stage("fine")
    shared = {name: value for name, value in _any_params(config).items() if name in before.space}
    plain_old, plain_new = (_trained(each.with_params(shared).plain()) for each in (old, new))
    lines += differences(plain_old, plain_new)
    lines += [f"{name} has changed since {source!r} was begun" for name in changed_code(evidence.study)]
    if lines:
        raise RefusedError(
            f"fine.continue_top = {config.fine.continue_top}: the fine stage trains otherwise than {source!r}:"
            f" {'; '.join(lines)}.\n"
            "Allowed: stages that differ in their epochs alone; or fine.continue_top = 0."
        )


def _any_params(config: StudyConfig) -> dict[str, Any]:
    """Some value of all that is searched: what is, says nothing of how the stages differ."""
    return {name: r.values[0] if isinstance(r, Choice) else r.low for name, r in config.space.items()}


def _trained(plain: Mapping[str, Any]) -> dict[str, Any]:
    sections = {name: dict(plain[name]) for name in SECTIONS}
    del sections["train"]["epochs"]
    return sections


def _fits(params: Mapping[str, Any], config: StudyConfig) -> bool:
    missing: Sequence[str] = [name for name in config.space if name not in params and not config.space[name].when]
    return not missing and all(is_inside(config.space[name], value) for name, value in params.items())
