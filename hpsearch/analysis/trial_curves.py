"""What can be read off a trial's curves: whether it learned, how long its steps were, where it stands in the end.

Pure. The validation curve is noisy, so each curve is read as the mean over a few epochs (`smoothed`), never by single
epochs; accuracies are told apart only by amounts that a few hundred validation images can show.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean, median

from hpsearch.config.losses import guessing_loss
from hpsearch.config.metric import ACCURACY, Metric
from hpsearch.results import EpochResult, best_epoch

SMOOTHING = 0.2  # share of the epochs in one mean, at most 5 of them: follows the curve, evens out its jumps
BARELY = 0.1  # of the way from guessing (as a loss ln C, accuracy 1/C) to perfect: less is no learning
HEALTHY_RATIO = 1e-3  # |update| / |weights| (CS231n)
FAR = 10.0  # times more or less than that is noted
FAR_TOO_LONG = 3e-2  # of the weights in one step: small first weights may begin with 1e-2 and learn all the same
SHRUNK = 0.5  # of the cost gone without learning: the steps were long enough, to make weights small
WORSE = 1.02  # times the loss of guessing: above, the net is sure of what is wrong, as after steps that overshoot
LEADS = 0.05  # of the way from the most frequent class to perfect: an accuracy above is no chance any more
SMALL_LOSS = 0.1  # nats; below, a loss may double without anything being wrong
JUMP = 1.3  # times the train loss of the epoch before: steps that were too long for where the net was
SAME_ANSWER = 2  # epochs without a single answer changed, at the accuracy of guessing
FLAT_LOSS = 0.005  # of the loss of guessing: it no longer changes
FADED = 1e-3  # of the longest step: what momentum still makes of gradients that have been 0 for some 70 steps
MATERIAL = 0.2  # of what validation gained over guessing: a gap beyond is overfitting, whatever the losses do
FLAT = 0.02  # of its lowest value: the validation loss has stopped falling there
STILL_FALLS = 0.1  # of its value then: the train loss goes on falling
PENALTY = 2.0  # times the data loss: a cost above is made by regularization rather than by the images
CRUSHING = 10.0  # times the data loss: such a penalty takes the weights away, whatever lr is
CHANGE = 0.01  # accuracy, or of a value beyond 1 this share; smaller differences between means are noise
FEW_EPOCHS = 3  # fewer show no way: a net that learns fast is as far from settled there as one whose steps are too long
LONG_BEFORE = 1 / 3  # of the epochs between the best one and the last


def smoothed(values: Sequence[float]) -> list[float]:
    """The mean of each value and the few before it: SMOOTHING of them, at most 5."""
    width = min(5, max(1, round(SMOOTHING * len(values))))
    return [fmean(values[max(0, end - width) : end]) for end in range(1, len(values) + 1)]


class Curves:
    """A trial's curves, smoothed, and what can be read off them."""

    def __init__(
        self, epochs: Sequence[EpochResult], num_classes: int, chance: float | None, metric: Metric = ACCURACY
    ) -> None:
        self.epochs, self.metric = epochs, metric
        self.cost = smoothed([epoch.cost for epoch in epochs])
        self.train_loss = smoothed([epoch.train_loss for epoch in epochs])
        self.val_loss = smoothed([epoch.val_loss for epoch in epochs])
        self.train_acc = smoothed([epoch.train_acc for epoch in epochs])
        self.val_acc = smoothed([epoch.val_acc for epoch in epochs])
        self.update_ratios = [epoch.update_ratio for epoch in epochs if math.isfinite(epoch.update_ratio)] or [math.nan]
        self.goodness = smoothed([metric.goodness(epoch.val_score) for epoch in epochs])
        """Of what counts: more is better."""
        top = best_epoch(epochs, metric.direction)  # as the study's best is counted
        self.best_val_acc, self.best_epoch = top.val_acc, top.epoch
        self.chance = 1 / num_classes
        self.most_frequent = max(chance or 0.0, self.chance)
        self.guessing = guessing_loss(metric.loss, num_classes)  # what a net that knows nothing has

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
    def leads_by_little(self) -> bool:
        """Accuracies are above those of guessing already, and the loss is about that of guessing still.

        All scores are nearly alike then, and a little more for the true class makes it the largest.
        """
        least = self.most_frequent + LEADS * (1 - self.most_frequent)
        ahead = min(self.train_acc[-1], self.val_acc[-1]) > least
        return ahead and 1 - BARELY < self.train_loss[-1] / self.guessing <= WORSE

    @property
    def steps_were_short(self) -> bool:
        """No step was as long as healthy ones are, and the weights are about where they began.

        So it was not capacity or regularization that held the net back: these show with long steps as well.
        """
        return not max(self.update_ratios) >= HEALTHY_RATIO and self.cost[-1] > SHRUNK * self.cost[0]

    @property
    def jumped(self) -> int | None:
        """The first epoch whose train loss was far above that of the epoch before; None: there is none."""
        pairs = pairwise(self.epochs)
        return next((b.epoch for a, b in pairs if b.train_loss > JUMP * max(a.train_loss, SMALL_LOSS)), None)

    @property
    def overshot(self) -> bool:
        """Long steps led to a loss above that of guessing, or far too long ones to nothing.

        The loss of a net with large first weights begins above that, too, and falls from there by short steps.
        """
        jumped = self.jumped is not None  # which no short step makes it do
        if self.train_loss[-1] > WORSE * self.guessing:
            return jumped or self.update_ratio >= FAR * HEALTHY_RATIO
        return self.learned_nothing and len(self.epochs) > 1 and (jumped or self.update_ratio >= FAR_TOO_LONG)

    @property
    def says_the_same(self) -> bool:
        """After steps that were not short, the net gives one answer for every image, epoch after epoch.

        Then accuracies are shares of a class, to the last image. The loss is about that of such a guess, or swings
        with the last biases, which still move, while the steps of the weights fade: their gradient is 0.
        """
        last = self.epochs[-SAME_ANSWER:]
        if len(last) < SAME_ANSWER or len({(epoch.train_acc, epoch.val_acc) for epoch in last}) > 1:
            return False
        most = max(self.most_frequent + CHANGE, self.chance + BARELY * (1 - self.chance))
        guesses = max(last[-1].train_acc, last[-1].val_acc) <= most
        flat = abs(last[-1].train_loss - last[0].train_loss) <= FLAT_LOSS * self.guessing
        at_a_guess = flat and last[-1].train_loss <= WORSE * self.guessing
        fades = self.update_ratios[-1] <= FADED * max(self.update_ratios)
        return guesses and (at_a_guess or fades) and (fades or not self.steps_were_short)

    @property
    def crushed(self) -> bool:
        """Regularization alone took the weights away."""
        return self.cost[0] > CRUSHING * max(self.train_loss[0], self.guessing)

    @property
    def gap_is_material(self) -> bool:
        """Beside what the net can do on images that it has not seen."""
        return self.gap > MATERIAL * max(0.0, self.val_acc[-1] - self.chance)

    @property
    def update_ratio(self) -> float:
        """The one in the middle: it changes from step to step, and falls with lr."""
        return median(self.update_ratios)

    @property
    def gap(self) -> float:
        """Train minus validation accuracy at the end."""
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
        """What counts was still getting better over the last fifth of the epochs, and the validation loss falling."""
        before = -1 - self._last_fifth
        grew = self.goodness[-1] - self.goodness[before] > self._change
        return grew and self.val_loss[-1] < self.val_loss[before]

    @property
    def _change(self) -> float:
        return CHANGE * max(1.0, abs(self.goodness[-1]))

    @property
    def barely_begun(self) -> bool:
        """Too few epochs to tell steps that are too long to settle from a net with no time to; unless the loss rose."""
        return len(self.epochs) < FEW_EPOCHS and self.train_loss[-1] <= self.train_loss[0]

    @property
    def peaked(self) -> bool:
        """The best epoch was long before the last, in what counts and in loss, which a single image does not sway."""
        num_epochs = len(self.goodness)
        best = max(range(num_epochs), key=self.goodness.__getitem__)
        fell = self.goodness[best] - self.goodness[-1] > self._change and self.val_loss[best] < self.val_loss[-1]
        return fell and num_epochs - 1 - best > LONG_BEFORE * num_epochs
