"""The curves of a training as charts: those of one run, or of several seeds as mean and range. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean

from rich.text import Text

from hpsearch.cli.curves import Line, chart
from hpsearch.config.metric import ACCURACY, Metric
from hpsearch.results import EpochResult

ROUND = 3  # rows of a chart beside its plot: title, axis, numbers
LOWEST, HIGHEST = 4, 9  # rows of a plot

Curves = Mapping[int, Sequence[EpochResult]]
"""Epochs of each run, by number of its trial."""


def training_charts(
    runs: Curves,
    width: int,
    rows: int,
    *,
    end: int | None = None,
    focus: tuple[int, str] | None = None,
    metric: Metric = ACCURACY,
) -> list[Text]:
    """Loss and accuracy over epochs, as many of the two as fit; what counts alone where there is room for one.

    Another metric takes the place of accuracy. Of several runs, their mean, with the lowest and highest validation
    accuracy, or value of the metric.

    Args:
        runs: at least one epoch of one of them.
        width: columns.
        rows: that there are for all charts.
        end: of the horizontal axis.
        focus: the run to draw, by number, and its name; lowest and highest are those of the others then.
        metric: what counts.
    """
    num = 2 if rows >= 2 * (LOWEST + ROUND) else 1 if rows >= LOWEST + ROUND else 0
    height = min(HIGHEST, rows // num - ROUND) if num else 0
    drawn, others = runs, runs
    of = f", mean of {len(runs)} seeds"
    if focus is not None:
        number, name = focus
        drawn = {number: runs[number]}
        others = {other: epochs for other, epochs in runs.items() if other != number}
        of = f", {name}"
    elif len(runs) == 1:
        others, of = {}, ""
    lines = {"loss": _losses(drawn), "accuracy": _accuracies(drawn, others)}
    if metric.name == "loss":
        lines = {"accuracy": lines["accuracy"], "loss": lines["loss"]}
    elif metric.is_apart:
        lines = {"loss": lines["loss"], metric.label.removeprefix("validation "): _scores(drawn, others)}
    return [chart(f"{what}{of}", lines[what], width, height, end=end) for what in list(lines)[len(lines) - num :]]


def _losses(runs: Curves) -> dict[str, Line]:
    names = {"train": "train_loss", "val": "val_loss"}
    if len(runs) == 1:
        names = {"cost": "cost", **names}
    return {name: over_seeds(runs, field, fmean) for name, field in names.items()}


def _accuracies(runs: Curves, others: Curves) -> dict[str, Line]:
    return {
        "lowest": over_seeds(others, "val_acc", min),
        "highest": over_seeds(others, "val_acc", max),
        "train": over_seeds(runs, "train_acc", fmean),
        "val": over_seeds(runs, "val_acc", fmean),
    }


def _scores(runs: Curves, others: Curves) -> dict[str, Line]:
    return {
        "lowest": over_seeds(others, "val_score", min),
        "highest": over_seeds(others, "val_score", max),
        "val": over_seeds(runs, "val_score", fmean),
    }


def over_seeds(runs: Curves, field: str, combine: Callable[[Sequence[float]], float]) -> Line:
    """One quantity at each epoch, combined over the runs that have come so far."""
    values: dict[int, list[float]] = {}
    for epochs in runs.values():
        for epoch in epochs:
            if math.isfinite(value := getattr(epoch, field)):
                values.setdefault(epoch.epoch, []).append(value)
    return [(epoch, combine(values[epoch])) for epoch in sorted(values)]
