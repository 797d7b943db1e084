"""One trial trained again: whether it follows its recorded curve, and how much the seed alone moves it.

Writes nothing to the study.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from hpsearch.analysis.study_trials import StudyTrials, best_trials, read_study
from hpsearch.analysis.trial_records import trial_record
from hpsearch.config import RunConfig
from hpsearch.config.metric import ACCURACY, Metric
from hpsearch.config.usercode import names_in, refuse_untrusted
from hpsearch.datasets.images import Progress
from hpsearch.results import EpochResult, goodness, plain
from hpsearch.search.program_rerun import call_again, recorded_values
from hpsearch.search.stored_trials import Training, begun_trial, images_of, retrain, stored_trial
from hpsearch.stages.code_changes import changed_code
from hpsearch.stages.opening import stored_plan, versions
from hpsearch.stages.plan import StagePlan
from hpsearch.storage import Database, read_epochs
from hpsearch.training.images import as_trained

COMPARED = ("cost", "train_loss", "train_acc", "val_loss", "val_acc", "val_score", "update_ratio")
# Largest relative differences of the losses that rounding explains, in the first epoch and in any. A pack of another
# width sums in another order; of 295 trials (digits, faces; 2-core CPU, float32) rerun alone, none was off by more than
# 7e-7 in the first epoch. High rates treble that with each epoch: at most 4e-2 after 20, val_acc by 3 of 288 images.
FIRST_ROUNDING = 1e-4
ROUNDING = 0.1

Match = Literal["exact", "rounding", "different", "nothing recorded"]


@dataclass(frozen=True)
class Comparison:
    """How a curve lies against the recorded one.

    `differences`: of each quantity, the largest absolute difference over the epochs; a missing epoch counts as inf.
    """

    match: Match
    differences: Mapping[str, float]
    num_epochs: int
    """Recorded."""


@dataclass(frozen=True)
class Rerun:
    """What training a trial again showed."""

    study: str
    number: int
    recorded: list[EpochResult]
    recorded_explosion: tuple[int, int] | None
    """Epoch and step at which the trial was stopped."""
    trainings: tuple[Training, ...]
    """The first one with the trial's own seed."""
    comparison: Comparison
    best_gap: float | None
    """Between the best and the second best trial of the stage."""
    other_versions: Mapping[str, tuple[str, str]]
    """Packages that are not those of the stage: (then, now)."""
    metric: Metric = ACCURACY
    """What the values are."""
    takes_seed: bool = True
    """Whether the trainings differ by their seed; an objective without one was merely called again."""
    step_name: str = "epoch"
    value_then: float | None = None
    """That of the trial of an objective, recorded."""

    @property
    def explosion(self) -> tuple[int, int] | None:
        """Epoch and step at which it exploded this time."""
        explosion = self.trainings[0].explosion
        return (explosion.epoch, explosion.step) if explosion is not None else None

    @property
    def is_deterministic(self) -> bool:
        """Whether all calls gave the same."""
        return len(self.values) == len(self.trainings) > 1 and len(set(self.values)) == 1

    @property
    def values(self) -> list[float]:
        """Best value of each seed that did not explode."""
        return [training.value for training in self.trainings if training.value is not None]

    @property
    def std(self) -> float | None:
        """Of the values over seeds (n - 1); None below two."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None  # exactly 0 of equal ones

    def as_dict(self) -> dict[str, Any]:
        """The rerun as JSON."""
        values = self.values
        return {
            "study": self.study,
            "trial": self.number,
            "metric": self.metric.name,
            "match": self.comparison.match,
            "epochs": self.comparison.num_epochs,
            "differences": plain(dict(self.comparison.differences)),
            "recorded_explosion": self.recorded_explosion,
            "explosion": self.explosion,
            "takes_seed": self.takes_seed,
            "seeds": {str(training.seed): training.value for training in self.trainings},
            "mean": float(np.mean(values)) if values else None,
            "std": self.std,
            "min": min(values, default=None),
            "max": max(values, default=None),
            "best_gap": self.best_gap,
            "curve": [{"number": r.number, **plain(r.as_point())} for r in self.trainings[0].results],
            "versions": {name: list(pair) for name, pair in self.other_versions.items()},
        }


def rerun(
    db: Database,
    run: RunConfig,
    study: str,
    number: int,
    *,
    num_seeds: int = 5,
    progress: Progress | None = None,
    seed_ended: Callable[[Training], None] | None = None,
) -> Rerun:
    """Train a trial again from its stored config, with its own seed and those that follow.

    A trial that the pruner stopped, or that exploded, is trained up to the epoch where that happened. So is one that
    stopped early, with its own seed; other seeds have train.patience.

    Raises:
        ConfigError, RefusedError: see `stored_trial` and `images_of`.
    """
    evidence = read_study(db, study)
    plan = stored_plan(evidence.study)
    if plan.config.objective is not None:
        return _rerun_program(evidence, plan, number, run, num_seeds, seed_ended)
    stored = stored_trial(evidence, number)
    data = as_trained(stored.config, images_of(stored, run, progress), run)
    recorded = read_epochs(db, stored.study, [number]).get(number, [])
    trainings = []
    for seed in range(stored.seed, stored.seed + num_seeds):
        # One image more or less, by rounding, would stop the same curve at another epoch.
        is_own = seed == stored.seed
        epochs = stored.last_epoch if is_own else stored.epochs
        trainings.append(retrain(stored.config, data, seed, epochs=epochs, stops_early=not is_own, engine=run.engine))
        if seed_ended is not None:
            seed_ended(trainings[-1])
    return Rerun(
        study=study,
        number=number,
        recorded=recorded,
        recorded_explosion=trial_record(stored.trial).explosion,
        trainings=tuple(trainings),
        comparison=compare(recorded, trainings[0].results),
        best_gap=best_gap(evidence),
        other_versions=_other_versions(evidence.record.versions) | changed_code(stored.study),
        metric=evidence.metric,
    )


def _rerun_program(
    evidence: StudyTrials,
    plan: StagePlan,
    number: int,
    run: RunConfig,
    num_seeds: int,
    seed_ended: Callable[[Training], None] | None,
) -> Rerun:
    """As `rerun`, of an [objective]."""
    trial = begun_trial(evidence, plan, number)
    refuse_untrusted(names_in(plan.config.plain()))
    recorded = recorded_values(trial)
    trainings, takes_seed = call_again(plan, trial, evidence.metric, run, num_seeds, seed_ended)
    epoch = trial_record(trial).epoch
    again = [result for result in trainings[0].results if epoch is None or result.epoch <= epoch]
    exploded = (epoch or 0, 0) if trial_record(trial).exploded else None
    comparison = compare(recorded, again) if recorded else _compare_values(trial.value, trainings[0].value)
    return Rerun(
        study=evidence.study.name,
        number=number,
        recorded=recorded,
        recorded_explosion=exploded,
        trainings=tuple(trainings),
        comparison=comparison,
        best_gap=best_gap(evidence),
        other_versions=_other_versions(evidence.record.versions) | changed_code(evidence.study),
        metric=evidence.metric,
        takes_seed=takes_seed,
        step_name=evidence.record.step_name,
        value_then=trial.value,
    )


def _compare_values(then: float | None, now: float | None) -> Comparison:
    """Of a trial that reported nothing on its way."""
    if then is None or now is None:
        return Comparison("nothing recorded", {}, 0)
    same = math.isclose(then, now, rel_tol=FIRST_ROUNDING)
    return Comparison("exact" if then == now else "rounding" if same else "different", {}, 0)


def compare(recorded: Sequence[EpochResult], again: Sequence[EpochResult]) -> Comparison:
    """Epoch by epoch: exact if all numbers are equal, rounding if the losses differ by no more than that explains."""
    if not recorded:
        return Comparison("nothing recorded", {}, 0)
    by_epoch = {result.epoch: result for result in again}
    pairs = [(old, by_epoch.get(old.epoch)) for old in recorded]
    differences = {
        name: max(_difference(getattr(old, name), getattr(new, name)) if new else math.inf for old, new in pairs)
        for name in COMPARED
        if name != "val_score" or any(old.score is not None for old in recorded)
    }
    match: Match = "different"
    if not any(differences.values()):
        match = "exact"
    elif all(new is not None and _follows(old, new) for old, new in pairs):
        match = "rounding"
    return Comparison(match, differences, len(recorded))


def best_gap(evidence: StudyTrials) -> float | None:
    """By how much the best trial of a study leads the second best; None below two, or where only seeds differ.

    A trial that was called again counts by the mean of its calls. None where another one has a better value of one
    call than the best has in the mean: nobody knows which of the two leads.
    """
    best = evidence.best
    if evidence.record.is_training or best is None:
        return None
    means = {each.number: each.mean for each in evidence.repeated if each.counts_first}
    standing = {t.number: means.get(t.number, t.value) for t in best_trials(evidence.trials, evidence.direction)}
    known = {number: goodness(value, evidence.direction) for number, value in standing.items() if value is not None}
    lead = known.pop(best.number, None)
    if lead is None or not known:
        return None
    gap = lead - max(known.values())
    return gap if gap >= 0 else None


def _difference(old: float, new: float) -> float:
    return 0.0 if old == new or (math.isnan(old) and math.isnan(new)) else abs(old - new)


def _follows(old: EpochResult, new: EpochResult) -> bool:
    tolerance = FIRST_ROUNDING if old.epoch == 1 else ROUNDING
    if old.is_bare:
        return math.isclose(old.val_score, new.val_score, rel_tol=tolerance)
    return all(
        math.isclose(before, after, rel_tol=tolerance)
        for before, after in ((old.cost, new.cost), (old.val_loss, new.val_loss))
    )


def _other_versions(then: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    now = versions()
    return {name: (old, now[name]) for name, old in then.items() if name in now and now[name] != old}
