"""The checks that a net must pass before a search: images, initial loss, regularization; and `overfit`.

Source: the sanity checks of CS231n, "babysitting the learning process". They look at a sample of the images, so that
their time does not grow with the data set. Shapes: N = images, C = channels, H, W = image height and width.
"""

from __future__ import annotations

from typing import Any

import torch

from hpsearch.config import Choice, StudyConfig
from hpsearch.config.losses import guessing_loss, guessing_text, healthy_first_losses
from hpsearch.config.net_names import has_given_weights
from hpsearch.config.ranges import freeze
from hpsearch.config.usercode import is_user_code
from hpsearch.datasets.device import TrainingData
from hpsearch.models import build, net_size
from hpsearch.results import TrialSpec
from hpsearch.search.checks.advice import either, scaled_inputs, smaller_weights
from hpsearch.search.checks.bare_training import bare_config, few_images
from hpsearch.search.checks.findings import Finding, four_digits
from hpsearch.training import Pack

NUM_SAMPLE = 100  # images on which the initial loss is measured; of a ResNet on two cores, a few seconds
STRONG_REG = 1e3
RISE = 1e-5  # of the cost: more than float32 rounds off
IMBALANCE = 3.0  # images of the largest class over those of the smallest
UNSCALED = (0.1, 10.0)  # std of the inputs: outside, it needs rates and initial weights of its own
STILL = 1e-12  # learning rate that moves no weight


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
    sample = few_images(data, NUM_SAMPLE)
    train = {"lr": STILL, "batch_size": sample.num_train, "epochs": 1, "optimizer": "sgd"}
    specs = [TrialSpec(0, {"reg": 0.0}), TrialSpec(1, {"reg": STRONG_REG})]
    pack = Pack(bare_config(config, train), sample, specs, keeps_best=False)
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
