"""Opening a stage: created whole in one transaction, or found again and compared with what was asked for."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

from hpsearch.analysis import attributes
from hpsearch.analysis.records import stage_record
from hpsearch.config import StudyConfig, differences
from hpsearch.config.data_sources import one_spelling
from hpsearch.config.metric import metric_of
from hpsearch.config.ranges import dump_range
from hpsearch.config.structure import structure_keys
from hpsearch.config.study import thaw_all, validate
from hpsearch.config.usage import unused_ranges
from hpsearch.datasets.sources import has_test_split
from hpsearch.errors import RefusedError
from hpsearch.stages.code_changes import code_hashes
from hpsearch.stages.continued import refuse_other_images, stored_continued
from hpsearch.stages.plan import StagePlan
from hpsearch.stages.repeat_plan import RepeatPlan
from hpsearch.stages.sampler_choice import stored_choice
from hpsearch.stages.training_plan import plan_training
from hpsearch.storage import (
    STRUCTURE,
    Database,
    NewTrial,
    StudyExistsError,
    StudyNotFoundError,
    StudyRow,
    add_trials,
    create_stage,
    find_study,
    write_attrs,
)
from hpsearch.version import __version__


class ImagesInfo(Protocol):
    """What a stage keeps of its images."""

    @property
    def fingerprint(self) -> str:
        """A hash of the training split."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""

    @property
    def num_classes(self) -> int:
        """Number of classes."""

    @property
    def num_train(self) -> int:
        """Images in the training part."""

    @property
    def num_val(self) -> int:
        """Validation images."""

    @property
    def largest_share(self) -> float:
        """Of the validation images, how many are of the most frequent class."""


def open_stage(db: Database, plan: StagePlan, images: ImagesInfo | None) -> StudyRow:
    """The study of a plan: found again if it is the same search, else created with all its trials WAITING.

    A study that grows gets those that it lacks.

    Args:
        db: an open database with its schema.
        plan: what is asked for.
        images: the data it trains on; their fingerprint is part of the search's identity. None for an [objective].

    Raises:
        RefusedError: a study of that name is another search; the message lists the differences.
    """
    try:
        study = find_stage(db, plan, images)
    except StudyNotFoundError:
        try:
            return _create(db, plan, images)
        except StudyExistsError:  # another process was faster
            study = find_stage(db, plan, images)
    study = _with_present_path(db, study, plan)
    if plan.grows and add_trials(db, study, plan.space, _new_trials(plan), stage_attributes(plan, images)):
        study = find_study(db, plan.name)
    return study


def _with_present_path(db: Database, study: StudyRow, plan: StagePlan) -> StudyRow:
    """The same weights may lie elsewhere now: workers that read the study look where they are."""
    stored = stage_record(study).config or {}
    then, now = stored.get("model", {}).get("weights"), plan.config.model.weights
    if then == now:
        return study
    attrs = {attributes.CONFIG: {**stored, "model": {**stored["model"], "weights": now}}}
    write_attrs(db, study, attrs)
    return replace(study, attrs={**study.attrs, **attrs})


def find_stage(db: Database, plan: StagePlan, images: ImagesInfo | None) -> StudyRow:
    """The study of a plan that is in the storage.

    Raises:
        StudyNotFoundError: there is none of that name.
        RefusedError: it is another search; the message lists the differences.
    """
    study = find_study(db, plan.name)
    stored = stage_record(study).identity
    if stored is None:
        raise RefusedError(
            f"the study {plan.name!r} in {db.url} was not made by hpsearch.\nGive this search another name: --name."
        )
    if not is_same_search(study, plan, images):
        now = plan.identity(fingerprint_of(images))
        lines = differences(_as_budgeted(stored, plan.kind), _as_budgeted(now, plan.kind))
        raise RefusedError(
            f"the study {plan.name!r} in {db.url} is another search: {'; '.join(lines)}.\n"
            "Give this one another name (--name NAME), or repeat the command that made it."
        )
    return study


