"""The next training after one with given values: what somebody would change who has seen its curves. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpsearch.analysis.diagnosis import Diagnosis
from hpsearch.analysis.remedies import LARGEST_DECAY, Remedy, Shape, larger_net, less_overfitting

MUCH, SOME = 10.0, 3.0  # times that a value is changed: where it was far off, and where the steps say which way
ENOUGH_EPOCHS = 5  # as many as a coarse search gives: fewer are a look at whether it learns at all
LARGEST_LR = 1.0  # above, it is the rate that is wrong


def other_values(diagnosis: Diagnosis | None, config: Mapping[str, Any], shape: Shape | None) -> Remedy | None:
    """What to change, None where nothing is wrong.

    Args:
        diagnosis: of the best run; None where every run exploded.
        config: of the training, plain and whole.
        shape: of the images.
    """
    train = config["train"]
    lr, reg = train["lr"], train["reg"]
    if diagnosis is None or diagnosis.verdict in ("exploded", "dead", "lr too high"):
        if lr * reg > LARGEST_DECAY and lr <= LARGEST_LR:
            return _set("a lower train.reg", {"train.reg": LARGEST_DECAY / MUCH / lr})
        return _set("a lower lr", {"train.lr": lr / MUCH})
    match diagnosis.verdict, diagnosis.cause:
        case "lr too low", _:
            return _set("a higher lr", {"train.lr": lr * MUCH})
        case "overfitting", _:
            return less_overfitting({**config, "space": {}}, shape)
        case "underfitting", "penalty" if reg or train["l1"]:
            penalties = {f"train.{key}": train[key] / MUCH for key in ("reg", "l1") if train[key]}
            return _set("less regularization", penalties)
        case "underfitting", "short steps":
            return _set("a higher lr", {"train.lr": lr * SOME})
        case "underfitting", "few epochs":
            return Remedy("train longer", {"train.epochs": max(ENOUGH_EPOCHS, 2 * train["epochs"])}, "")
        case "underfitting", "long steps":
            return _set("a lower lr", {"train.lr": lr / SOME})
        case "underfitting", _ if diagnosis.still_rises:
            return Remedy("train longer", {"train.epochs": 2 * train["epochs"]}, "")
        case "underfitting", _:
            return larger_net(config, shape)
    return None


def _set(text: str, changes: Mapping[str, float]) -> Remedy:
    """Two digits say all that is meant."""
    return Remedy(f"try {text}", {key: float(f"{value:.2g}") for key, value in changes.items()}, "")
