"""Samplers against each other on the user's own data: equal budgets, equal seeds, several repeats.

Each (sampler, repeat) is a study of its own, called `compare/random/0`: its space is fixed, its budget exact, its
trials wait in the queue like all others, and every tool that reads a study reads it.

Repeat r has the seed `seed + r`, for the draws and for train.seed, the same for all samplers: within a repeat they see
the same initial weights and minibatches, and over the repeats the noise of training varies. The hold-out stays the
same (data.seed). The grid is moved by a random offset in each repeat; `space/shifted_grid.py` says why. A grid has no
more points than fit into the budget, and then nobody gets more trials than the grid.

Planning, running and reading are here; what the values mean is in `comparison.py`. Reading imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hpsearch.analysis import attributes
from hpsearch.analysis.importance import importances
from hpsearch.analysis.sampler_comparison import Comparison, Search
from hpsearch.config import RunConfig, Settings, StageConfig, StudyConfig
from hpsearch.config.schema import SAMPLERS
from hpsearch.config.study import validate
from hpsearch.errors import ConfigError, RefusedError
from hpsearch.space.shifted_grid import draw_shifted_grid
from hpsearch.stages.opening import ImagesInfo, StructureOf, stage_attributes
from hpsearch.stages.plan import StagePlan
from hpsearch.stages.proposals import drawn_params, num_trials
from hpsearch.storage import (
    STRUCTURE,
    Database,
    NewTrial,
    StudyExistsError,
    StudyNotFoundError,
    StudyRow,
    TrialRow,
    create_stage,
    find_study,
    list_studies,
    read_trials,
)
from hpsearch.worker.stopping import Stop

if TYPE_CHECKING:
    from hpsearch.datasets.device import TrainingData
    from hpsearch.stages.listener import Listener

KIND = "compare"


@dataclass(frozen=True)
class RepeatPlan(StagePlan):
    """One sampler's search in one repeat: a stage with the settings of [coarse]."""

    comparison: str = KIND
    repeat: int = 0
    num_repeats: int = 1
    num_asked: int = 1

    @property
    def settings(self) -> StageConfig:
        """Trials, epochs, sampler."""
        return self.config.coarse

    @property
    def trial_config(self) -> StudyConfig:
        """The config of a trial before its own hyperparameters are set."""
        return self.config.for_stage("coarse")

    @property
    def sampler(self) -> str:
        """Who proposes."""
        return self.settings.sampler

    def identity(self, data_fingerprint: str) -> dict[str, Any]:
        """All that decides what this search finds."""
        plain = self.config.plain()
        sections = {section: plain[section] for section in ("data", "model", "train", "space", "coarse")}
        return {"stage": KIND, "from": None, "images": data_fingerprint, **sections}

    def drawn(self) -> list[dict[str, Any] | None]:
        """As `drawn_params`, with the grid moved by this repeat's offset."""
        if self.sampler == "grid":
            return list(draw_shifted_grid(self.config.space, self.settings.trials, self.settings.seed))
        return drawn_params(self.config.space, self.settings)


@dataclass(frozen=True)
class ComparisonPlan:
    """Samplers, repeats, and the searches they make."""

    name: str
    samplers: tuple[str, ...]
    num_repeats: int
    config: StudyConfig
    num_asked: int

    @property
    def settings(self) -> StageConfig:
        """The settings of each search; seed and sampler are those of the first."""
        return self.config.coarse

    def searches(self) -> Iterator[RepeatPlan]:
        """Repeat by repeat, so that whenever it is stopped, whole repeats are there to compare."""
        for repeat in range(self.num_repeats):
            for sampler in self.samplers:
                yield self._search(sampler, repeat)

    def _search(self, sampler: str, repeat: int) -> RepeatPlan:
        coarse = self.config.coarse
        train = self.config.train
        precision = "float32" if train.precision == "auto" else train.precision  # all searches alike, wherever they run
        config = self.config.model_copy(
            update={
                "coarse": coarse.model_copy(update={"sampler": sampler, "seed": coarse.seed + repeat}),
                "train": train.model_copy(update={"seed": train.seed + repeat, "precision": precision}),
            }
        )
        return RepeatPlan(
            name=f"{self.name}/{sampler}/{repeat}",
            kind=KIND,  # type: ignore[arg-type]  # a kind of its own, with the settings of [coarse]
            config=config,
            comparison=self.name,
            repeat=repeat,
            num_repeats=self.num_repeats,
            num_asked=self.num_asked,
        )


def plan_comparison(
    settings: Settings, samplers: Sequence[str] = ("random", "grid"), num_repeats: int = 10, name: str = KIND
) -> ComparisonPlan:
    """Compare samplers on a study file, with the settings of [coarse].

    Raises:
        ConfigError: fewer than two samplers, one that is not known, nothing to search, or no grid fits the budget.
    """
    if not settings.study.space:
        raise ConfigError("[space] is empty: nothing to search.\nGive a range: --space 'lr=log(1e-6, 1e-3)'.")
    unknown = [sampler for sampler in samplers if sampler not in SAMPLERS]
    if unknown or len(set(samplers)) < max(2, len(samplers)):
        raise ConfigError(
            f"samplers = {','.join(samplers)} cannot be compared.\n"
            f"Allowed: two or more different ones of {', '.join(SAMPLERS)}."
        )
    study, coarse = settings.study, settings.study.coarse
    budget = coarse.trials
    if "grid" in samplers:
        budget = num_trials(study.space, coarse.model_copy(update={"sampler": "grid"}))
    study = study.model_copy(update={"coarse": coarse.model_copy(update={"trials": budget})})
    return ComparisonPlan(name, tuple(samplers), num_repeats, study, coarse.trials)


