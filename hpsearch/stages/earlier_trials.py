"""What a stage knows of the stages before it: their trials inside its ranges, told to its sampler beforehand.

Without them the first proposals of a fine stage are a draw, from ranges of which a hundred trials are known. Measured
on surfaces with a known optimum: see docs/log.md.

They are told as what they are. Trials of fewer epochs have lower values, so theirs are moved by what the further epochs
give: the median, over the trials of the stage that have ended, of the final value less the best one by that epoch. As
the oldest of what a sampler learns from, they weigh least where age counts (TPE). What exploded is known to explode.

A trial that its stage called again is told by the mean of its calls: the first value, for which it was chosen, is
partly luck. What a stage between called again for having led is told by the trial of that stage alone.

Trials of other epochs are told where numbers alone are searched. Of choices, as of optimizers, one learns faster than
the other and is ahead after few epochs; told so, TPE hardly tries the one that is ahead at the end. That costs more
there than it gains where the early order is right, and no other way of telling was better in stages of usual size.
But a Gaussian process is told all trials of a stage with rungs, the best of which were trained to the end: it found
more so on recorded trainings of two nets.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from hpsearch.analysis.called_again import TriedAgain, tried_again
from hpsearch.analysis.lineage import read_lineage
from hpsearch.analysis.records import StageRecord, stage_record
from hpsearch.analysis.study_trials import StudyTrials, read_study
from hpsearch.config import Choice, Range, canonical_name
from hpsearch.config.schema import LEARNING_SAMPLERS
from hpsearch.errors import ConfigError
from hpsearch.results import Direction, goodness
from hpsearch.space import Observation, holds, searched_range
from hpsearch.space.scale import choice_index
from hpsearch.stages.sampler_knowledge import NUM_BEST, NUM_NEWEST, NUM_UNTOLD
from hpsearch.storage import Database, StudyNotFoundError, StudyRow

if TYPE_CHECKING:
    from hpsearch.stages.plan import StagePlan

MOST_OF_GP = 100  # a Gaussian process takes 15 s a proposal at 1,000 trials
SEARCHES = ("coarse", "fine")


@dataclass(frozen=True, slots=True)
class EarlierTrial:
    """A trial of an earlier stage that lies inside the ranges of this one.

    Attributes:
        study: of which it is.
        epochs: that its stage trained, or until it was halved; None where trials are not told a number: those of this
            stage get as many.
        params: its hyperparameters, those of the stage alone.
        value: what it reached in these epochs, or the mean of its calls; None where it, or a call of it, exploded.
        ranges: of an Optuna objective, which says them as it runs: those that this stage draws the same calls from.
        failed: whether it failed, or was ended before it reported anything: a Gaussian process alone is told of it, see
            `stages.told_failures`.
    """

    study: str
    epochs: int | None
    params: Mapping[str, Any]
    value: float | None
    ranges: Mapping[str, Range] = field(default_factory=dict)
    failed: bool = False


def read_earlier_trials(db: Database, study: StudyRow, plan: StagePlan) -> list[EarlierTrial]:
    """The trials of the stages that a stage came from, oldest first; none where it is to forget them.

    Only of stages that measured the same on the same images with the same kind of net: others say little of it. Where
    a choice is searched, only those that are `comparable`.
    """
    settings = plan.settings
    if (
        plan.kind != "fine"
        or plan.source is None
        or settings.sampler not in LEARNING_SAMPLERS
        or getattr(settings, "forget", False)
    ):
        return []
    try:
        chain = read_lineage(db, read_study(db, plan.source))
    except (StudyNotFoundError, ConfigError):  # it was deleted since
        return []
    own = stage_record(study)
    going_on = {(each.origin.study, each.origin.trial) for each in plan.continued}  # they are trials of this stage
    alike = [_without(stage, going_on) for stage in chain if is_alike(stage.record, own)]
    objective = plan.config.objective
    if objective is not None and objective.defines:
        found = [t for stage in alike for t in called_trials_inside(stage, plan.space, objective.narrowed)]
    else:
        found = [t for stage in alike for t in trials_inside(stage, plan.space)]
    found = without_tried(found, [each for stage in alike for each in tried_again(stage.trials)])
    failed = [trial for trial in found if trial.failed][-NUM_UNTOLD:] if settings.sampler == "gp" else []
    found = [trial for trial in found if not trial.failed]
    told = comparable(found, plan.space, settings.epochs if own.has_epochs else None, settings.sampler)
    return failed + bounded(told, chain[-1].direction, MOST_OF_GP if settings.sampler == "gp" else NUM_NEWEST)


def comparable(
    earlier: Sequence[EarlierTrial], space: Mapping[str, Range], epochs: int | None, sampler: str = "tpe"
) -> list[EarlierTrial]:
    """Those whose values say who is better after so many epochs. Pure.

    Of a stage with rungs, few of whose trials have as many, it is none, or before a Gaussian process all: those few are
    its best, and would pass for what is usual. Told of these alone, fine stages found less than those that were told
    nothing (docs/log.md).

    Args:
        earlier: trials inside the ranges.
        space: these ranges. Where one of several values without an order is searched, other epochs say little.
        epochs: of the stage's trials; None where a trial has none.
        sampler: that is told.
    """
    if epochs is None or not any(isinstance(range_, Choice) and len(range_.values) > 1 for range_ in space.values()):
        return list(earlier)
    trained: dict[str, set[int]] = {}
    for trial in earlier:
        found = trained.setdefault(trial.study, set())
        if trial.value is not None:  # an explosion came to no last epoch, and says the same after any
            found.add(epochs if trial.epochs is None else trial.epochs)
    told = {
        study: found <= {epochs} or (sampler == "gp" and len(found) > 1 and max(found) >= epochs)
        for study, found in trained.items()
    }
    return [trial for trial in earlier if told[trial.study]]


def _without(stage: StudyTrials, left_out: Collection[tuple[str, int]]) -> StudyTrials:
    """A stage but for some trials, by its name and their numbers."""
    return replace(stage, observations=[o for o in stage.observations if (stage.study.name, o.number) not in left_out])


def without_tried(earlier: Sequence[EarlierTrial], tried: Sequence[TriedAgain]) -> list[EarlierTrial]:
    """Those that no later stage has called for having led: what they were worth there, its own trials say. Pure."""

    def is_tried(trial: EarlierTrial) -> bool:
        return any(
            each.values
            and each.study == trial.study
            and all(name in each.params and each.params[name] == value for name, value in trial.params.items())
            for each in tried
        )

    return [trial for trial in earlier if not is_tried(trial)]


def bounded(earlier: Sequence[EarlierTrial], direction: Direction, most: int) -> list[EarlierTrial]:
    """The best NUM_BEST and the newest of the others, in their order: a proposal takes the longer the more they are."""
    if len(earlier) <= most:
        return list(earlier)
    places = range(len(earlier))
    best = sorted(places, key=lambda place: -_goodness(earlier[place], direction))[:NUM_BEST]
    others = [place for place in places if place not in best][-(most - NUM_BEST) :]
    return [earlier[place] for place in sorted({*best, *others})]


def _goodness(trial: EarlierTrial, direction: Direction) -> float:
    return -math.inf if trial.value is None else goodness(trial.value, direction)


def is_alike(earlier: StageRecord, own: StageRecord) -> bool:
    """Whether the trials of one stage say something of another's."""
    return (
        earlier.kind in SEARCHES
        and earlier.images.fingerprint == own.images.fingerprint
        and all(
            earlier.config_value(*key) == own.config_value(*key)
            for key in (("train", "metric"), ("model", "name"), ("objective", "function"), ("objective", "command"))
        )
    )


