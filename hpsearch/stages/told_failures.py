"""What a Gaussian process is told of trials that have no value, as their code raised, or ended them. Pure.

It proposes the one best place. Told nothing, it proposes a place where the code raises again and again; told that such
trials run, it keeps beside them. So they are told as the median of the others: nothing draws the search there, and one
that failed by chance, as where memory ran out, does not make a good place the worst (compare the floor padding of
Wakabayashi et al., npj Computational Materials 8, 180, 2022, which tells the worst value).
"""

from __future__ import annotations

import copy
import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial


def told_failures(failed: Sequence[FrozenTrial], others: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The same trials as complete ones.

    Left out are those that lack a parameter which all others have: Optuna searches together what all complete trials
    have in common.

    Args:
        failed: those that have no value.
        others: as they are told; those that are complete have one.
    """
    from optuna.trial import TrialState

    ended = [trial for trial in others if trial.state == TrialState.COMPLETE]
    if not ended:
        return []
    common = common_distributions(ended)
    middle = statistics.median([trial.value for trial in ended if trial.value is not None])
    told = [complete for trial in failed if (complete := as_complete(trial, common)) is not None]
    for trial in told:
        trial.value = middle
    return told


def common_distributions(trials: Sequence[FrozenTrial]) -> dict[str, BaseDistribution]:
    """What all of some trials, at least one, asked for alike."""
    common = dict(trials[0].distributions)
    for trial in trials[1:]:
        common = {name: of for name, of in common.items() if trial.distributions.get(name) == of}
    return common


def as_complete(trial: FrozenTrial, common: Mapping[str, BaseDistribution]) -> FrozenTrial | None:
    """A copy as a complete trial, with the value that it has; None where it has no value of what others have in common.

    Args:
        trial: with what it tried, also of what its code has not asked for yet.
        common: of other trials.
    """
    from optuna.trial import TrialState

    distributions = {**common, **trial.distributions}
    if not common.keys() <= trial.params.keys() or any(distributions[name] != of for name, of in common.items()):
        return None
    complete = copy.copy(trial)
    complete.distributions = {name: distributions[name] for name in trial.params if name in distributions}
    complete.params = {name: trial.params[name] for name in complete.distributions}
    complete.state = TrialState.COMPLETE
    return complete
