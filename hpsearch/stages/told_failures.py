"""What a Gaussian process is told of trials that have no value, as their code raised, or ended them. Pure.

It proposes the one best place. Told nothing, it proposes a place where the code raises again and again; told that such
trials run, it keeps beside them. So they are told as the median of the others: nothing draws the search there, and one
that failed by chance, as where memory ran out, does not make a good place the worst (compare the floor padding of
Wakabayashi et al., npj Computational Materials 8, 180, 2022, which tells the worst value).
"""

from __future__ import annotations

import copy
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial


def told_failures(failed: Sequence[FrozenTrial], ended: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The same trials as complete ones.

    Left out are those that lack a parameter which all others have: Optuna searches together what all complete trials
    have in common.

    Args:
        failed: those that have no value.
        ended: those that have one, as they are told.
    """
    from optuna.trial import TrialState

    if not ended:
        return []
    common = dict(ended[0].distributions)
    for trial in ended[1:]:
        common = {name: of for name, of in common.items() if trial.distributions.get(name) == of}
    middle = statistics.median([trial.value for trial in ended if trial.value is not None])
    told = []
    for trial in failed:
        distributions = {**common, **trial.distributions}
        if common.keys() <= trial.params.keys() and all(distributions[name] == of for name, of in common.items()):
            complete = copy.copy(trial)
            complete.distributions = {name: distributions[name] for name in trial.params if name in distributions}
            complete.state, complete.value = TrialState.COMPLETE, middle
            told.append(complete)
    return told