def trials_inside(stage: StudyTrials, space: Mapping[str, Range]) -> list[EarlierTrial]:
    """Those trials of a stage that ended, were halved or exploded with each hyperparameter inside these ranges. Pure.

    One of a conditional range may be missing.
    """
    found = []
    for seen in stage.observations:
        failed = seen.number in stage.failed
        if not _says_something(seen) and not failed:
            continue
        named = {_name(name, space): value for name, value in seen.params.items()}
        params = {name: named[name] for name in space if name in named}
        missing = [name for name in space if name not in params and not space[name].when]
        if not missing and all(is_inside(space[name], value) for name, value in params.items()):
            epochs, value = stage.epochs_of(seen), stage.value_of(seen)
            found.append(EarlierTrial(stage.study.name, epochs, params, value, failed=failed))
    return found


def called_trials_inside(
    stage: StudyTrials, space: Mapping[str, Range], narrowed: Collection[str]
) -> list[EarlierTrial]:
    """The same of an Optuna objective, whose trials have what their calls asked for. Pure.

    Args:
        stage: an earlier one.
        space: what this stage says of the ranges of some parameters; others have the ranges of their calls.
        narrowed: those that bound the range of a call; the others take its place.
    """
    called = {**stage.ranges, **stage.record.called}
    found = []
    for seen in stage.observations:
        failed = seen.number in stage.failed
        if not (_says_something(seen) or failed) or not seen.params:
            continue
        try:
            ranges = {
                name: searched_range(name, called[name], space.get(name), narrows=name in narrowed)
                for name in seen.params
            }
        except ConfigError:  # what takes the place of a call does not fit it; its trials will say so
            continue
        if all(holds(range_, seen.params[name]) for name, range_ in ranges.items()):
            epochs, value = stage.epochs_of(seen), stage.value_of(seen)
            found.append(EarlierTrial(stage.study.name, epochs, dict(seen.params), value, ranges, failed))
    return found


def _says_something(seen: Observation) -> bool:
    """Whether a trial ended, exploded, or was halved with a value: the metric of one may never have given a number."""
    return seen.outcome != "pruned" or (seen.halved and seen.value is not None and math.isfinite(seen.value))


def _name(name: str, space: Mapping[str, Range]) -> str:
    if name in space:
        return name
    try:
        return canonical_name(name)
    except ConfigError:
        return name


def is_inside(range_: Range, value: Any) -> bool:
    """Whether a range could give this value, but for its grid. Pure."""
    if isinstance(range_, Choice):
        return choice_index(range_, value) is not None
    return isinstance(value, int | float) and range_.low <= value <= range_.high


def counted(earlier: Iterable[EarlierTrial]) -> dict[str, int]:
    """How many trials of which study say something of their worth."""
    return dict(Counter(trial.study for trial in earlier if not trial.failed))


def as_numbers(earlier: Sequence[EarlierTrial]) -> list[float]:
    """Numbers for trials that come before number 0, the oldest first.

    Between -1 and 0: TPE sorts by them, and Optuna's search for common parameters starts at -1.
    """
    return [-1 + (place + 1) / (len(earlier) + 1) for place in range(len(earlier))]
