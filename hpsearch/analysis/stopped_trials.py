"""A stage with rungs of which no trial came to its last epoch: what those say that were stopped. Pure.

Where all that went on explode, nothing is left that is COMPLETE but the best of those that were stopped. They have
values all the same, by which a fine stage narrows. How far such a best trial came, and what became of those that went
on, is said beside it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from hpsearch.analysis import attributes
from hpsearch.analysis.study_trials import StudyTrials
from hpsearch.analysis.trial_records import trial_record
from hpsearch.results import goodness
from hpsearch.wording import count_text, value_text


@dataclass(frozen=True)
class StoppedTrials:
    """Trials that ended at a rung, or as no epoch was left for them, each with a value.

    Attributes:
        num: how many.
        number: of the best one.
        value: that it had reached.
        reached: after how many epochs, `3 epochs`, or steps.
        spent: whether the epochs of the stage were spent for one of them.
        num_exploded: how many of the others did.
        first_explosion: the earliest epoch in which one did; None where none, or nobody knows.
    """

    num: int
    number: int
    value: float
    reached: str
    spent: bool
    num_exploded: int
    first_explosion: int | None

    @property
    def text(self) -> str:
        """`8 were stopped at a rung, the best of them, trial 11, at 0.9962 after 3 epochs, and 4 exploded`."""
        where = "at a rung or out of epochs" if self.spent else "at a rung"
        were = "was" if self.num == 1 else "were"
        best = f"the best of them, trial {self.number}," if self.num > 1 else f"trial {self.number},"
        exploded = ""
        if self.num_exploded:
            since = f" from epoch {self.first_explosion} on" if self.first_explosion is not None else ""
            exploded = f", and {self.num_exploded} exploded{since}"
        return f"{self.num} {were} stopped {where}, {best} at {value_text(self.value)} after {self.reached}{exploded}"


def stopped_trials(evidence: StudyTrials) -> StoppedTrials | None:
    """Of a stage without a trial that came to its last epoch; None where one did, or none was stopped with a value.

    Once such a stage is over, its best one is COMPLETE. Where none exploded, that is how few trials or few epochs end.
    """
    usable = [o for o in evidence.observations if o.value is not None and math.isfinite(o.value)]
    stopped = [o for o in usable if o.halved]
    is_over = any(o.outcome == "complete" for o in stopped)
    if any(o.outcome == "complete" and not o.halved for o in usable) or not stopped:
        return None
    if is_over and not evidence.num_exploded:
        return None
    best = max(stopped, key=lambda o: (goodness(o.value, evidence.direction), -o.number))
    records = {trial.number: trial_record(trial) for trial in evidence.trials}
    exploded = [record.epoch for record in records.values() if record.exploded and record.epoch is not None]
    assert best.value is not None
    return StoppedTrials(
        num=len(stopped),
        number=best.number,
        value=best.value,
        reached=count_text(evidence.epochs_of(best), evidence.record.step_name),
        spent=any(records[o.number].reason == attributes.SPENT for o in stopped),
        num_exploded=evidence.num_exploded,
        first_explosion=min(exploded, default=None),
    )
