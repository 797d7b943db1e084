"""Stages with rungs at which no trial is asked, since the code reports no step from the first rung on to the end. Pure.

Code that counts its iterations reports at steps 100, 200, ...; with rungs below `epochs` = 9 nothing is ever halved.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from hpsearch.analysis.called_again import repeats_trial
from hpsearch.analysis.records import StageRecord
from hpsearch.analysis.study_trials import StudyTrials
from hpsearch.wording import count_text


def missed_rungs(record: StageRecord, steps: Iterable[Collection[int]]) -> str | None:
    """What is wrong, with the keys to change, in one sentence or two; None where trials are asked, or report nothing.

    Args:
        record: of the stage.
        steps: of each trial that came to its end, those at which it reported.
    """
    stage = record.kind or ""
    halving, epochs = record.config_value(stage, "halving"), record.config_value(stage, "epochs")
    if record.config_value("objective") is None or halving in (None, "none") or not isinstance(epochs, int):
        return None  # our own trainings report each epoch
    first = int(record.config_value(stage, "min_epochs") or 1)
    reported = {step for each in steps for step in each}
    if not reported or any(first <= step < epochs for step in reported):
        return None
    words, last_rung = record.step_name, epochs - 1
    window = f"from {first} to {last_rung}" if last_rung > first else f"at {first}"
    said = f"the code reports at {_some(sorted(reported), words)}, and at none {window}: {stage}.halving ends no trial"
    return f"{said}. {_remedy(stage, sorted(reported), epochs, is_told=record.has_epochs)}"


def missed_rungs_of(evidence: StudyTrials) -> str | None:
    """The same of all trials of a stage so far; those that call another one again are asked at no rung."""
    complete = [trial for trial in evidence.trials if trial.state == "COMPLETE" and repeats_trial(trial) is None]
    return missed_rungs(evidence.record, [trial.intermediate for trial in complete])


def _some(steps: list[int], word: str) -> str:
    """`steps 100, 200, ..., 900`."""
    shown = [*map(str, steps)] if len(steps) <= 4 else [str(steps[0]), str(steps[1]), "...", str(steps[-1])]
    return f"{word}{'s' if len(steps) > 1 else ''} {', '.join(shown)}"


def _remedy(stage: str, steps: list[int], epochs: int, *, is_told: bool) -> str:
    if is_told:
        return f"Report epochs from 1 to {stage}.epochs, which the code is told: {epochs}"
    counted = [step for step in steps if step > 0]
    if len(counted) < 2:
        return f"Report more than {count_text(len(steps), 'step')}, or set {stage}.halving = 'none'"
    return f"Set {stage}.epochs = {counted[-1]}, the last step, and {stage}.min_epochs = {counted[0]}, the first"
