"""The checks that a net must pass before a search: images, initial loss, regularization, 20 images by heart.

Source: the sanity checks of CS231n, "babysitting the learning process". They look at a sample of the images, so that
their time does not grow with the data set. Shapes: N = images, C = channels, H, W = image height and width.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from hpsearch.config import Choice, StudyConfig
from hpsearch.config.losses import LEARNED, RIGHT, guessing_loss, guessing_text, healthy_first_losses
from hpsearch.config.metric import ACCURACY
from hpsearch.config.net_names import has_given_weights
from hpsearch.config.ranges import freeze
from hpsearch.config.usercode import is_user_code
from hpsearch.datasets.device import TrainingData
from hpsearch.models import NOISES, build, net_size
from hpsearch.results import EpochResult, TrialSpec
from hpsearch.search.checks.advice import either, more_capacity, other_training, scaled_inputs, smaller_weights
from hpsearch.search.checks.findings import Finding, four_digits
from hpsearch.search.checks.learning_rate import half_decades
from hpsearch.training import Pack
from hpsearch.wording import count_text

NUM_SAMPLE = 100  # images on which the initial loss is measured; of a ResNet on two cores, a few seconds
STRONG_REG = 1e3
RISE = 1e-5  # of the cost: more than float32 rounds off
NUM_OVERFIT = 20
OVERFIT_EPOCHS = 200  # one minibatch each
OVERFIT_RATES = half_decades(-5, 1)
FIRST_RATES = OVERFIT_RATES[1::3]  # 3e-5, 1e-3, 3e-2, 1: one of them works for most nets
FIRST_EPOCHS = 30  # in which one of the first must be on its way, or all rates are tried
IMBALANCE = 3.0  # images of the largest class over those of the smallest
UNSCALED = (0.1, 10.0)  # std of the inputs: outside, it needs rates and initial weights of its own
STILL = 1e-12  # learning rate that moves no weight
NUM_LEADING = 4  # rates that go on once one of them is well on its way: half the cost of guessing
CHECK_SECONDS = 120.0  # for 20 images by heart in `hpsearch check`; only a deep net on a CPU needs more
CURVE_POINTS = 25  # of a stored curve


def checked_config(config: StudyConfig) -> StudyConfig:
    """The config whose net is checked: where [space] leaves out the value of [model] or [train], one from its range."""
    values: dict[str, Any] = {}
    for name, range_ in config.space.items():
        if name.startswith("data.") or name in ("lr", "reg", "train.clip_norm"):
            # The images are there already; the checks bring their own rates and regularization, and would take the
            # lowest norm of a range for rates that are too low.
            continue
        value = freeze(config.value(name))
        if isinstance(range_, Choice):
            if value not in range_.values:
                values[name] = range_.values[0]
        elif value is None or not range_.low <= value <= range_.high:
            values[name] = range_.low
    return config.with_params(values)


def check_data(data: TrainingData) -> Finding:
    """Images per class; mean and std of a sample after normalization."""
    counts = torch.bincount(data.y_train_N, minlength=data.num_classes).tolist()
    x_NCHW, _ = data.train_sample()
    mean, std = float(x_NCHW.mean()), float(x_NCHW.std(correction=0))
    per_class = f"{min(counts)} to {max(counts)}" if min(counts) < max(counts) else f"{min(counts)}"
    text = f"{sum(counts):,} images, {per_class} in each of {len(counts)} classes, mean {mean:z.2f}, std {std:.2f}"
    measured = {
        "images": sum(counts),
        "classes": len(counts),
        "least": min(counts),
        "most": max(counts),
        "mean": four_digits(mean),
        "std": four_digits(std),
        "channel_mean": [four_digits(each) for each in x_NCHW.mean((0, 2, 3)).tolist()],
        "channel_std": [four_digits(each) for each in x_NCHW.std((0, 2, 3), correction=0).tolist()],
    }
    if std == 0:
        return Finding("data", "failed", text, "all pixels are the same: look at the images themselves", measured)
    notes = []
    if max(counts) > IMBALANCE * min(counts):
        share = max(counts) / sum(counts)
        notes.append(f"classes are not balanced: always guessing the largest one gives accuracy {share:.2f}")
    if data.body is not None:
        return Finding("data", "note" if notes else "ok", text, "; ".join(notes), measured)  # features scale as they do
    if not UNSCALED[0] <= std <= UNSCALED[1]:
        notes.append("inputs are far from std 1: data.normalize = channel, unless the initial weights fit them")
    elif abs(mean) > std:
        notes.append("the mean of the inputs is not near 0: data.normalize = channel or pixel")
    return Finding("data", "note" if notes else "ok", text, "; ".join(notes), measured)


def check_size(config: StudyConfig, data: TrainingData) -> Finding:
    """Parameters of the net, and multiply-adds of one image; of a frozen body's head, where that is all that runs."""
    model, shape = data.trained_net(config.model)
    size = net_size(build(model, shape, data.num_classes, config.train.seed), shape)
    return Finding("net", "ok", str(size), "", size._asdict())


