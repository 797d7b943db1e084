"""What a Gaussian process and CMA-ES are told of trials that were ended early, or wait at a rung. Pure.

They read complete trials alone. Of a stage with rungs, or a pruner, that is the best third at most, and a Gaussian
process that is told nothing of the others proposes the place of one of them again and again. So each is told as it
would have ended: the best value that it came to, moved by what further epochs gave the others. But as no better than
the median of those that came to their end: it was behind others, and its place is not where the best is to be looked
for, whatever the curve promises.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from hpsearch.config.metric import Metric
from hpsearch.stages.learned_shift import LearnedShift
from hpsearch.stages.told_failures import as_complete, common_distributions

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


def with_told_pruned(
    trials: Sequence[FrozenTrial],
    as_tried: Callable[[FrozenTrial], FrozenTrial],
    value_of: Callable[[FrozenTrial], float | None],
    shift: LearnedShift,
    metric: Metric,
) -> list[FrozenTrial]:
    """All trials, where those that are pruned are complete, unless nothing can be told of them.

    Args:
        trials: of any state.
        as_tried: one that is pruned, with all that was proposed for it.
        value_of: what a complete one gave, None where it exploded.
        shift: what further epochs give.
        metric: what is measured.
    """
    from optuna.trial import TrialState

    ended = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    pruned = [as_tried(trial) for trial in trials if trial.state == TrialState.PRUNED]
    told = told_pruned(pruned, ended, [value_of(trial) for trial in ended], shift, metric)
    complete = {trial.number: trial for trial in told}
    return [complete.get(trial.number, trial) for trial in trials]


def told_pruned(
    pruned: Sequence[FrozenTrial],
    ended: Sequence[FrozenTrial],
    values: Sequence[float | None],
    shift: LearnedShift,
    metric: Metric,
) -> list[FrozenTrial]:
    """The same trials as complete ones.

    Left out are those that never reported a number, and those that lack a parameter which all others have.

    Args:
        pruned: those that did not come to their last epoch.
        ended: those that did.
        values: of the latter; None of one that exploded.
        shift: what further epochs give.
        metric: what is measured.
    """
    common = common_distributions(ended) if ended else {}
    known = [metric.goodness(value) for value in values if value is not None and math.isfinite(value)]
    middle = statistics.median(known) if known else math.inf
    told = []
    for trial in pruned:
        reported = [value for value in trial.intermediate_values.values() if math.isfinite(value)]
        if not reported or (complete := as_complete(trial, common)) is None:
            continue
        best = max(reported, key=metric.goodness)
        expected = metric.goodness(best + shift.of(max(trial.intermediate_values)))
        complete.value = metric.goodness(min(expected, middle))  # a goodness is the value or its negative
        told.append(complete)
    return told