def run_comparison(
    db: Database,
    plan: ComparisonPlan,
    run: RunConfig,
    data: TrainingData,
    listener: Listener | None = None,
    finished: Callable[[RepeatPlan], None] | None = None,
    stop: Stop | None = None,
) -> Comparison:
    """Run all searches of a comparison, or those that are not finished yet.

    Args:
        db: an open database with its schema.
        plan: what to compare.
        run: where to train.
        data: the images, prepared.
        listener: hears of each trial of each search.
        finished: called after each search.
        stop: asked at each epoch's end whether to go on.

    Raises:
        RefusedError: a study of one of the names is another search.
        ConfigError: see `check_plan`; nothing is written then.
    """
    from hpsearch.search.session import check_plan, run_stage
    from hpsearch.training import structure_key

    for search in plan.searches():
        if search.repeat == 0:
            check_plan(search, data)
    for search in plan.searches():
        _create_if_missing(db, search, data, structure_key)
        run_stage(db, search, run, data, listener, stop)  # compares the fingerprint, too
        if finished is not None:
            finished(search)
    return read_comparison(db, plan.name, plan.samplers, plan.num_repeats)


def _create_if_missing(db: Database, plan: RepeatPlan, images: ImagesInfo, structure_of: StructureOf) -> None:
    try:
        find_study(db, plan.name)
        return
    except StudyNotFoundError:
        pass
    config = plan.trial_config
    trials = [
        NewTrial(params, {STRUCTURE: structure_of(config, params)} if params is not None else {})
        for params in plan.drawn()
    ]
    attrs = {
        **stage_attributes(plan, images),
        attributes.COMPARISON: {
            "name": plan.comparison,
            "sampler": plan.sampler,
            "repeat": plan.repeat,
            "repeats": plan.num_repeats,
            "trials_asked": plan.num_asked,
        },
    }
    with suppress(StudyExistsError):  # another process was faster
        create_stage(db, plan.name, "maximize", attrs, plan.config.space, trials)


def list_comparisons(db: Database) -> list[str]:
    """Names of the comparisons in the storage, in the order in which they were begun."""
    compared = [study.attrs.get(attributes.COMPARISON) for study in list_studies(db)]
    return list(dict.fromkeys(kept["name"] for kept in compared if kept))


def read_comparison(
    db: Database, name: str = KIND, samplers: Sequence[str] | None = None, num_repeats: int | None = None
) -> Comparison:
    """What a comparison has found so far: of the repeats that all its samplers have finished.

    Args:
        db: an open database.
        name: of the comparison.
        samplers: in this order; all that are there, if not given.
        num_repeats: only the first ones.

    Raises:
        RefusedError: there is none of that name, or no repeat is finished.
    """
    found: dict[str, dict[int, StudyRow]] = {sampler: {} for sampler in samplers or ()}
    for study in list_studies(db):
        kept = study.attrs.get(attributes.COMPARISON, {})
        if kept.get("name") == name and (samplers is None or kept["sampler"] in samplers):
            found.setdefault(kept["sampler"], {})[kept["repeat"]] = study
    studies = [study for repeats in found.values() for study in repeats.values()]
    if not studies:
        raise RefusedError(f"there is no comparison {name!r} in {db.url}.\nMake one with: hpsearch compare.")
    trials = {study.name: read_trials(db, study) for study in studies}
    common = sorted(set.intersection(*(set(repeats) for repeats in found.values())))
    whole = [
        repeat
        for repeat in common[:num_repeats]
        if not any(t.state in ("WAITING", "RUNNING") for r in found.values() for t in trials[r[repeat].name])
    ]
    if not whole:
        raise RefusedError(
            f"no repeat of the comparison {name!r} is finished by all samplers.\n"
            "Finish it first, with the command that started it."
        )
    searches = {
        sampler: [_search(sampler, repeat, trials[repeats[repeat].name]) for repeat in whole]
        for sampler, repeats in found.items()
    }
    return _comparison(name, searches, studies, num_repeats)


def _comparison(
    name: str, searches: dict[str, list[Search]], studies: Sequence[StudyRow], num_repeats: int | None
) -> Comparison:
    first = studies[0].attrs
    config: StudyConfig = validate(StudyConfig, first[attributes.CONFIG])
    guessing = 1 / first[attributes.DATASET]["classes"]
    pooled = [
        (params, guessing if value is None else value)
        for runs in searches.values()
        for search in runs
        for params, value in zip(search.params, search.values, strict=True)
        if params.keys() >= config.space.keys()  # a trial may fail before it has any
    ]
    return Comparison(
        name=name,
        searches=searches,
        ranges=config.space,
        num_trials=config.coarse.trials,
        num_asked=max(study.attrs[attributes.COMPARISON]["trials_asked"] for study in studies),
        num_epochs=config.coarse.epochs,
        guessing=guessing,
        num_planned=num_repeats or max(study.attrs[attributes.COMPARISON]["repeats"] for study in studies),
        importances=importances(config.space, [params for params, _ in pooled], [value for _, value in pooled]),
    )


def _search(sampler: str, repeat: int, trials: Sequence[TrialRow]) -> Search:
    return Search(
        sampler,
        repeat,
        tuple(trial.params for trial in trials),
        tuple(trial.value if trial.state == "COMPLETE" else None for trial in trials),
    )