def check_initial_cost(config: StudyConfig, data: TrainingData) -> tuple[Finding, Finding]:
    """The cost of the first minibatch without regularization, against guessing, and with reg 1e3: it must go up.

    Without dropout, augmentation and label smoothing. A healthy net knows nothing yet, which costs ln C, or what
    another train.loss has then; initial weights that are not small add to it. Allowed: `healthy_first_losses`.
    """
    sample = _sampled(data, NUM_SAMPLE)
    train = {"lr": STILL, "batch_size": sample.num_train, "epochs": 1, "optimizer": "sgd"}
    specs = [TrialSpec(0, {"reg": 0.0}), TrialSpec(1, {"reg": STRONG_REG})]
    pack = Pack(_bare(config, train), sample, specs, keeps_best=False)
    report = pack.run_epoch()
    costs = {result.number: result.cost for result in report.results}
    costs |= {explosion.number: explosion.cost for explosion in report.explosions}
    without, with_reg = costs[0], costs[1]
    return _initial_loss(config, without, data.num_classes), _regularization(config, without, with_reg)


def _initial_loss(config: StudyConfig, loss: float, num_classes: int) -> Finding:
    kind, fresh = config.train.loss, ": a fresh head" if has_given_weights(dict(config.model)) else ""
    guessing = guessing_loss(kind, num_classes)
    lowest, highest = healthy_first_losses(kind, num_classes)
    known = f"{guessing_text(kind, num_classes)} = {guessing:.3f}{fresh}"
    text = f"initial loss {loss:.3f} ({known}; allowed {lowest:.2f} to {highest:.1f})"
    bounds = {"guessing": four_digits(guessing), "lowest": four_digits(lowest), "highest": four_digits(highest)}
    measured = {"loss": four_digits(loss), **bounds}
    if not loss <= highest:
        smaller = either(*scaled_inputs(config), *smaller_weights(config.model))
        advice = f"at most {highest:.1f} is healthy, which inputs and weights that are not too large give: {smaller}"
        return Finding("initial loss", "failed", text, advice, measured)
    if loss < lowest:
        advice = (
            f"at least {lowest:.2f} is what a net that knows nothing has: look whether the images"
            " give their labels away"
        )
        if is_user_code(config.model.name):
            advice += f", and whether {config.model.name} puts out logits"
        return Finding("initial loss", "failed", text, advice, measured)
    return Finding("initial loss", "ok", text, "", measured)


def _regularization(config: StudyConfig, without: float, with_reg: float) -> Finding:
    text = f"reg 1e3 -> {with_reg:.2f}" if with_reg < 1e4 else f"reg 1e3 -> {with_reg:.1e}"
    measured = {"reg": STRONG_REG, "cost": four_digits(with_reg), "cost_without": four_digits(without)}
    if with_reg > without * (1 + RISE):
        return Finding("regularization", "ok", text, "", measured)
    name = config.model.name
    advice = "the cost must go up with regularization: the initial weights are next to 0 "
    advice += f"in {name}, or it has none" if is_user_code(name) else "(model.init, model.init_scale)"
    return Finding("regularization", "failed", text, advice, measured)


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
    tiny = _sampled(data, NUM_OVERFIT)
    num = tiny.num_train
    bare = _bare(config, {"batch_size": num, "epochs": epochs})
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


def _sampled(data: TrainingData, num: int) -> TrainingData:
    """A few training images, never augmented, which serve as the hold-out, too: a check has no use for another."""
    x_NCHW, y_N = data.train_sample(num)
    few = replace(data, x_train_NCHW=x_NCHW, y_train_N=y_N, x_val_NCHW=x_NCHW[:1], y_val_N=y_N[:1])
    return replace(few, augment=(), sampling="shuffled")


def _bare(config: StudyConfig, train: dict[str, Any]) -> StudyConfig:
    """The net and its optimizer with nothing that keeps it from fitting; `train` says the rest."""
    off: dict[str, Any] = dict.fromkeys(("reg", "l1", "weight_decay", "label_smoothing", "focal", "warmup", "ema"), 0.0)
    off |= {
        "teacher": None,
        "distill": 0.0,
        "lr_schedule": "exponential",
        "lr_decay": 1.0,
        "metric": ACCURACY.name,
        "class_weights": "none",
        "accumulate": 1,
    }
    return config.model_copy(
        update={
            "train": config.train.model_copy(update=off | train),
            "model": config.model.model_copy(update=dict.fromkeys(NOISES, 0.0)),
        }
    )


def _thinned(curve: list[EpochResult]) -> list[list[float]]:
    """[epoch, cost, train accuracy] of at most CURVE_POINTS epochs, the last one included."""
    step = -(-len(curve) // CURVE_POINTS)
    kept = curve[::-1][::step][::-1]
    return [[result.epoch, float(f"{result.cost:.4g}"), result.train_acc] for result in kept]