def _as_budgeted(identity: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """An identity with the one budget that was said: one in epochs has as many trials as fit."""
    settings = identity.get(kind) or {}
    if settings.get("epochs_budget") is None:
        return identity
    return {**identity, kind: {key: value for key, value in settings.items() if key != "trials"}}


def is_same_search(study: StudyRow, plan: StagePlan, images: ImagesInfo | None) -> bool:
    """Whether a study of ours was made from this plan and these images.

    A data.source may have been stored with more than one spelling of a path; it is compared as it is written now.
    """
    record = stage_record(study)
    if record.fingerprint == plan.fingerprint(fingerprint_of(images)):
        return True
    stored = dict(record.identity or {})
    if source := (stored.get("data") or {}).get("source"):
        stored["data"] = {**stored["data"], "source": one_spelling(source)}
    return not differences(stored, plan.identity(fingerprint_of(images)))


def _create(db: Database, plan: StagePlan, images: ImagesInfo | None) -> StudyRow:
    refuse_other_images(db, plan, fingerprint_of(images))
    objective = plan.config.objective
    direction = metric_of(plan.config.train.metric).direction if objective is None else objective.direction
    return create_stage(db, plan.name, direction, stage_attributes(plan, images), plan.space, _new_trials(plan))


def _new_trials(plan: StagePlan) -> list[NewTrial]:
    key_of = structure_keys(plan.trial_config)
    given: list[dict[str, Any]] = [{attributes.ENQUEUED: thaw_all(values)} for values in plan.enqueued]
    given += [{attributes.CONTINUED: each.origin.as_dict()} for each in plan.continued]
    return [  # packs are taken by structure
        NewTrial(
            params,
            {
                **({STRUCTURE: key_of(params)} if params is not None else {}),
                **(given[number] if number < len(given) else {}),
            },
        )
        for number, params in enumerate(plan.drawn())
    ]


def stored_precision(db: Database, name: str) -> str | None:
    """That of the stage of this name: its own from its creation on, wherever it goes on; None without such a stage."""
    try:
        study = find_study(db, name)
    except StudyNotFoundError:
        return None
    return stored_plan(study).config.train.precision if stage_record(study).config is not None else None


def stage_attributes(plan: StagePlan, images: ImagesInfo | None) -> dict[str, Any]:
    """What the study of a plan keeps from its creation on."""
    dataset = {attributes.DATASET: _kept(plan, images)} if images is not None else {}
    return {
        attributes.STAGE: plan.kind,
        attributes.CONFIG: plan.config.plain(),
        attributes.IDENTITY: plan.identity(fingerprint_of(images)),
        attributes.FINGERPRINT: plan.fingerprint(fingerprint_of(images)),
        attributes.PROVENANCE: plan.provenance(),
        **dataset,
        attributes.VERSIONS: {**versions(), **code_hashes(plan.config)},
        **plan.own_attributes(),
    }


def _kept(plan: StagePlan, images: ImagesInfo) -> dict[str, Any]:
    return {
        "shape": list(images.shape),
        "classes": images.num_classes,
        "fingerprint": images.fingerprint,
        "train": images.num_train,
        "val": images.num_val,
        "largest": images.largest_share,
        "test": has_test_split(plan.config.data),
    }


def fingerprint_of(images: ImagesInfo | None) -> str:
    """Of the images of a stage, if it has any."""
    return images.fingerprint if images is not None else ""


def versions() -> dict[str, str]:
    """What made a stage, for its provenance."""
    import importlib.metadata as metadata

    packages = ("torch", "torchvision", "optuna", "numpy")
    found = {name: metadata.version(name) for name in packages}
    return {"hpsearch": __version__, "python": platform.python_version(), **found}


def stored_plan(study: StudyRow) -> StagePlan:
    """The plan that a stage in the storage was made from.

    Raises:
        RefusedError: the study was not made by hpsearch.
    """
    record = stage_record(study)
    if record.kind is None or record.config is None:
        raise RefusedError(f"the study {study.name!r} was not made by hpsearch, so it holds no config.")
    config: StudyConfig = validate(StudyConfig, record.config)
    if record.is_training:
        first, last = record.ranges[0].new
        return plan_training(config, study.name, last - first + 1)
    if record.compared is not None:
        return RepeatPlan.stored(study.name, config, record.compared)
    going_on = stored_continued(record)
    return StagePlan(study.name, record.kind, config, record.source, going_on=going_on, together=record.together)


def with_stored_sampler(plan: StagePlan, study: StudyRow) -> StagePlan:
    """A plan whose sampler was left to hpsearch, with that of its stage, which exists already."""
    record = stage_record(study)
    sampler = record.config_value(plan.kind, "sampler")
    if plan.chosen is None or not isinstance(sampler, str):
        return plan
    kept = record.chosen_sampler
    return plan.with_given_sampler(sampler) if kept is None else plan.with_sampler(stored_choice(kept))


def keep_stored_ranges(db: Database, plan: StagePlan, ranges_given: frozenset[str]) -> tuple[StagePlan, list[str]]:
    """A fine plan with the ranges that its study was created with, if it exists already and comes from the same source.

    The source may have gone on since; the same command still means the same stage. Also says which ranges would be
    drawn otherwise today. A sampler that was left to hpsearch stays the one that it was.
    """
    try:
        study = find_study(db, plan.name)
    except StudyNotFoundError:
        return plan, []
    record = stage_record(study)
    if record.kind != plan.kind:
        return plan, []
    old = stored_plan(study)
    searched = set(old.config.space) - unused_ranges(old.config).keys()
    if old.source == plan.source:
        plan = with_stored_sampler(plan, study)
    if old.source != plan.source or ranges_given or (searched != set(plan.config.space) and not plan.defines):
        return plan, []
    kept = {name: dump_range(range_) for name, range_ in old.config.space.items()}  # without steps, which calls say
    moved = [name for name, range_ in plan.config.space.items() if kept.get(name) != dump_range(range_)]
    changes = tuple(
        replace(change, new=old.config.space[change.param], reason=record.reasons.get(change.param, change.reason))
        for change in plan.changes
        if change.param in old.config.space
    )
    update: dict[str, Any] = {"space": old.config.space}
    if plan.defines and plan.config.objective is not None and old.config.objective is not None:
        own = {"narrowed": old.config.objective.narrowed}  # the source may have called for more since
        update["objective"] = plan.config.objective.model_copy(update=own)
    config = plan.config.model_copy(update=update)
    return replace(plan, config=config, changes=changes, going_on=old.going_on, together=old.together), moved
