"""How far the ranges of an Optuna objective can move: it names them itself, as it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hpsearch.analysis.limits import limits_of, tighter
from hpsearch.analysis.records import StageRecord
from hpsearch.analysis.study_trials import StudyTrials
from hpsearch.config import Choice
from hpsearch.config.schema import LEARNING_SAMPLERS
from hpsearch.space import Limits, Narrowing


def defines_its_ranges(record: StageRecord) -> bool:
    """Whether a study of ours searched over an Optuna objective."""
    form: Any = record.config_value("objective", "form")
    return isinstance(form, str) and form == "optuna"


def called_limits(evidence: StudyTrials) -> Callable[[str], Limits]:
    """By parameter, the ends that the objective named, and those that the study file says.

    Of those whose ranges were given in place of the objective's, the latter alone.
    """
    given = limits_of(evidence.record, own=True)
    named = {**evidence.ranges, **evidence.record.called}
    replaced = replaced_ranges(evidence.record)

    def limits(name: str) -> Limits:
        range_ = named.get(name)
        if range_ is None or isinstance(range_, Choice) or name in replaced:
            return given(name)
        low, high = given(name)
        return tighter(max, range_.low, low), tighter(min, range_.high, high)

    return limits


def replaced_ranges(record: StageRecord) -> set[str]:
    """The parameters of a stage whose ranges take the place of those that its objective names."""
    return set(record.config_value("space") or ()) - set(record.config_value("objective", "narrowed") or ())


def with_whole_choices(record: StageRecord, *, defines: bool = False) -> Callable[[Narrowing], Narrowing]:
    """What leaves the choices of a stage as they are, whichever were the best, where its best do not say which to drop.

    Those of an Optuna objective are its own. A sampler that learns goes for the first value that does well, so the best
    trials have that one, whatever the others would have given (docs/log.md).

    Args:
        record: of the stage.
        defines: whether the next one searches over an Optuna objective, as after a study that plain Optuna made.
    """
    if defines or defines_its_ranges(record):
        why = "the objective names its choices itself"
    elif (sampler := record.config_value(str(record.kind), "sampler")) in LEARNING_SAMPLERS:
        why = f"{sampler} chose how often each was tried"
    else:
        return lambda change: change

    def whole(change: Narrowing) -> Narrowing:
        if not isinstance(change.old, Choice) or change.new == change.old:
            return change
        found = change.reason.partition("; dropped: ")[0]  # nothing is
        return replace(change, new=change.old, reason=f"{found}; all stay, as {why}")

    return whole
