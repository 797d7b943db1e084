"""Boundary verdicts of a study: where its best trial lies in the ranges that were searched. Pure."""

from __future__ import annotations

from hpsearch.analysis.called_limits import called_limits, defines_its_ranges, with_whole_choices
from hpsearch.analysis.limits import limits_of
from hpsearch.analysis.study_trials import StudyTrials
from hpsearch.space import Verdict, boundary_verdicts


def verdicts(evidence: StudyTrials) -> list[Verdict]:
    """For each parameter: where the best trial lies in its range, and what to search next; nothing of a training."""
    if evidence.record.is_training:
        return []
    if defines_its_ranges(evidence.record):
        limits = called_limits(evidence)
    else:
        limits = limits_of(evidence.record, own=evidence.metric.is_own)
    amended = with_whole_choices(evidence.record)
    best = evidence.best
    number = best.number if best is not None else None
    return boundary_verdicts(evidence.ranges, evidence.observations, evidence.direction, limits, amended, number)
