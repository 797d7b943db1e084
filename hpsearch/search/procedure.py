"""The whole procedure: coarse, fine, and fine again until the best is inside every range and stops improving.

The stages are those of the commands by hand, word for word: `hpsearch coarse`, `hpsearch fine --from coarse`,
`hpsearch fine --from fine`. Nothing else is stored, so the same call goes on wherever it was stopped: it walks along
the stages, finishes the one that is not, and decides again from what they say.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from hpsearch.analysis.best_trial import best_or_refuse
from hpsearch.analysis.decision import MAX_STAGES, Decision, Limits, best_stage, decide
from hpsearch.analysis.study_trials import StudyTrials, read_study
from hpsearch.analysis.summary import StageSummary
from hpsearch.config import DataConfig, Settings
from hpsearch.datasets.device import TrainingData
from hpsearch.results import Direction
from hpsearch.search.api import Stage
from hpsearch.search.listener import SearchListener
from hpsearch.search.python_settings import (
    ConfigLike,
    Enqueued,
    ObjectiveLike,
    objective_flags,
    python_settings,
    tell,
)
from hpsearch.search.stage_run import open_search, read_images, run_stage
from hpsearch.stages.continued import refuse_unkept
from hpsearch.stages.fine_planning import plan_fine
from hpsearch.stages.next_ranges import planned_summary
from hpsearch.stages.opening import keep_stored_ranges, stored_plan
from hpsearch.stages.plan import StagePlan
from hpsearch.stages.planning import plan_coarse
from hpsearch.stages.time_budget import least_share, refuse_exact_budget, share_of_stage
from hpsearch.stages.validation import validate_proposals
from hpsearch.storage import Database, TrialRow
from hpsearch.worker.stopping import Stop, TimeIsUp


class ProcedureListener(SearchListener):
    """Hears of whole stages, too."""

    def stage_decided(self, summary: StageSummary, decision: Decision) -> None:
        """A stage has ended, or the time is up, and this is what follows."""


@dataclass(frozen=True)
class Procedure:
    """What a whole procedure found."""

    stages: tuple[Stage, ...]
    summaries: tuple[StageSummary, ...]
    decisions: tuple[Decision, ...]

    @property
    def ending(self) -> Decision:
        """Why it stopped."""
        return self.decisions[-1]

    @property
    def best_stage(self) -> Stage | None:
        """The stage with the best trial. Its values are those after its own number of epochs."""
        best = best_stage(self.summaries)
        return self.stages[self.summaries.index(best)] if best is not None else None

    @property
    def best(self) -> TrialRow | None:
        """The best trial over all stages."""
        return self.best_stage.best if self.best_stage is not None else None


def run(
    config: ConfigLike = None,
    *,
    objective: ObjectiveLike = None,
    optuna_objective: ObjectiveLike = None,
    direction: Direction | None = None,
    metric: str | None = None,
    enqueue: Enqueued = None,
    name: str | None = None,
    storage: str | None = None,
    gain: float | None = None,
    max_stages: int = MAX_STAGES,
    seconds: float | None = None,
    checks: bool = True,
    sets: Mapping[str, Any] | None = None,
    space: Mapping[str, Any] | None = None,
    listener: ProcedureListener | None = None,
) -> Procedure:
    """Search coarse, then fine until the best is inside every range and stops improving, or go on with that.

    Each fine stage narrows the ranges to where trials did well, and moves those on whose end the best lies.

    Args:
        config: a study file, a StudyConfig, a dict in the form of a study file, or None for the defaults.
        objective: what is searched over in place of a net, as for `coarse`; all stages call it.
        optuna_objective: or an Optuna objective, as for `coarse`.
        direction: of an objective's values: maximize or minimize.
        metric: what an objective's value is called, or train.metric.
        enqueue: values that the coarse stage tries first.
        name: what the stages' names begin with: NAME-coarse, NAME-fine, NAME-fine-2.
        storage: database URL; the study file's, or sqlite:///studies/hpsearch.db.
        gain: of the metric, as val_acc; a stage that gains less is the last one. See `Limits`.
        max_stages: the coarse one included.
        seconds: of wall clock. A stage is left at the end of the epoch in which they are over; the same call goes on.
        checks: see before the coarse stage that the net can learn at all.
        sets: other keys by dotted path, as {"coarse.trials": 50}.
        space: ranges of the coarse stage that replace or join those of the config, in any form that `coarse` takes.
        listener: hears of each stage, decision and finished trial.

    Raises:
        ConfigError, DataError, RefusedError, StorageError: as the command.
    """
    own = objective_flags(objective, optuna_objective, direction, metric)
    flags = {**own, "coarse.enqueue": enqueue, "run.storage": storage, **(sets or {})}
    settings = python_settings(config, flags, space)
    db = open_search(settings.run, settings.study)
    tell(settings.notes, listener)
    limits = Limits(gain, max_stages, seconds)
    return run_procedure(db, settings, name=name, limits=limits, checks=checks, listener=listener)


def run_procedure(
    db: Database,
    settings: Settings,
    *,
    name: str | None = None,
    limits: Limits | None = None,
    checks: bool = True,
    listener: ProcedureListener | None = None,
    stop: Stop | None = None,
) -> Procedure:
    """As `run`, with settings that are read already; until `stop` says so.

    Raises:
        RefusedError: a check failed, a stage of that name is another search, or no trial of a stage finished.
        ConfigError, DataError: before the first trial.
    """
    limits, listener = limits or Limits(), listener or ProcedureListener()
    stop = stop or Stop()
    stop.deadline = deadline = time.monotonic() + limits.seconds if limits.seconds is not None else None
    images: dict[DataConfig, TrainingData] = {}
    walked: list[StudyTrials] = []
    summaries: list[StageSummary] = []
    decisions: list[Decision] = []
    plan = first_plan(settings, name, limits)
    while True:
        start = time.monotonic()
        data = None
        if plan.config.objective is None:
            data_config = plan.trial_config.data
            if data_config not in images:
                images[data_config] = read_images(plan, settings.run, listener)
            data = images[data_config]
        share = share_of_stage(len(walked), limits.max_stages)
        until = start + share * (deadline - start) if deadline is not None else None
        try:
            evidence = run_stage(
                db, plan, settings.run, listener=listener, stop=stop, images=data, checks=checks, until=until
            )
        except TimeIsUp:
            evidence = read_study(db, plan.name)
        seconds = time.monotonic() - start
        walked.append(evidence)
        summaries.append(planned_summary(evidence, seconds=seconds))
        time_is_up = deadline is not None and _next_seconds(evidence, seconds, settings) > deadline - time.monotonic()
        decisions.append(decide(summaries, data.num_val if data is not None else 0, limits, time_is_up=time_is_up))
        listener.stage_decided(summaries[-1], decisions[-1])
        if decisions[-1].ending == "nothing":
            best_or_refuse(evidence)
        if not decisions[-1].go_on:
            stages = tuple(Stage(db, evidence) for evidence in walked)
            return Procedure(stages, tuple(summaries), tuple(decisions))
        plan = _next_plan(db, evidence, settings)


def first_plan(settings: Settings, name: str | None, limits: Limits) -> StagePlan:
    """The coarse stage of the procedure of this name.

    Raises:
        ConfigError: as `plan_coarse`, and where the stage after it could not begin.
    """
    study = settings.study
    if limits.seconds is not None:
        refuse_exact_budget("coarse", study.coarse)
    if limits.max_stages > 1:
        refuse_unkept(study)
        validate_proposals(StagePlan("fine", "fine", study))
        if limits.seconds is not None:
            refuse_exact_budget("fine", study.fine)
    return plan_coarse(settings, f"{name}-coarse" if name else "coarse")


def _next_seconds(evidence: StudyTrials, seconds: float, settings: Settings) -> float:
    """What the smallest next stage takes, if a trial's epoch takes as long as in the last one.

    Where a part of that was trained by an earlier call, this is too little: then the next stage may be left unfinished.
    """
    stage = settings.study.fine
    last = stored_plan(evidence.study).settings
    has_epochs = evidence.record.has_epochs
    longer = stage.epochs / last.epochs if has_epochs else 1.0
    return seconds * stage.trials * longer * least_share(stage, has_epochs=has_epochs) / last.trials


def _next_plan(db: Database, evidence: StudyTrials, settings: Settings) -> StagePlan:
    # Ranges that flags gave or removed were those of the coarse stage; from there on they are narrowed.
    narrowed = replace(settings, ranges_given=frozenset(), ranges_removed=frozenset())
    plan, _ = keep_stored_ranges(db, plan_fine(evidence, narrowed), frozenset())
    return plan
