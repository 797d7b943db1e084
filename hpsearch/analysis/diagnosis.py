"""What a trial's curves say and what to try next, as someone says who looks at them (CS231n, "babysitting").

Pure. The validation curve is noisy, so each curve is read as the mean over a few epochs (`smoothed`), never by single
epochs; accuracies are told apart only by amounts that a few hundred validation images can show.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Literal, get_args

from hpsearch.analysis import attributes
from hpsearch.analysis.study_trials import best_trial
from hpsearch.results import EpochResult
from hpsearch.storage import TrialRow

VerdictName = Literal["exploded", "lr too low", "overfitting", "underfitting", "healthy"]
VERDICTS: tuple[VerdictName, ...] = get_args(VerdictName)

SMOOTHING = 0.2  # share of the epochs in one mean, at most 5 of them: follows the curve, evens out its jumps
BARELY = 0.1  # of the way from guessing (loss ln C, accuracy 1/C) to perfect: less is no learning
HEALTHY_RATIO = 1e-3  # |update| / |weights| (CS231n)
FAR = 10.0  # times more or less than that is noted
SHRUNK = 0.5  # of the cost gone without learning: the steps were long enough, to make weights small
GAP = 0.1  # train minus validation accuracy; several times the standard error of a few hundred images
FLAT = 0.02  # of its lowest value: the validation loss has stopped falling there
STILL_FALLS = 0.1  # of its value then: the train loss goes on falling
LOW_IN_STUDY = 0.8  # of the way from guessing to the study's best: below is low
LOW = 0.5  # of the way from guessing to perfect, on training images: below is low whatever the others reached
PENALTY = 2.0  # times the data loss: a cost above is made by regularization rather than by the images
CHANGE = 0.01  # accuracy; smaller differences between means are noise
LONG_BEFORE = 1 / 3  # of the epochs between the best one and the last


@dataclass(frozen=True)
class Diagnosis:
    """A verdict, what to try next (naming the keys of the study file), and what else is worth a look."""

    verdict: VerdictName
    advice: str
    notes: tuple[str, ...]


def diagnose(
    epochs: Sequence[EpochResult], *, exploded: bool, num_classes: int, best_val_acc: float | None = None
) -> Diagnosis:
    """Judge one trial by its curves.

    Args:
        epochs: in order; at least one, unless the trial exploded.
        exploded: its cost ran away.
        num_classes: tells what guessing gives.
        best_val_acc: the best of the study, to tell low from high.
    """
    if exploded:
        return Diagnosis("exploded", EXPLODED_ADVICE, ())
    assert epochs, "a trial without epochs shows nothing to judge"
    curves = _Curves(epochs, num_classes)
    notes = _notes(curves)
    if curves.learned_nothing and curves.steps_were_short:
        return Diagnosis("lr too low", LR_TOO_LOW_ADVICE, notes)
    if curves.gap > GAP and curves.val_loss_stalled:
        return Diagnosis("overfitting", OVERFITTING_ADVICE, notes)
    low_in_study = best_val_acc is not None and curves.below(curves.best_val_acc, LOW_IN_STUDY, best_val_acc)
    if curves.below(curves.train_acc[-1], LOW, 1.0) or (low_in_study and curves.gap <= GAP):
        return Diagnosis("underfitting", _underfitting_advice(curves), notes)
    return Diagnosis("healthy", "nothing to change in this trial", notes)


def diagnose_trials(
    trials: Sequence[TrialRow], epochs: Mapping[int, Sequence[EpochResult]], num_classes: int | None
) -> dict[int, Diagnosis]:
    """The diagnosis of each trial, by number, whose curves or whose explosion say something.

    Trials that wait, that failed, or that hpsearch did not train (then `num_classes` is None) have none.
    """
    if num_classes is None:
        return {}
    best = best_trial(trials, "maximize")
    found = {}
    for trial in trials:
        exploded = trial.attrs.get(attributes.REASON) == attributes.EXPLODED
        seen = epochs.get(trial.number, ())
        if trial.state in ("COMPLETE", "PRUNED", "RUNNING") and (exploded or seen):
            found[trial.number] = diagnose(
                seen, exploded=exploded, num_classes=num_classes, best_val_acc=best.value if best else None
            )
    return found


def smoothed(values: Sequence[float]) -> list[float]:
    """The mean of each value and the few before it: SMOOTHING of them, at most 5."""
    width = min(5, max(1, round(SMOOTHING * len(values))))
    return [fmean(values[max(0, end - width) : end]) for end in range(1, len(values) + 1)]


class _Curves:
    """A trial's curves, smoothed, and what can be read off them."""

    def __init__(self, epochs: Sequence[EpochResult], num_classes: int) -> None:
        self.cost = smoothed([epoch.cost for epoch in epochs])
        self.train_loss = smoothed([epoch.train_loss for epoch in epochs])
        self.val_loss = smoothed([epoch.val_loss for epoch in epochs])
        self.train_acc = smoothed([epoch.train_acc for epoch in epochs])
        self.val_acc = smoothed([epoch.val_acc for epoch in epochs])
        self.update_ratios = [epoch.update_ratio for epoch in epochs if math.isfinite(epoch.update_ratio)] or [math.nan]
        top = max(epochs, key=lambda epoch: epoch.val_acc)  # as the study's best is counted
        self.best_val_acc, self.best_epoch = top.val_acc, top.epoch
        self.chance = 1 / num_classes
        self.guessing = math.log(num_classes)  # the loss of a net that knows nothing, nats

    def below(self, accuracy: float, share: float, top: float) -> bool:
        """Whether an accuracy is less than this share of the way from guessing to `top`."""
        return accuracy < self.chance + share * (top - self.chance)

    @property
    def learned_nothing(self) -> bool:
        """The loss on training images is about that of guessing or worse, their accuracy is, or is where it began."""
        gained = self.train_acc[-1] - self.train_acc[0]
        unmoved = self.below(self.train_acc[-1], BARELY, 1.0) or gained < BARELY * (1 - self.chance)
        return unmoved and self.train_loss[-1] > (1 - BARELY) * self.guessing

    @property
    def steps_were_short(self) -> bool:
        """No step was as long as healthy ones are, and the weights are about where they began.

        So it was not capacity or regularization that held the net back: these show with long steps as well.
        """
        return not max(self.update_ratios) >= HEALTHY_RATIO and self.cost[-1] > SHRUNK * self.cost[0]

    @property
    def update_ratio(self) -> float:
        """The one in the middle: it changes from step to step, and falls with lr."""
        return median(self.update_ratios)

    @property
    def gap(self) -> float:
        return self.train_acc[-1] - self.val_acc[-1]

    @property
    def val_loss_stalled(self) -> bool:
        """The validation loss rises or is flat while the train loss falls."""
        lowest = min(self.val_loss)
        since = next(index for index, loss in enumerate(self.val_loss) if loss <= (1 + FLAT) * lowest)
        return self.train_loss[-1] < (1 - STILL_FALLS) * self.train_loss[since]

    @property
    def penalized(self) -> bool:
        """Regularization made up most of the cost, at the start or at the end."""
        first = max(self.train_loss[0], self.guessing)  # a fast trial's first cost is far above its loss an epoch later
        return self.cost[0] > PENALTY * first or self.cost[-1] > PENALTY * self.train_loss[-1]

    @property
    def train_loss_falls(self) -> bool:
        """The train loss was still going down over the last fifth of the epochs."""
        return self.train_loss[-1] < (1 - FLAT) * self.train_loss[-1 - self._last_fifth]

    @property
    def _last_fifth(self) -> int:
        return min(len(self.val_acc) - 1, max(1, round(SMOOTHING * len(self.val_acc))))

    @property
    def still_rises(self) -> bool:
        """The validation accuracy was still growing over the last fifth of the epochs, and its loss falling."""
        before = -1 - self._last_fifth
        return self.val_acc[-1] - self.val_acc[before] > CHANGE and self.val_loss[-1] < self.val_loss[before]

    @property
    def peaked(self) -> bool:
        """The best epoch was long before the last, in accuracy and in loss, which a single image does not sway."""
        num_epochs = len(self.val_acc)
        best = max(range(num_epochs), key=self.val_acc.__getitem__)
        fell = self.val_acc[best] - self.val_acc[-1] > CHANGE and self.val_loss[best] < self.val_loss[-1]
        return fell and num_epochs - 1 - best > LONG_BEFORE * num_epochs


