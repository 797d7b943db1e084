"""The checks that a net must pass before a search: images, initial loss, regularization, 20 images by heart.

Source: the sanity checks of CS231n, "babysitting the learning process". They look at a sample of the images, so that
their time does not grow with the data set. Shapes: N = images, C = channels, H, W = image height and width.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import Any

import torch

from hpsearch.config import Choice, StudyConfig
from hpsearch.config.ranges import freeze
from hpsearch.datasets.device import TrainingData
from hpsearch.results import EpochResult, TrialSpec
from hpsearch.search.checks.findings import Finding, plain
from hpsearch.search.checks.learning_rate import half_decades
from hpsearch.training import Pack

NUM_SAMPLE = 100  # images on which the initial loss is measured; of a ResNet on two cores, a few seconds
# Healthy nets begin at up to 3.9 times ln C: linear, mlp, LeNet and convnets of up to 4 blocks, all inits, inputs of
# std 1, 3 seeds, on digits, faces and images like CIFAR-10's (he doubles the second moment of a layer's outputs, and
# max pooling takes the larger ones). Bytes from 0 to 255 give 7 to 290 times ln C there, unless the weights are small.
MOST_INITIAL = 5.0  # times ln C
LEAST_INITIAL = 0.5  # times ln C; healthy nets on a small sample begin at 0.78 of it or above
STRONG_REG = 1e3
RISE = 1e-5  # of the cost: more than float32 rounds off
NUM_OVERFIT = 20
OVERFIT_EPOCHS = 200  # one minibatch each
OVERFIT_COST = 0.05  # nats
OVERFIT_RATES = half_decades(-5, 1)
IMBALANCE = 3.0  # images of the largest class over those of the smallest
UNSCALED = (0.1, 10.0)  # std of the inputs: outside, it needs rates and initial weights of its own
STILL = 1e-12  # learning rate that moves no weight
NUM_LEADING = 4  # rates that go on once one of them is well on its way: half the cost of guessing
CURVE_POINTS = 25  # of a stored curve


def checked_config(config: StudyConfig) -> StudyConfig:
    """The config whose net is checked: where [space] leaves out the value of [model] or [train], one from its range."""
    values: dict[str, Any] = {}
    for name, range_ in config.space.items():
        if name.startswith("data.") or name in ("lr", "reg"):
            continue  # the images are there already; the checks bring their own rates and regularization
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
    text = f"{sum(counts):,} images, {per_class} in each of {len(counts)} classes, mean {mean:.2f}, std {std:.2f}"
    measured = {
        "images": sum(counts),
        "classes": len(counts),
        "least": min(counts),
        "most": max(counts),
        "mean": plain(mean),
        "std": plain(std),
        "channel_mean": [plain(each) for each in x_NCHW.mean((0, 2, 3)).tolist()],
        "channel_std": [plain(each) for each in x_NCHW.std((0, 2, 3), correction=0).tolist()],
    }
    if std == 0:
        return Finding("data", "failed", text, "all pixels are the same: look at the images themselves", measured)
    notes = []
    if max(counts) > IMBALANCE * min(counts):
        share = max(counts) / sum(counts)
        notes.append(f"classes are not balanced: always guessing the largest one gives accuracy {share:.2f}")
    if not UNSCALED[0] <= std <= UNSCALED[1]:
        notes.append("inputs are far from std 1: data.normalize = channel, unless the initial weights fit them")
    elif abs(mean) > std:
        notes.append("the mean of the inputs is not near 0: data.normalize = channel or pixel")
    return Finding("data", "note" if notes else "ok", text, "; ".join(notes), measured)


def check_initial_cost(config: StudyConfig, data: TrainingData) -> tuple[Finding, Finding]:
    """The cost of the first minibatch without regularization, against ln C, and with reg 1e3: it must go up.

    Without dropout, augmentation and label smoothing. A healthy net knows nothing yet, which costs ln C; initial
    weights that are not small add to it. Allowed: 0.5 to 5 times ln C (see MOST_INITIAL for the measurement).
    """
    sample = _sampled(data, NUM_SAMPLE)
    train = {"lr": STILL, "batch_size": sample.num_train, "epochs": 1, "optimizer": "sgd"}
    specs = [TrialSpec(0, {"reg": 0.0}), TrialSpec(1, {"reg": STRONG_REG})]
    pack = Pack(_bare(config, train), sample, specs, keeps_best=False)
    report = pack.run_epoch()
    costs = {result.number: result.cost for result in report.results}
    costs |= {explosion.number: explosion.cost for explosion in report.explosions}
    without, with_reg = costs[0], costs[1]
    guessing = math.log(data.num_classes)
    return _initial_loss(without, data.num_classes, guessing), _regularization(without, with_reg)


def _initial_loss(loss: float, num_classes: int, guessing: float) -> Finding:
    text = f"initial loss {loss:.3f} (ln {num_classes} = {guessing:.3f})"
    lowest, highest = LEAST_INITIAL * guessing, MOST_INITIAL * guessing
    bounds = {"guessing": plain(guessing), "lowest": plain(lowest), "highest": plain(highest)}
    measured = {"loss": plain(loss), **bounds}
    if not loss <= highest:
        advice = (
            f"at most {highest:.1f} is healthy: scale the inputs (data.normalize = channel),"
            " or begin with smaller weights (model.init = small:0.01)"
        )
        return Finding("initial loss", "failed", text, advice, measured)
    if loss < lowest:
        advice = (
            f"at least {lowest:.2f} is what a net that knows nothing has: look whether the images"
            " give their labels away, and whether the net puts out logits"
        )
        return Finding("initial loss", "failed", text, advice, measured)
    return Finding("initial loss", "ok", text, "", measured)


def _regularization(without: float, with_reg: float) -> Finding:
    text = f"reg 1e3 -> {with_reg:.2f}" if with_reg < 1e4 else f"reg 1e3 -> {with_reg:.1e}"
    measured = {"reg": STRONG_REG, "cost": plain(with_reg), "cost_without": plain(without)}
    if with_reg > without * (1 + RISE):
        return Finding("regularization", "ok", text, "", measured)
    advice = "the cost must go up with regularization: the initial weights are next to 0 (model.init, model.init_scale)"
    return Finding("regularization", "failed", text, advice, measured)


def check_overfit(
    config: StudyConfig, data: TrainingData, epochs: int = OVERFIT_EPOCHS, seconds: float = math.inf
) -> Finding:
    """Learn 20 images by heart, without regularization, dropout and augmentation, at several rates as one pack.

    Done as soon as one rate has train accuracy 1 and a cost below 0.05; slow ones stop once others lead. The optimizer
    is the search's own, for which the net was chosen: a net that only adam gets off the ground is fine where adam
    will train it. After `seconds` it gives up with a note: a deep net on a CPU needs minutes.
    """
    deadline = time.monotonic() + seconds
    tiny = _sampled(data, NUM_OVERFIT)
    num = tiny.num_train
    pack = Pack(
        _bare(config, {"batch_size": num, "epochs": epochs}),
        tiny,
        [TrialSpec(number, {"lr": rate}) for number, rate in enumerate(OVERFIT_RATES)],
        keeps_best=False,
    )
    curves: dict[int, list[EpochResult]] = {number: [] for number in pack.numbers}
    learned: list[EpochResult] = []
    while not pack.done and not learned:
        results = pack.run_epoch().results
        for result in results:
            curves[result.number].append(result)
        learned = [result for result in results if result.train_acc == 1.0 and result.cost < OVERFIT_COST]
        leading = sorted(results, key=lambda result: result.cost)
        if leading and leading[0].cost < 0.5 * math.log(data.num_classes):
            pack.drop(result.number for result in leading[NUM_LEADING:])
        if time.monotonic() > deadline:
            break
    ends = learned or [curve[-1] for curve in curves.values() if curve]
    if not ends:
        text = f"overfits {num}: no, all {len(OVERFIT_RATES)} rates exploded"
        advice = (
            "even 1e-5 is too high a rate: scale the inputs (data.normalize = channel), or begin with smaller weights"
        )
        return Finding("overfit", "failed", text, advice, {"images": num, "rates": list(OVERFIT_RATES)})
    best = min(ends, key=lambda result: result.cost)
    measured = {
        "images": num,
        "lr": best.lr,
        "epochs": best.epoch,
        "cost": best.cost,
        "train_acc": best.train_acc,
        "rates": list(OVERFIT_RATES),
        "curve": _thinned(curves[best.number]),
    }
    if learned:
        return Finding("overfit", "ok", f"overfits {num} in {best.epoch} epochs", "", measured)
    if not pack.done and pack.numbers:
        text = f"overfits {num}: not known after {seconds:.0f} s, cost {best.cost:.3f} in epoch {best.epoch}"
        return Finding("overfit", "note", text, "hpsearch check takes the time that it needs", measured)
    text = (
        f"overfits {num}: no, the best of {len(OVERFIT_RATES)} rates has cost {best.cost:.3f}"
        f" and accuracy {best.train_acc:.2f} after {best.epoch} epochs"
    )
    advice = (
        "a net that cannot learn so few by heart learns nothing: more capacity (model.hidden, model.name), another"
        " model.init or train.optimizer, or look at images and labels (hpsearch data show)"
    )
    return Finding("overfit", "failed", text, advice, measured)


def _sampled(data: TrainingData, num: int) -> TrainingData:
    """A few training images, never augmented, which serve as the hold-out, too: a check has no use for another."""
    x_NCHW, y_N = data.train_sample(num)
    return replace(data, x_train_NCHW=x_NCHW, y_train_N=y_N, x_val_NCHW=x_NCHW[:1], y_val_N=y_N[:1], augment=())


def _bare(config: StudyConfig, train: dict[str, Any]) -> StudyConfig:
    """The net and its optimizer with nothing that keeps it from fitting; `train` says the rest."""
    off: dict[str, Any] = dict.fromkeys(("reg", "l1", "weight_decay", "label_smoothing"), 0.0)
    off |= {"lr_schedule": "exponential", "lr_decay": 1.0}
    return config.model_copy(
        update={
            "train": config.train.model_copy(update=off | train),
            "model": config.model.model_copy(update={"dropout": 0.0}),
        }
    )


def _thinned(curve: list[EpochResult]) -> list[list[float]]:
    """[epoch, cost, train accuracy] of at most CURVE_POINTS epochs, the last one included."""
    step = -(-len(curve) // CURVE_POINTS)
    kept = curve[::-1][::step][::-1]
    return [[result.epoch, float(f"{result.cost:.4g}"), result.train_acc] for result in kept]
