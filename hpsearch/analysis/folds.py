"""The spread of a trial over the folds of cross-validation, in words."""

from __future__ import annotations

import math
import statistics

from hpsearch.analysis.trial_records import trial_record
from hpsearch.storage import Outcome, TrialRow
from hpsearch.wording import value_text


def spread(trial: TrialRow | Outcome) -> float | None:
    """Standard deviation (n - 1) of its value over the folds, in its best epoch; None without folds."""
    folds = trial_record(trial).folds or ()
    return statistics.stdev(folds) if len(folds) > 1 and all(map(math.isfinite, folds)) else None


def folds_text(trial: TrialRow) -> str:
    """`3 folds: 0.9306, 0.9722, 0.9583, std 0.0213`; empty without folds."""
    std, folds = spread(trial), trial_record(trial).folds
    if std is None or folds is None:
        return ""
    return f"{len(folds)} folds: {', '.join(map(value_text, folds))}, std {value_text(std)}"
