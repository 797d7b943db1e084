"""Which sampler `sampler = "auto"` is, by what was measured: pure, from ranges, trials and the cost of a trial.

On surfaces with a known optimum (`python -m benchmarks search`) a fine stage of a Gaussian process found more than TPE
alone on each, with numbers and with choices. It costs more: seconds once, then tenths of a second for each
proposal, more with more trials. So it is chosen where the trials take longer than that. A coarse stage of TPE is
narrowed better than one that was drawn, but TPE learns only from what has ended, and nets train side by side. Where
coarse trials have fewer epochs, what is ahead early draws it away from what is ahead at the end. See docs/log.md.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from hpsearch.config import Choice, IntRange, Range
from hpsearch.space import Observation
from hpsearch.space.scale import num_values
from hpsearch.storage import TrialRow
from hpsearch.wording import duration_text

AUTO = "auto"
MAX_TRIALS_OF_GP = 400  # that it learns from, more were not measured
GP_BEGINS = 4.0  # seconds, once: its libraries
GP_PROPOSES = 0.1  # seconds, each time, and more the more trials it learns from:
GP_LEARNS = 1 / 500
GP_STEPS = 1.0  # and more where choices go with whole numbers, which it tries in turn
MOST_VALUES_OF_GP = 10_000_000  # of a whole number or a grid: it has them all in memory, 20 bytes for each
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


def choose_fine_sampler(
    space: Mapping[str, Range], trials: int, seconds: float | None, known: int = 0, partial: Collection[str] = ()
) -> SamplerChoice:
    """That of a fine stage. Pure.

    Args:
        space: what is searched.
        trials: the stage's budget.
        seconds: that a trial will take, as `seconds_per_trial`; None where nothing says it.
        known: trials of the stages before, from which it learns, too.
        partial: hyperparameters that some of those trials did not have.
    """
    conditional = [name for name, range_ in space.items() if range_.when or name in partial]
    if conditional:
        return SamplerChoice("tpe", f"not all trials have {conditional[0]}, and gp needs one space for all")
    if trials + known > MAX_TRIALS_OF_GP:
        return SamplerChoice(
            "tpe", f"gp is slow with more than {MAX_TRIALS_OF_GP} trials, and here are {trials + known}"
        )
    if (name := too_many_values(space)) is not None:
        return SamplerChoice("tpe", f"gp has all values of {name} in memory, and they are {num_values(space[name]):,}")
    proposals = seconds_of_gp(space, trials, known)
    of_gp = f"a proposal of gp {duration_text(proposals / trials)}"
    if seconds is None:
        return SamplerChoice("tpe", f"nothing says how long a trial takes; {of_gp}")
    told = f"a trial takes {duration_text(seconds)}, {of_gp}"
    if seconds * trials < proposals:
        return SamplerChoice("tpe", told)
    return SamplerChoice("gp", f"it finds most in few trials: {told}")


def too_many_values(space: Mapping[str, Range]) -> str | None:
    """The first hyperparameter that has more values than a Gaussian process can have in memory, if any. Pure."""
    return next((name for name, range_ in space.items() if MOST_VALUES_OF_GP < num_values(range_) < math.inf), None)


def partial_params(observations: Sequence[Observation]) -> set[str]:
    """Those that some trials with a value had, and others had not. Pure."""
    named = [set(seen.params) for seen in observations if seen.value is not None]
    return set().union(*named) - set(named[0]).intersection(*named) if named else set()


def seconds_of_gp(space: Mapping[str, Range], trials: int, known: int) -> float:
    """What the proposals of a stage take about, by what one core of an EPYC took, to the next half. Pure."""
    kinds = [type(range_) for range_ in space.values() if not isinstance(range_, Choice) or len(range_.values) > 1]
    steps = GP_STEPS if Choice in kinds and IntRange in kinds else 0.0
    return GP_BEGINS + trials * (GP_PROPOSES + steps + GP_LEARNS * (known + trials / 2))


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
    return _usual([(b - a).total_seconds() for a, b in pairwise(points)]) * longer


def seconds_at_rungs(trials: Sequence[TrialRow], epochs: int) -> float | None:
    """What a trial of so many epochs will take, by those of a stage with rungs; None where too few say it. Pure.

    Of these few are trained to the end, and many end at once: what an epoch took is that of them all together. The
    longest gap between two ends does not count, as it may be a pause between two calls of the search.
    """
    begins = [trial.started for trial in trials if trial.started is not None and trial.completed is not None]
    ends = sorted(trial.completed for trial in trials if trial.completed is not None)
    trained = sum(len(trial.intermediate) for trial in trials if trial.completed is not None)
    if len(ends) < MIN_TIMED or not begins or not trained:
        return None
    gaps = [(b - a).total_seconds() for a, b in pairwise([min(begins), *ends])]
    return (sum(gaps) - max(gaps)) / trained * epochs


def seconds_of_call(trials: Sequence[TrialRow], longer: float) -> float | None:
    """The same of trials of which a worker has one at a time: what one takes, however many workers there are. Pure.

    Args: as of `seconds_per_trial`.
    """
    took = [
        (trial.completed - trial.started).total_seconds()
        for trial in trials
        if trial.completed is not None and trial.started is not None and trial.state == "COMPLETE"
    ]
    return _usual(took) * longer if len(took) >= MIN_TIMED else None


def _usual(seconds: Sequence[float]) -> float:
    kept = sorted(seconds)[: max(1, len(seconds) - len(seconds) // 10)]
    return sum(kept) / len(kept)
