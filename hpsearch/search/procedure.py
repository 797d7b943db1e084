"""The whole procedure: coarse, fine, and fine again until the best is inside every range and stops improving.

The stages are those of the commands by hand, word for word: `hpsearch coarse`, `hpsearch fine --from coarse`,
`hpsearch fine --from fine`. Nothing else is stored, so the same call goes on wherever it was stopped: it walks along
the stages, finishes the one that is not, and decides again from what they say.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hpsearch.config import DataConfig, RunConfig, Settings, StudyConfig
from hpsearch.datasets.device import TrainingData
from hpsearch.search.api import ConfigLike, Stage, _settings
from hpsearch.search.checks.findings import CheckReport
from hpsearch.search.checks.gate import check_before_search
from hpsearch.search.decision import MAX_STAGES, Decision, Limits, best_stage, decide
from hpsearch.search.evidence import Evidence, gather
from hpsearch.search.fleet import run_fleet
from hpsearch.search.images import load_data
from hpsearch.search.plan import StagePlan, plan_coarse, plan_fine
from hpsearch.search.progress import Listener
from hpsearch.search.stages import keep_stored_ranges
from hpsearch.search.stopping import Stop, TimeIsUp
from hpsearch.search.summary import StageSummary, best_or_refuse, stage_summary
from hpsearch.storage import Database, TrialRow, open_database


class ProcedureListener(Listener):
    """Hears of whole stages, too."""

    def stage_planned(self, plan: StagePlan) -> None:
        """A stage is about to be made, or found again."""

    def checked(self, report: CheckReport) -> None:
        """The checks before the coarse stage are made; if one failed, a RefusedError follows."""

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

    Args:
        config: a study file, a StudyConfig, a dict in the form of a study file, or None for the defaults.
        name: what the stages' names begin with: NAME-coarse, NAME-fine, NAME-fine-2.
        storage: database URL; the study file's, or sqlite:///studies/hpsearch.db.
        gain: val_acc; a stage that gains less is the last one. See `Limits`.
        max_stages: the coarse one included.
        seconds: of wall clock. A stage is left at the end of the epoch in which they are over; the same call goes on.
        checks: see before the coarse stage that the net can learn at all.
        sets: other keys by dotted path, as {"coarse.trials": 50}.
        space: ranges of the coarse stage that replace or join those of the config.
        listener: hears of each stage, decision and finished trial.

    Raises:
        ConfigError, DataError, RefusedError, StorageError: as the command.
    """
    settings = _settings("coarse", config, storage, None, None, None, sets, space)
    db = open_database(settings.run.storage, create=True)
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
    load_images: Callable[[StudyConfig, RunConfig], TrainingData] = load_data,
    workers: int = 1,
    devices: Sequence[str] = (),
    stop: Stop | None = None,
) -> Procedure:
    """As `run`, with settings that are read already; `workers` and `devices` as in `run_fleet`, until `stop` says so.

    Raises:
        RefusedError: a check failed, a stage of that name is another search, or no trial of a stage finished.
        ConfigError, DataError: before the first trial.
    """
    limits, listener = limits or Limits(), listener or ProcedureListener()
    stop = stop or Stop()
    stop.deadline = deadline = time.monotonic() + limits.seconds if limits.seconds is not None else None
    images: dict[DataConfig, TrainingData] = {}
    walked: list[Evidence] = []
    summaries: list[StageSummary] = []
    decisions: list[Decision] = []
    plan = plan_coarse(settings, f"{name}-coarse" if name else "coarse")
    while True:
        listener.stage_planned(plan)
        start = time.monotonic()
        data_config = plan.trial_config.data
        if data_config not in images:
            images[data_config] = load_images(plan.trial_config, settings.run)
        data = images[data_config]
        if checks and (report := check_before_search(db, plan, data)) is not None:
            listener.checked(report)
            report.refuse_if_failed()
        try:
            evidence = run_fleet(db, plan, settings.run, data, workers, devices, listener, stop)
        except TimeIsUp:
            evidence = gather(db, plan.name)
        walked.append(evidence)
        summaries.append(stage_summary(evidence, seconds=time.monotonic() - start))
        time_is_up = deadline is not None and time.monotonic() >= deadline
        decisions.append(decide(summaries, len(data.y_val_N), limits, time_is_up=time_is_up))
        listener.stage_decided(summaries[-1], decisions[-1])
        if decisions[-1].ending == "nothing":
            best_or_refuse(evidence)
        if not decisions[-1].go_on:
            stages = tuple(Stage(db, evidence) for evidence in walked)
            return Procedure(stages, tuple(summaries), tuple(decisions))
        plan = _next_plan(db, evidence, settings)


def _next_plan(db: Database, evidence: Evidence, settings: Settings) -> StagePlan:
    # Ranges that flags gave or removed were those of the coarse stage; from there on they are narrowed.
    narrowed = replace(settings, ranges_given=frozenset(), ranges_removed=frozenset())
    plan, _ = keep_stored_ranges(db, plan_fine(evidence, narrowed), frozenset())
    return plan
