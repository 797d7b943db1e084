"""What the trials of any study in the storage say: observations, ranges, direction, the best one.

Works on studies made by whatever program, so nothing is assumed but Optuna's own schema.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from hpsearch.analysis.called_again import repeats_among, repeats_trial
from hpsearch.analysis.records import StageRecord, stage_record
from hpsearch.analysis.repeats import Repeated, best_called_again, by_mean, in_order_of_means, without_mean
from hpsearch.analysis.trial_records import trial_record
from hpsearch.config import Choice, FloatRange, IntRange, Range
from hpsearch.config.metric import Metric
from hpsearch.errors import ConfigError, StudyNotFoundError
from hpsearch.results import goodness
from hpsearch.space import Observation, format_value
from hpsearch.storage import Database, StudyRow, TrialRow, find_study, is_paused, read_trials

Direction = Literal["maximize", "minimize"]


@dataclass(frozen=True)
class StudyTrials:
    """A study as narrowing sees it."""

    study: StudyRow
    trials: list[TrialRow]
    direction: Direction
    ranges: dict[str, Range]
    observations: list[Observation]
    lacks_source: bool = False
    """Whether it is a fine stage and one of those before it, that its ranges came from, is gone."""

    @cached_property
    def record(self) -> StageRecord:
        """What hpsearch keeps with the study."""
        record = stage_record(self.study)
        return record if record.repeats is not None else replace(record, repeats=repeats_among(self.trials))

    @cached_property
    def metric(self) -> Metric:
        """What the value of a trial is."""
        return self.record.metric(self.direction)

    @property
    def best(self) -> TrialRow | None:
        """The finished trial with the best finite value; the earliest among equals.

        Where the best trials were trained again, the one with the best mean. Where all that were called again gave no
        value then, the best of the others, if there is any.
        """
        if self.repeated and self.repeated[0].mean is not None:
            return next((t for t in self.trials if t.number == self.repeated[0].number), None)
        left_out = without_mean(self.repeated)
        order = best_trials(self.trials, self.direction)
        return next((t for t in order if t.number not in left_out), order[0] if order else None)

    @property
    def ahead_once(self) -> TrialRow | None:
        """The best of the trials called once whose value is better than the mean by which the best one was chosen."""
        if (called := best_called_again(self.repeated)) is None:
            return None
        numbers = {each.number for each in self.repeated}
        others = (t for t in best_trials(self.trials, self.direction) if t.number not in numbers)
        first = next(others, None)
        if first is None or goodness(first.value, self.direction) <= goodness(called.mean, self.direction):
            return None
        return first

    @cached_property
    def repeated(self) -> list[Repeated]:
        """The best trials, as they did with other seeds, the best mean first; none before all of it is known."""
        return by_mean(self.record.repeats, self.direction)

    def measures_of(self, trial: TrialRow) -> dict[str, float]:
        """All that we measured of a trial's best epoch; empty where its weights were not kept."""
        weights = self.record.weights
        kept = weights.measures if weights is not None and weights.number == trial.number else None
        return dict(trial_record(trial).measures or kept or {})

    def epochs_of(self, seen: Observation) -> int | None:
        """Epochs that a trial's value stands for: those of the stage, or until it was halved; None without epochs."""
        return self.record.num_epochs if not seen.halved else self._epochs[seen.number]

    def value_of(self, seen: Observation) -> float | None:
        """What a trial is worth: where it was called again the mean of its calls, None where one gave no value.

        `observations` have it in the order of these means, but with first values, which are partly luck.
        """
        called = self._called_again.get(seen.number)
        return seen.value if called is None else called.mean

    @cached_property
    def failed(self) -> set[int]:
        """The numbers of the trials that failed, or were ended before they reported anything."""
        without = {seen.number for seen in self.observations if seen.value is None and seen.outcome == "pruned"}
        over = (t for t in self.trials if t.state == "FAIL" or (t.state == "PRUNED" and not t.intermediate))
        return without & {trial.number for trial in over}

    @cached_property
    def _called_again(self) -> dict[int, Repeated]:
        """By number, the trials that others of this stage call again."""
        return {each.number: each for each in self.repeated if each.counts_first}

    @cached_property
    def _epochs(self) -> dict[int, int]:
        """By number, those of each trial that has any."""
        return {trial.number: max(trial.intermediate) for trial in self.trials if trial.intermediate}

    @property
    def num_finished(self) -> int:
        """Trials that will not run again."""
        return sum(trial.state in ("COMPLETE", "PRUNED", "FAIL") for trial in self.trials)

    @property
    def num_paused(self) -> int:
        """Trials that wait at a rung, in nobody's hands, though their state is RUNNING."""
        return sum(is_paused(trial.state, trial.attrs) for trial in self.trials)

    @property
    def num_exploded(self) -> int:
        """Trials stopped because their cost ran away."""
        return sum(observation.outcome == "exploded" for observation in self.observations)

    @property
    def num_pruned(self) -> int:
        """Trials that a pruner stopped: explosions are none of them, whatever their state is called."""
        return num_pruned(self.trials, self.direction)


