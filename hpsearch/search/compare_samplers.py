"""Samplers against each other on the user's own data: equal budgets, equal seeds, several repeats.

Each (sampler, repeat) is a study of its own, called `compare/random/0`: its space is fixed, its budget exact, its
trials wait in the queue like all others, and every tool that reads a study reads it.

Repeat r has the seed `seed + r`, for the draws and for train.seed, the same for all samplers: within a repeat they see
the same initial weights and minibatches, and over the repeats the noise of training varies. The hold-out stays the
same (data.seed). The grid is moved by a random offset in each repeat; `space/shifted_grid.py` says why. A grid has no
more points than fit into the budget, and then nobody gets more trials than the grid.

What is stored of it is read in `analysis.stored_comparisons`; what the values mean is in `analysis.sampler_comparison`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from hpsearch.analysis.sampler_comparison import Comparison
from hpsearch.analysis.stored_comparisons import read_comparison
from hpsearch.config import RunConfig, Settings, StageConfig, StudyConfig
from hpsearch.config.conditions import conditions_of
from hpsearch.config.schema import SAMPLERS
from hpsearch.errors import ConfigError
from hpsearch.search.listener import SearchListener
from hpsearch.search.stage_run import read_images, run_stage
from hpsearch.stages.drawn import num_trials
from hpsearch.stages.enqueued import refuse_other_values
from hpsearch.stages.repeat_plan import KIND, RepeatPlan
from hpsearch.stages.suggestions import refuse_samplers_in_advance
from hpsearch.stages.validation import validate_plan, validate_proposals
from hpsearch.storage import Database
from hpsearch.worker.stopping import Stop


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
            kind=KIND,
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
    own = settings.study.objective
    if own is not None and own.defines:
        for sampler in samplers:
            refuse_samplers_in_advance("samplers", sampler, own.name)
    elif not settings.study.space:
        raise ConfigError("[space] is empty: nothing to search.\nGive a range: --space 'lr=log(1e-6, 1e-3)'.")
    unknown = [sampler for sampler in samplers if sampler not in SAMPLERS]
    if unknown or len(set(samplers)) < max(2, len(samplers)):
        raise ConfigError(
            f"samplers = {','.join(samplers)} cannot be compared.\n"
            f"Allowed: two or more different ones of {', '.join(SAMPLERS)}."
        )
    study, coarse = settings.study, settings.study.coarse
    conditions = conditions_of(study.for_stage("coarse"))
    refuse_other_values(study, "coarse", conditions)
    budget, first = coarse.trials, len(coarse.enqueue)
    if "grid" in samplers and first < budget:
        grid = coarse.model_copy(update={"sampler": "grid", "trials": budget - first, "enqueue": ()})
        budget = first + num_trials(study.space, grid, conditions)
    study = study.model_copy(update={"coarse": coarse.model_copy(update={"trials": budget})})
    return ComparisonPlan(name, tuple(samplers), num_repeats, study, coarse.trials)


def run_comparison(
    db: Database,
    plan: ComparisonPlan,
    run: RunConfig,
    listener: SearchListener | None = None,
    finished: Callable[[RepeatPlan], None] | None = None,
    stop: Stop | None = None,
) -> Comparison:
    """Run all searches of a comparison, or those that are not finished yet.

    Args:
        db: an open database with its schema.
        plan: what to compare.
        run: where to train.
        listener: hears of each trial of each search.
        finished: called after each search.
        stop: asked at each epoch's end whether to go on.

    Raises:
        RefusedError: a study of one of the names is another search.
        ConfigError: see `validate_plan`; nothing is written then.
    """
    listener = listener or SearchListener()
    searches = list(plan.searches())
    images = None
    for search in searches:
        validate_proposals(search)  # before the images, which may take minutes to read
    if plan.config.objective is None:
        images = read_images(searches[0], run, listener)
    for search in searches:
        if search.repeat == 0 and images is not None:
            validate_plan(search, images)
    for search in searches:
        run_stage(db, search, run, listener=listener, stop=stop, images=images, checks=False)
        if finished is not None:
            finished(search)
    return read_comparison(db, plan.name, plan.samplers, plan.num_repeats)
