"""The command center: the curves of all trials side by side, as data for the page's own small multiples."""

from __future__ import annotations

import math
from typing import Any

from hpsearch.analysis.called_again import repeats_trial
from hpsearch.analysis.study_trials import params_text
from hpsearch.report.stage import StageData
from hpsearch.storage import TrialRow, is_paused
from hpsearch.wording import value_text

VERDICT_ORDER = (
    "healthy",
    "finished",
    "overfitting",
    "underfitting",
    "lr too low",
    "lr too high",
    "dead",
    "exploded",
    "pruned",
    "waiting at a rung",
    "running",
    "failed",
)


def center_data(stage: StageData) -> dict[str, Any]:
    """Plain data, compact: accuracies in thousandths, losses with three digits.

    Per trial: number, value, lr, verdict (index), lines of text, and its curves: `acc` (train, val) and `loss`
    (train, val), `score` (None, value) where another metric counts, or
    `val` (None, value) for a study that was not watched epoch by epoch.
    """
    trials = [_trial(stage, trial) for trial in stage.trials if trial.state != "WAITING"]
    values = [t["curves"]["val"][1] for t in trials if "val" in t["curves"]]
    flat = [value for curve in values for value in curve if value is not None]
    return {
        "trials": trials,
        "verdicts": VERDICT_ORDER,
        "best": stage.best.number if stage.best else None,
        "maximize": stage.maximize,
        "classes": stage.record.images.num_classes,
        "accuracies": _accuracies(trials),
        "span": [min(flat), max(flat)] if flat else None,
        "scores": _span([t["curves"]["score"][1] for t in trials if "score" in t["curves"]]),
        "valueName": stage.summary.value_name,
        "hasCurves": any(trial["curves"] for trial in trials),
        "hasLr": any(trial["lr"] is not None for trial in trials),
    }


def _accuracies(trials: list[dict[str, Any]]) -> tuple[int, int] | None:
    """The span of accuracies on show, in thousandths: all but the lowest 2%, which would flatten the others."""
    seen = sorted(a for t in trials for curve in t["curves"].get("acc", ()) for a in curve if a is not None)
    return (seen[len(seen) // 50], seen[-1]) if seen and seen[len(seen) // 50] < seen[-1] else None


def _span(curves: list[list[float | None]]) -> tuple[float, float] | None:
    """Of what is apart from accuracy and loss."""
    seen = [value for curve in curves for value in curve if value is not None]
    return (min(seen), max(seen)) if seen else None


def _trial(stage: StageData, trial: TrialRow) -> dict[str, Any]:
    diagnosis = stage.diagnoses.get(trial.number)
    verdict = verdict_of(stage, trial)
    lines = [params_text(trial, " · ")]
    if (of := repeats_trial(trial)) is not None:
        lines.append(f"it calls trial {of} again")
    if diagnosis:
        lines += [diagnosis.advice, *diagnosis.notes]
    epochs = stage.epochs.get(trial.number, [])
    lr = trial.params.get("lr", max((epoch.lr for epoch in epochs), default=None))
    curves: dict[str, Any] = {}
    if epochs:
        curves["acc"] = [_thousandths([e.train_acc for e in epochs]), _thousandths([e.val_acc for e in epochs])]
        curves["loss"] = [_three_digits([e.train_loss for e in epochs]), _three_digits([e.val_loss for e in epochs])]
        if stage.summary.metric.is_apart:
            curves["score"] = [None, _three_digits([e.val_score for e in epochs], digits=4)]
    elif trial.intermediate:
        curves["val"] = [None, _three_digits(list(trial.intermediate.values()), digits=5)]
    value = trial.value if trial.value is not None and math.isfinite(trial.value) and verdict != "exploded" else None
    return {
        "n": trial.number,
        "value": value,
        "text": value_text(value),
        "lr": lr,
        "verdict": VERDICT_ORDER.index(verdict),
        "lines": lines,
        "curves": curves,
    }


def verdict_of(stage: StageData, trial: TrialRow) -> str:
    """One word per trial: the verdict on its curves, or how it ended where there is none."""
    if trial.state == "FAIL":
        return "failed"
    if is_paused(trial.state, trial.attrs):
        return "waiting at a rung"
    if trial.state == "RUNNING":
        return "running"
    if (diagnosis := stage.diagnoses.get(trial.number)) is not None:
        return diagnosis.verdict
    if repeats_trial(trial) is not None:
        return "finished" if trial.state == "COMPLETE" else "pruned"
    return {"complete": "finished"}.get(stage.outcomes[trial.number], stage.outcomes[trial.number])


def _thousandths(values: list[float]) -> list[int | None]:
    return [round(1000 * value) if math.isfinite(value) else None for value in values]


def _three_digits(values: list[float], digits: int = 3) -> list[float | None]:
    return [float(f"{value:.{digits}g}") if math.isfinite(value) else None for value in values]