def _notes(curves: _Curves) -> tuple[str, ...]:
    notes = []
    ratio = curves.update_ratio
    if ratio > FAR * HEALTHY_RATIO:
        notes.append(f"update ratio {ratio:.1e}, far above the usual 1e-3: long steps")
    elif ratio < HEALTHY_RATIO / FAR:
        notes.append(f"update ratio {ratio:.1e}, far below the usual 1e-3: short steps")
    if curves.learned_nothing:  # the rest would be read off noise
        return tuple(notes)
    if curves.still_rises:
        notes.append("accuracy still rises at the end: train longer (epochs)")
    elif curves.peaked:
        num_epochs = len(curves.val_acc)
        notes.append(f"best at epoch {curves.best_epoch} of {num_epochs}, worse since: fewer epochs, or a lower lr")
    if curves.gap > GAP:
        notes.append(f"train accuracy is {curves.gap:.2f} above validation accuracy")
    return tuple(notes)


EXPLODED_ADVICE = (
    "lower lr: the cost ran away. Where lr x train.reg is above 1, lower train.reg: the penalty alone makes the"
    " weights swing apart"
)
LR_TOO_LOW_ADVICE = "raise lr, 10 times say: the loss barely moves, and the updates are small against the weights"
OVERFITTING_ADVICE = (
    "more regularization: raise train.reg or model.dropout, add data.augment; else less capacity (model.hidden,"
    " model.channels), fewer epochs, or more images"
)


def _underfitting_advice(curves: _Curves) -> str:
    """What the curves point to comes first, then the rest of the list."""
    first, then = [], ["more capacity (model.hidden, model.channels, another model.name)"]
    if curves.penalized and (curves.learned_nothing or not curves.train_loss_falls):
        first.append("less regularization, it makes up most of the cost (lower train.reg, train.l1)")
    else:
        then.append("less regularization (train.reg, model.dropout, data.augment)")
        if curves.still_rises:
            first.append("train longer, accuracy still rises (epochs)")
        if curves.update_ratio < HEALTHY_RATIO:
            first.append("a higher lr, the steps are short")
        elif curves.update_ratio > FAR * HEALTHY_RATIO:
            first.append("a lower lr, the steps are too long to settle")
    if not curves.still_rises:
        then.append("longer training (epochs)")
    return "; then ".join(part for part in ("; ".join(first), "; ".join(then)) if part)
