"""What a trial's curves say and what to try next, as someone says who looks at them (CS231n, "babysitting").

Pure; what is read off the curves is in `trial_curves`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from hpsearch.analysis.few_images import few_images_text
from hpsearch.analysis.inside import dead_finding, dead_note
from hpsearch.analysis.records import stage_record
from hpsearch.analysis.study_trials import best_trial, direction_of
from hpsearch.analysis.trial_curves import BARELY, FAR, HEALTHY_RATIO, Curves
from hpsearch.analysis.trial_records import trial_record
from hpsearch.config.losses import known_loss
from hpsearch.config.metric import ACCURACY, Metric
from hpsearch.results import EpochResult
from hpsearch.storage import StudyRow, TrialRow
from hpsearch.wording import count_text

VerdictName = Literal["exploded", "dead", "lr too high", "lr too low", "overfitting", "underfitting", "healthy"]
Cause = Literal["penalty", "short steps", "few epochs", "long steps"]
VERDICTS: tuple[VerdictName, ...] = get_args(VerdictName)

GAP = 0.1  # train minus validation accuracy; several times the standard error of a few hundred images
LOW_IN_STUDY = 0.8  # of the way from guessing to the study's best: below is low
LOW = 0.5  # of the way from guessing to perfect, on training images: below is low whatever the others reached


@dataclass(frozen=True)
class Diagnosis:
    """A verdict, what to try next (naming the keys of the study file), and what else is worth a look."""

    verdict: VerdictName
    advice: str
    notes: tuple[str, ...]
    train_acc: float | None = None
    """On training images, at the end; smoothed."""
    still_rises: bool = False
    """Whether what counts was still getting better at the end."""
    cause: Cause | None = None
    """What of the values held back a trial that underfits, if it was one of them."""
    but_for: str | None = None
    """What else is wrong with a healthy trial: `12 dead units`."""

    @property
    def said(self) -> str:
        """The verdict, `healthy but for 12 dead units`."""
        return self.verdict if self.but_for is None else f"{self.verdict} but for {self.but_for}"

    def as_dict(self) -> dict[str, Any]:
        """The words as JSON."""
        but_for = {"but_for": self.but_for} if self.but_for is not None else {}
        return {"verdict": self.verdict, **but_for, "advice": self.advice, "notes": list(self.notes)}


def diagnose(
    epochs: Sequence[EpochResult],
    *,
    exploded: bool,
    num_classes: int,
    best_val_acc: float | None = None,
    chance: float | None = None,
    metric: Metric = ACCURACY,
) -> Diagnosis:
    """Judge one trial by its curves.

    Args:
        epochs: in order; at least one, unless the trial exploded.
        exploded: its cost ran away.
        num_classes: tells what guessing gives.
        best_val_acc: the best of the study, to tell low from high.
        chance: share of the most frequent class among the validation images, where that is known.
        metric: what counts: it says which epoch was the best, and whether the trial was still getting better. All else
            is judged by accuracy and loss.
    """
    if exploded:
        return Diagnosis("exploded", EXPLODED_ADVICE, ())
    assert epochs, "a trial without epochs shows nothing to judge"
    curves = Curves(epochs, num_classes, chance, metric)
    verdict = _verdict(curves, best_val_acc)
    advice = _underfitting_advice(curves) if verdict == "underfitting" else ADVICE[verdict]
    if verdict == "dead" and curves.penalized:
        advice += "; less regularization as well (lower train.reg, train.l1)"
    cause = _cause(curves) if verdict == "underfitting" else None
    return Diagnosis(verdict, advice, _notes(curves), curves.train_acc[-1], curves.still_rises, cause)


def with_dead_units(diagnosis: Diagnosis, shares: Mapping[str, Sequence[float]]) -> Diagnosis:
    """The same, where the net has dead units: of a healthy trial in the verdict itself, of others in a note.

    Args:
        diagnosis: of the curves.
        shares: by layer, the share of images for which each unit is 0.
    """
    found = dead_finding(shares)
    if found is None:
        return diagnosis
    if diagnosis.verdict != "healthy":
        return replace(diagnosis, notes=(*diagnosis.notes, str(dead_note(shares))))
    number = sum(share >= 1 for units in shares.values() for share in units)
    return replace(
        diagnosis,
        but_for=count_text(number, "dead unit"),
        advice=found.advice or f"{diagnosis.advice}: nets learn well with so few dead units",
        notes=(*diagnosis.notes, f"dead units: {found.text}"),
    )


def _verdict(curves: Curves, best_val_acc: float | None) -> VerdictName:
    if curves.says_the_same and not curves.crushed:
        return "dead"
    if curves.overshot and not curves.crushed:
        return "lr too high"
    if curves.learned_nothing and curves.steps_were_short:
        return "lr too low"
    if curves.gap > GAP and (curves.gap_is_material or curves.val_loss_stalled):
        return "overfitting"
    low_in_study = best_val_acc is not None and curves.below(curves.best_val_acc, LOW_IN_STUDY, best_val_acc)
    if curves.below(curves.train_acc[-1], LOW, 1.0) or (low_in_study and curves.gap <= GAP):
        return "underfitting"
    return "healthy"


def diagnose_study(
    study: StudyRow, trials: Sequence[TrialRow], epochs: Mapping[int, Sequence[EpochResult]]
) -> dict[int, Diagnosis]:
    """As `diagnose_trials`, with what the study keeps of its images: one verdict per trial, whoever asks.

    `trials` may be some of the study's, if its best one is among them.
    """
    record = stage_record(study)
    if record.images.num_classes is None:
        return {}
    metric = record.metric(direction_of(study))
    found = diagnose_trials(trials, epochs, record.images.num_classes, record.images.largest_share, metric)
    for trial in trials:
        few = few_images_text(record.config, record.images.num_train, trial.params)
        if few is not None and trial.number in found and found[trial.number].verdict == "exploded":
            found[trial.number] = Diagnosis("exploded", f"{EXPLODED_ADVICE}; but {few}", ())
    return found


def diagnose_trials(
    trials: Sequence[TrialRow],
    epochs: Mapping[int, Sequence[EpochResult]],
    num_classes: int | None,
    chance: float | None = None,
    metric: Metric = ACCURACY,
) -> dict[int, Diagnosis]:
    """The diagnosis of each trial, by number, whose curves or whose explosion say something.

    Trials that wait, that failed, or that hpsearch did not train (then `num_classes` is None) have none.
    """
    if num_classes is None:
        return {}
    best = best_trial(trials, metric.direction)
    found = {}
    for trial in trials:
        exploded = trial_record(trial).exploded
        seen = epochs.get(trial.number, ())
        if trial.state in ("COMPLETE", "PRUNED", "RUNNING") and (exploded or seen):
            found[trial.number] = diagnose(
                seen,
                exploded=exploded,
                num_classes=num_classes,
                best_val_acc=_accuracy_of(best, metric) if best else None,
                chance=chance,
                metric=replace(metric, loss=known_loss(trial.params.get("train.loss", metric.loss))),
            )
    return found


def _accuracy_of(trial: TrialRow, metric: Metric) -> float | None:
    """Of its best epoch, as it is kept with the trial."""
    return trial.value if metric.is_accuracy else trial_record(trial).best_acc


def _still(curves: Curves) -> str:
    """`accuracy still rises`."""
    return "accuracy still rises" if curves.metric.is_accuracy else f"{curves.metric.column} still gets better"


def _notes(curves: Curves) -> tuple[str, ...]:
    notes = []
    ratio = curves.update_ratio
    if ratio > FAR * HEALTHY_RATIO:
        notes.append(f"update ratio {ratio:.1e}, far above the usual 1e-3: long steps")
    elif ratio < HEALTHY_RATIO / FAR:
        notes.append(f"update ratio {ratio:.1e}, far below the usual 1e-3: short steps")
    if curves.leads_by_little:
        notes.append(
            f"accuracy is {curves.train_acc[-1]:.2f}, though the loss, {curves.train_loss[-1]:.3f}, is about that of "
            f"guessing, {curves.guessing:.3f}: the scores are nearly alike still, and a little more for the true class "
            "makes it the largest; steps that are long enough move the loss as well"
        )
    if curves.learned_nothing:  # the rest would be read off noise
        return tuple(notes)
    if (epoch := curves.jumped) is not None:
        notes.append(f"the train loss jumped in epoch {epoch}: lr is about as high as this net can take")
    if curves.still_rises:
        notes.append(f"{_still(curves)} at the end: train longer (epochs)")
    elif curves.peaked:
        num_epochs = len(curves.val_acc)
        notes.append(f"best at epoch {curves.best_epoch} of {num_epochs}, worse since: fewer epochs, or a lower lr")
    if curves.gap > GAP:
        notes.append(f"train accuracy is {curves.gap:.2f} above validation accuracy")
        if curves.below(curves.best_val_acc, BARELY, 1.0):
            notes.append("it learns its images by heart and is no better than a guess on others: look at the labels")
    return tuple(notes)


EXPLODED_ADVICE = (
    "lower lr: the cost ran away. Where lr x train.reg is above 1, lower train.reg: the penalty alone makes the"
    " weights swing apart"
)
ADVICE: dict[VerdictName, str] = {
    "dead": "lower lr, 10 times say, or another model.init: the net gives the same answer for every image",
    "lr too high": "lower lr, 3 to 10 times: the steps overshoot, and the loss ends no better than a guess",
    "lr too low": "raise lr, 10 times say: the loss barely moves, and the updates are small against the weights",
    "overfitting": "more regularization: raise train.reg or model.dropout, add data.augment; else less capacity"
    " (model.hidden, model.channels), fewer epochs, or more images",
    "healthy": "nothing to change in this trial",
}


def _cause(curves: Curves) -> Cause | None:
    if curves.penalized and (curves.learned_nothing or not curves.train_loss_falls):
        return "penalty"
    if curves.update_ratio < HEALTHY_RATIO:
        return "short steps"
    if curves.barely_begun:
        return "few epochs"
    return "long steps" if curves.update_ratio > FAR * HEALTHY_RATIO and not curves.still_rises else None


def _underfitting_advice(curves: Curves) -> str:
    """What the curves point to comes first, then the rest of the list."""
    first, then = [], ["more capacity (model.hidden, model.channels, another model.name)"]
    if curves.penalized and (curves.learned_nothing or not curves.train_loss_falls):
        first.append("less regularization, it makes up most of the cost (lower train.reg, train.l1)")
    else:
        then.append("less regularization (train.reg, model.dropout, data.augment)")
        if curves.update_ratio < HEALTHY_RATIO:
            first.append("a higher lr, the steps are short")
        if curves.barely_begun:
            seen = count_text(len(curves.epochs), "epoch")
            first.append(
                f"train longer, {seen} cannot tell steps that are too long from a net that has just begun (epochs)"
            )
        elif curves.still_rises:
            first.append(f"train longer, {_still(curves)} (epochs)")
        elif curves.train_loss_falls and not curves.learned_nothing:
            first.append("train longer, the loss still falls (epochs)")
        if curves.update_ratio > FAR * HEALTHY_RATIO and not curves.barely_begun:
            first.append("a lower lr, the steps are too long to settle")
    if not any("epochs" in part for part in first):
        then.append("longer training (epochs)")
    return "; then ".join(part for part in ("; ".join(first), "; ".join(then)) if part)
