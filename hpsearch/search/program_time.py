"""How long a trial of an [objective] takes, and how many of them fit a time.

A stage after another one goes by what its trials took. Before the first one the code is called: once, or, where that
is quick, a few times. Of code that reports, two epochs are enough.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpsearch.analysis.study_trials import StudyTrials, read_study
from hpsearch.config import Choice
from hpsearch.config.schema import ObjectiveConfig
from hpsearch.errors import HpsearchError
from hpsearch.programs.messages import Broken, Ended, Left, Pruned, Reported, Suggest, Suggested, Task
from hpsearch.programs.program import Program
from hpsearch.search.listener import SearchListener
from hpsearch.space import draw_random, range_from_json
from hpsearch.space.scale import choice_index
from hpsearch.stages.drawn import drawn_params
from hpsearch.stages.plan import StagePlan
from hpsearch.stages.time_budget import fit_to_time
from hpsearch.storage import Database, StudyNotFoundError
from hpsearch.wording import duration_text

OVERHEAD = 0.02  # seconds of a trial that are the queue's and the database's
QUICK = 1.0  # seconds; calls are repeated until they have taken so long together
MAX_CALLS = 3
END_SECONDS = 5.0  # for a call that was told to end


@dataclass(frozen=True, slots=True)
class Calls:
    """The code, to be timed: what it is, the process that runs it, and where."""

    objective: ObjectiveConfig
    program: Program
    device: str


def fitted(
    db: Database | None, plan: StagePlan, calls: Calls, num_workers: int, until: float, listener: SearchListener
) -> StagePlan:
    """The plan with as many trials as fit, and as many epochs where its trials have any.

    Args:
        db: where the trials are that gave its ranges, if some did.
        plan: as asked for.
        calls: the code.
        num_workers: that will call it.
        until: on `time.monotonic`'s clock.
        listener: hears that the code is called, and what came of it.
    """
    has_epochs = "epochs" in calls.program.takes
    each = _seconds_before(db, plan, has_epochs)
    if each is None:
        listener.checking("how long a call takes")
        each = call_seconds(plan, calls, until)
        if each is None:  # it fails, which the search will say better
            return plan
        listener.note(f"a call of {calls.objective.name} takes about {duration_text(each)}")
    estimate = (each + OVERHEAD) * math.ceil(plan.num_trials / num_workers)
    return fit_to_time(plan, estimate, until - time.monotonic(), has_epochs=has_epochs)


def _seconds_before(db: Database | None, plan: StagePlan, has_epochs: bool) -> float | None:
    """Of a trial of this plan, by those of the stage that it follows."""
    if db is None or plan.source is None:
        return None
    try:
        evidence = read_study(db, plan.source)
    except StudyNotFoundError:
        return None
    seconds = trial_seconds(evidence)
    epochs = evidence.record.num_epochs
    return seconds * plan.settings.epochs / epochs if seconds is not None and has_epochs and epochs else seconds


def trial_seconds(evidence: StudyTrials) -> float | None:
    """The mean over trials that have ended, however they did; None without any."""
    times = [(t.completed - t.started).total_seconds() for t in evidence.trials if t.started and t.completed]
    return sum(times) / len(times) if times else None


def call_seconds(plan: StagePlan, calls: Calls, until: float) -> float | None:
    """The same, by calling the code with values of the stage's; None where every call fails."""
    settings = plan.settings.model_copy(update={"sampler": "random", "trials": max(MAX_CALLS, plan.settings.trials)})
    drawn = drawn_params(plan.config.space, settings, plan.conditions)
    times: list[float] = []
    for number, params in enumerate(drawn[:MAX_CALLS]):
        if (seconds := _time_call(plan, calls, number, params or {}, until)) is not None:
            times.append(seconds)
        if sum(times) > QUICK or time.monotonic() > until:
            break
    return min(times) if times else None  # the first one may have had to read or compile something


def _time_call(plan: StagePlan, calls: Calls, number: int, params: Mapping[str, Any], until: float) -> float | None:
    """Seconds of a whole call; as far as it got where the time is up."""
    epochs = plan.settings.epochs
    with tempfile.TemporaryDirectory(prefix="hpsearch-timing-") as folder:
        begun = time.monotonic()
        calls.program.begin(
            Task(
                number=number,
                params={**calls.objective.params, **params},
                epochs=epochs,
                seed=calls.objective.seed,
                device=calls.device,
                checkpoint=folder,
                output=str(Path(folder) / "output.txt"),
            )
        )
        reported: list[float] = []
        while time.monotonic() < until:
            match calls.program.next(max(0.0, until - time.monotonic())):
                case Reported():
                    reported.append(time.monotonic() - begun)
                    if len(reported) == 2 < epochs and "epochs" in calls.program.takes:
                        _end(calls.program)
                        return reported[0] + (epochs - 1) * (reported[1] - reported[0])
                    calls.program.answer()
                case Suggest() as call:
                    calls.program.suggest(_drawn(call, number))
                case Ended() | Pruned():
                    return time.monotonic() - begun
                case Broken() | Left():
                    return None
        calls.program.end()
        return time.monotonic() - begun


def _drawn(call: Suggest, seed: int) -> Suggested:
    """For an Optuna objective, which says its ranges as it runs."""
    try:
        range_ = range_from_json(call.distribution)
    except HpsearchError as error:
        return Suggested(wrong=str(error))
    value = draw_random({call.name: range_}, 1, seed)[0][call.name]
    return Suggested(choice_index(range_, value) if isinstance(range_, Choice) else value)


def _end(program: Program) -> None:
    """Have it leave the call, so that its process can be used again; else that ends, too."""
    program.answer("timed")
    until = time.monotonic() + END_SECONDS
    while (left := until - time.monotonic()) > 0:
        event = program.next(left)
        if isinstance(event, Ended | Broken | Left | Pruned):
            return
        if isinstance(event, Reported | Suggest):
            break
    program.end()
