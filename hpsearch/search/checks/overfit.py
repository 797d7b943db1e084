"""The check that a net can learn 20 images by heart: one that cannot learn so few learns nothing."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hpsearch.config import Choice, StudyConfig
from hpsearch.config.losses import LEARNED, RIGHT, guessing_loss
from hpsearch.config.net_names import has_given_weights
from hpsearch.datasets.device import TrainingData
from hpsearch.results import EpochResult, TrialSpec
from hpsearch.search.checks.advice import either, more_capacity, other_training, scaled_inputs, smaller_weights
from hpsearch.search.checks.bare_training import bare_config, few_images
from hpsearch.search.checks.findings import Finding
from hpsearch.search.checks.learning_rate import half_decades
from hpsearch.training import Pack
from hpsearch.wording import count_text

NUM_OVERFIT = 20
OVERFIT_EPOCHS = 200  # one minibatch each
OVERFIT_RATES = half_decades(-5, 1)
FIRST_RATES = OVERFIT_RATES[1::3]  # 3e-5, 1e-3, 3e-2, 1: one of them works for most nets
FIRST_EPOCHS = 30  # in which one of the first must be on its way, or all rates are tried
NUM_LEADING = 4  # rates that go on once one of them is well on its way: half the cost of guessing
CHECK_SECONDS = 120.0  # for 20 images by heart in `hpsearch check`; only a deep net on a CPU needs more
CURVE_POINTS = 25  # of a stored curve


@dataclass(frozen=True)
class _Attempt:
    """Some rates, trained on the few images until one has learned them, the time is over, or all have had their epochs.

    The curves of rates that exploded at once are empty.
    """

    curves: dict[int, list[EpochResult]]
    learned: EpochResult | None
    """The end of the rate that has learned them, the one with the lowest cost if there are several."""
    out_of_time: bool = False

    @property
    def best(self) -> EpochResult | None:
        """The end of the best rate; None where all exploded at once."""
        ends = [curve[-1] for curve in self.curves.values() if curve]
        return self.learned or min(ends, key=lambda end: end.cost, default=None)


def check_overfit(
    config: StudyConfig,
    data: TrainingData,
    epochs: int = OVERFIT_EPOCHS,
    seconds: float = math.inf,
    listener: Callable[[str], None] = lambda _what: None,
) -> Finding:
    """Learn 20 images by heart, without regularization, dropout and augmentation, at several rates as one pack.

    Done as soon as one rate has all of them right and a cost below 0.05, or what LEARNED says of another loss; slow
    ones stop once others lead. Four rates are tried first; all thirteen only where none of the four learns, since a
    deep net takes minutes for them. The optimizer is the search's own, for which the net was chosen: a net that only
    adam gets off the ground is fine where adam will train it. After `seconds` it gives up with a note on what was left
    out. `listener` hears how far it is.
    """
    deadline = time.monotonic() + seconds
    tiny = few_images(data, NUM_OVERFIT)
    num = tiny.num_train
    bare = bare_config(config, {"batch_size": num, "epochs": epochs})
    rates, attempt = FIRST_RATES, _attempt(bare, tiny, FIRST_RATES, FIRST_EPOCHS, deadline, listener)
    if not (attempt.learned or attempt.out_of_time):
        rates, attempt = OVERFIT_RATES, _attempt(bare, tiny, OVERFIT_RATES, epochs, deadline, listener)
    if (best := attempt.best) is None:
        text = f"overfits {num}: no, all {len(rates)} rates exploded"
        options = either(*scaled_inputs(config), *smaller_weights(config.model))
        advice = f"even {rates[0]:.0e} is too high a rate: {options}"
        return Finding("overfit", "failed", text, advice, {"images": num, "rates": list(rates)})
    measured = {
        "images": num,
        "lr": best.lr,
        "epochs": best.epoch,
        "cost": best.cost,
        "train_acc": 1.0 if attempt.learned else best.train_acc,
        "rates": list(rates),
        "curve": _thinned(attempt.curves[best.number]),
    }
    if attempt.learned:
        text = f"overfits {num} in {count_text(best.epoch, 'epoch')}{what_trains(config, data)}"
        return Finding("overfit", "ok", text, "", measured)
    if attempt.out_of_time:
        others = (
            f", and {untried} of {len(OVERFIT_RATES)} rates" if (untried := len(OVERFIT_RATES) - len(rates)) else ""
        )
        text = (
            f"overfits {num}: not known after {seconds:.0f} s, cost {best.cost:.3f} in epoch {best.epoch}; left out: "
            f"{count_text(epochs - best.epoch, 'epoch')}{others}"
        )
        advice = f"hpsearch check takes up to {CHECK_SECONDS:.0f} s for it"
        if seconds >= CHECK_SECONDS:
            advice = (
                "smaller images (data.size), fewer that train (model.freeze) or a GPU take less; a search tells, too"
            )
        return Finding("overfit", "note", text, advice, measured)
    text = (
        f"overfits {num}: no, the best of {len(rates)} rates has cost {best.cost:.3f}"
        f" and accuracy {best.train_acc:.2f} after {count_text(best.epoch, 'epoch')}"
    )
    options = either(more_capacity(config.model), *other_training(config))
    advice = (
        f"a net that cannot learn so few by heart learns nothing: {options}; or look at images and labels"
        " (hpsearch data show)"
    )
    return Finding("overfit", "failed", text, advice, measured)


def what_trains(config: StudyConfig, data: TrainingData) -> str:
    """Of a net that has trained before, for the end of a sentence: what of it trained here, and what was left out."""
    if not has_given_weights(dict(config.model)):
        return ""
    kept = config.model.freeze
    if data.body is not None:
        what = "the head on features"
    elif kept in ("none", "all"):
        what = "all of it" if kept == "none" else "the head"
    else:
        what = f"the head and {count_text(int(kept), 'stage')}"
    searched = config.space.get("model.freeze")
    others = [str(each) for each in searched.values if each != kept] if isinstance(searched, Choice) else []
    return f", training {what}" + (f", not tried with freeze = {either(*others)}" if others else "")


def _attempt(
    config: StudyConfig,
    tiny: TrainingData,
    rates: Sequence[float],
    patience: int,
    deadline: float,
    listener: Callable[[str], None],
) -> _Attempt:
    """Train them as one pack; after `patience` epochs only where one is on its way: at half of what guessing costs."""
    pack = Pack(config, tiny, [TrialSpec(number, {"lr": rate}) for number, rate in enumerate(rates)], keeps_best=False)
    curves: dict[int, list[EpochResult]] = {number: [] for number in pack.numbers}
    cost, on_its_way = math.inf, 0.5 * guessing_loss(config.train.loss, tiny.num_classes)
    while not pack.done:
        known = f", cost {cost:.2f}" if pack.epoch else ""
        listener(f"{tiny.num_train} images by heart, epoch {pack.epoch + 1} of {pack.num_epochs}{known}")
        results = pack.run_epoch().results
        for result in results:
            curves[result.number].append(result)
        leading = sorted(results, key=lambda result: result.cost)
        cost = leading[0].cost if leading else math.inf
        if learned := next((result for result in leading if _has_learned(result, config, tiny.num_train)), None):
            return _Attempt(curves, learned)
        if cost < on_its_way:
            pack.drop(result.number for result in leading[NUM_LEADING:])
        elif pack.epoch >= patience:
            break
        if time.monotonic() > deadline and not pack.done:
            return _Attempt(curves, None, out_of_time=True)
    return _Attempt(curves, None)


def _has_learned(result: EpochResult, config: StudyConfig, num_images: int) -> bool:
    """Cost near 0 and all images right.

    A batch normalization takes some dozen epochs of one minibatch until its running statistics are those that the net
    trains with, and only then is the accuracy right. A mean cost below ln 2 / N needs none: no image has a probability
    below one half.
    """
    loss = config.train.loss
    certain = result.cost < RIGHT[loss] / num_images
    return certain or (result.train_acc == 1.0 and result.cost < LEARNED[loss])


def _thinned(curve: list[EpochResult]) -> list[list[float]]:
    """[epoch, cost, train accuracy] of at most CURVE_POINTS epochs, the last one included."""
    step = -(-len(curve) // CURVE_POINTS)
    kept = curve[::-1][::step][::-1]
    return [[result.epoch, float(f"{result.cost:.4g}"), result.train_acc] for result in kept]