def read_study(db: Database, name: str, rename: Mapping[str, str | None] | None = None) -> StudyTrials:
    """Read the study `name`; `rename` maps names of its parameters to those wanted, None leaves one out.

    Raises:
        StudyNotFoundError: there is none of that name.
        ConfigError: it has several objectives.
    """
    study = find_study(db, name)
    direction = direction_of(study)
    trials = read_trials(db, study)
    if rename:
        trials = [_renamed(trial, rename) for trial in trials]
    seen = [observe(trial, direction) for trial in trials if repeats_trial(trial) is None]
    observations = in_order_of_means(seen, stage_record(study).repeats or repeats_among(trials), direction)
    return StudyTrials(study, trials, direction, ranges_of(trials), observations, _lacks_source(db, study))


def _lacks_source(db: Database, study: StudyRow) -> bool:
    """Of a coarse stage, what its ranges came from is no search, and says nothing of its trials."""
    seen = {study.name}
    record = stage_record(study)
    while record.kind == "fine" and record.source is not None and record.source not in seen:
        seen.add(record.source)
        try:
            record = stage_record(find_study(db, record.source))
        except StudyNotFoundError:  # it was deleted
            return True
    return False


def direction_of(study: StudyRow) -> Direction:
    """The one direction of a study; not set counts as minimize, as Optuna has it."""
    if len(study.directions) != 1:
        raise ConfigError(
            f"the study {study.name!r} has {len(study.directions)} objectives.\nAllowed: studies with one objective."
        )
    return "maximize" if study.directions[0] == "maximize" else "minimize"


def ranges_of(trials: Sequence[TrialRow]) -> dict[str, Range]:
    """The range of each parameter over all trials; where a program changed it on the way, the widest."""
    ranges: dict[str, Range] = {}
    for trial in trials:
        for name, range_ in trial.ranges.items():
            ranges[name] = _union(ranges[name], range_) if name in ranges else range_
    return ranges


def _union(one: Range, other: Range) -> Range:
    if one == other:
        return one
    match one, other:
        case Choice(), Choice():
            return Choice(tuple(dict.fromkeys([*one.values, *other.values])))
        case FloatRange(), FloatRange():
            step = one.step if one.step == other.step else None
            return FloatRange(min(one.low, other.low), max(one.high, other.high), one.log and other.log, step)
        case IntRange(), IntRange():
            return IntRange(min(one.low, other.low), max(one.high, other.high), one.log and other.log)
    return other  # the kind changed: the later one counts


def observe(trial: TrialRow, direction: Direction) -> Observation:
    """One trial as evidence. A value infinitely bad is an explosion, whoever recorded it."""
    value = trial.value
    worst = -math.inf if direction == "maximize" else math.inf
    record = trial_record(trial)
    if record.exploded or value == worst:
        return Observation(trial.number, trial.params, None, "exploded")
    if trial.state == "COMPLETE":
        return Observation(trial.number, trial.params, value, "complete", record.halved and bool(trial.intermediate))
    if trial.state != "PRUNED":
        return Observation(trial.number, trial.params, None, "pruned")
    halved = record.halved and bool(trial.intermediate)
    if halved:
        value = max(trial.intermediate.values(), key=lambda each: goodness(each, direction))
    elif value is None and trial.intermediate:
        value = trial.intermediate[max(trial.intermediate)]
    return Observation(trial.number, trial.params, value, "pruned", halved)


def best_trial(trials: Sequence[TrialRow], direction: Direction) -> TrialRow | None:
    """The complete trial with the best finite value; the earliest among equals, None without any."""
    return next(iter(best_trials(trials, direction)), None)


def best_trials(trials: Sequence[TrialRow], direction: Direction) -> list[TrialRow]:
    """The complete trials with finite values, the best first; of equals the earliest.

    One that calls another trial again is none of them.
    """
    complete = [t for t in trials if t.state == "COMPLETE" and repeats_trial(t) is None]
    finished = [t for t in complete if t.value is not None and math.isfinite(t.value)]
    sign = -1.0 if direction == "maximize" else 1.0
    return sorted(finished, key=lambda t: (sign * (t.value or 0.0), t.number))


def params_text(trial: TrialRow, separator: str = "  ") -> str:
    """`lr 3.4e-01  reg 2.1e-04`."""
    return separator.join(
        f"{name} {format_value(value, trial.ranges.get(name))}" for name, value in trial.params.items()
    )


def num_pruned(trials: Sequence[TrialRow], direction: Direction) -> int:
    """How many of some trials a pruner stopped; explosions are counted apart."""
    return sum(trial.state == "PRUNED" and observe(trial, direction).outcome == "pruned" for trial in trials)


def _renamed(trial: TrialRow, rename: Mapping[str, str | None]) -> TrialRow:
    names = {name: new for name in trial.params if (new := rename.get(name, name)) is not None}
    return replace(
        trial,
        params={new: trial.params[name] for name, new in names.items()},
        ranges={new: trial.ranges[name] for name, new in names.items()},
    )
