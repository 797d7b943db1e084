"""Which sampler `sampler = "auto"` is, by what was measured: pure, from ranges, trials and the cost of a trial.

On surfaces with a known optimum (`python -m benchmarks surfaces`) a fine stage of a Gaussian process found more than
one of TPE wherever all ranges are of numbers, and takes up to a second a proposal, more with more trials. So it is
chosen where a trial takes longer than that. A coarse stage of TPE is narrowed better than one that was drawn
(`python -m benchmarks search`), but TPE learns only from what has ended, and nets train side by side. Where coarse
trials have fewer epochs, what is ahead early draws it away from what is ahead at the end. See docs/log.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from hpsearch.config import Choice, Range
from hpsearch.storage import TrialRow

AUTO = "auto"
MAX_TRIALS_OF_GP = 100  # a proposal takes the longer the more trials there are: 15 s at 1,000
MIN_SECONDS_FOR_GP = 2.0  # a trial; less, and the search would wait for its sampler
MIN_TIMED = 3  # trials that say what one takes


@dataclass(frozen=True, slots=True)
class SamplerChoice:
    """The sampler that a stage got where it was left to hpsearch, and why."""

    sampler: str
    reason: str

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON."""
        return asdict(self)

    def __str__(self) -> str:
        """As in `tpe, as lr_schedule is a choice`."""
        return f"{self.sampler}, as {self.reason}"


def stored_choice(kept: Mapping[str, str]) -> SamplerChoice:
    """What `as_dict` was kept with a study."""
    return SamplerChoice(kept["sampler"], kept["reason"])


def choose_coarse_sampler(*, one_by_one: bool, epochs: tuple[int, int] | None = None) -> SamplerChoice:
    """That of a coarse stage. Pure.

    Args:
        one_by_one: whether a worker's trials are one after the other, as those of a function or a program are.
        epochs: of its trials, and of those of a fine stage; None where they are told none.
    """
    if one_by_one and epochs is not None and epochs[0] < epochs[1]:
        return SamplerChoice("random", f"{epochs[0]} epochs can be misleading about {epochs[1]}, and tpe would follow")
    if one_by_one:
        return SamplerChoice("tpe", "trials are one after the other, so that each can learn from those before")
    return SamplerChoice("random", "nets train side by side, and a draw shows all of the ranges to narrow")


def choose_fine_sampler(space: Mapping[str, Range], trials: int, seconds: float | None) -> SamplerChoice:
    """That of a fine stage. Pure.

    Args:
        space: what is searched.
        trials: the stage's budget.
        seconds: that a trial will take, as `seconds_per_trial`; None where nothing says it.
    """
    choices = [name for name, range_ in space.items() if isinstance(range_, Choice) and len(range_.values) > 1]
    conditional = [name for name, range_ in space.items() if range_.when]
    if choices:
        return SamplerChoice("tpe", f"{choices[0]} is a choice, and gp is best for numbers alone")
    if conditional:
        return SamplerChoice("tpe", f"not all trials have {conditional[0]}, and gp needs one space for all")
    if trials > MAX_TRIALS_OF_GP:
        return SamplerChoice("tpe", f"gp is slow with more than {MAX_TRIALS_OF_GP} trials")
    if seconds is None:
        return SamplerChoice("tpe", "nothing says how long a trial takes, and gp takes up to a second a proposal")
    if seconds < MIN_SECONDS_FOR_GP:
        return SamplerChoice("tpe", f"a trial takes {seconds:.2g} s, and gp takes up to a second a proposal")
    return SamplerChoice("gp", f"all ranges are of numbers, and a trial takes {seconds:.2g} s")


def seconds_per_trial(trials: Sequence[TrialRow], longer: float) -> float | None:
    """What a trial of a stage will take, by those of the stage before it; None where too few say it. Pure.

    By how they ended one after the other, not by how long each of them took: many train side by side. The gaps between
    ends count by their mean without the longest tenth, so that a pause between two calls of a search counts for little.

    Args:
        trials: of the stage before.
        longer: so many times as many epochs will they train.
    """
    ends = sorted(trial.completed for trial in trials if trial.completed is not None and trial.state == "COMPLETE")
    begins = [trial.started for trial in trials if trial.started is not None and trial.state == "COMPLETE"]
    if len(ends) < MIN_TIMED or not begins:
        return None
    points = [min(begins), *ends]
    gaps = sorted((b - a).total_seconds() for a, b in pairwise(points))
    kept = gaps[: max(1, len(gaps) - len(gaps) // 10)]
    return sum(kept) / len(kept) * longer
