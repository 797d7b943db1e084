"""Between which rates to search: a log grid of them, each trained for some hundred steps, all as one pack.

Source: CS231n, "babysitting the learning process": the loss barely moves: too low; the cost explodes: too high.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import islice
from typing import Any, Literal

import torch
from torch import Tensor

from hpsearch.config import FloatRange, StudyConfig
from hpsearch.datasets.device import MAX_SAMPLE, TrainingData
from hpsearch.datasets.splits import sample
from hpsearch.results import EpochResult, Explosion, TrialSpec
from hpsearch.search.checks.findings import Finding, plain
from hpsearch.training import Pack

RateVerdict = Literal["barely moves", "goes down", "explodes"]


def half_decades(low: int, high: int) -> tuple[float, ...]:
    """1e`low` ... 1e`high`, two rates a decade."""
    return tuple(float(f"{10 ** (half / 2):.4g}") for half in range(2 * low, 2 * high + 1))


RATES = half_decades(-6, 1)
STEPS = 100  # of each rate
LOOKS = 10  # at each curve
SMALL_REG = 1e-6
MOVES = 0.05  # share of ln C, or of the initial loss where that is lower: less is barely moving
GRID_STEP = math.sqrt(math.sqrt(10))  # half the way to the next rate


@dataclass(frozen=True)
class RateTrial:
    """One rate after its steps. The curve has a look every few steps; one that exploded has those before."""

    lr: float
    verdict: RateVerdict
    looks: tuple[EpochResult, ...]
    explosion: Explosion | None = None

    @property
    def best(self) -> EpochResult | None:
        """The look with the best validation accuracy; the first among equals, None without any."""
        return max(self.looks, key=lambda look: (look.val_acc, -look.epoch), default=None)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: the loss on training images at the end, or the step and cost of the explosion."""
        if self.explosion is not None:
            ending = {"step": self.explosion.step, "cost": plain(self.explosion.cost)}
            return {"lr": self.lr, "verdict": self.verdict, **ending}
        last = self.looks[-1]
        return {"lr": self.lr, "verdict": self.verdict, "loss": plain(last.train_loss), "val_acc": plain(last.val_acc)}


@dataclass(frozen=True, eq=False)
class FirstBatches(TrainingData):
    """Epochs that end after some minibatches; the next one begins with others, of all images in a new order."""

    most_batches: int

    @classmethod
    def of(cls, data: TrainingData, most_batches: int) -> FirstBatches:
        """The same images."""
        return cls(**{field.name: getattr(data, field.name) for field in fields(data)}, most_batches=most_batches)

    def num_batches(self, batch_size: int) -> int:
        """See TrainingData."""
        return min(super().num_batches(batch_size), self.most_batches)

    def batches(self, seed: int, epoch: int, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """See TrainingData."""
        return islice(super().batches(seed, epoch, batch_size), self.most_batches)


@dataclass(frozen=True)
class RateSearch:
    """All rates, ascending."""

    trials: tuple[RateTrial, ...]
    steps: int
    needed: float
    """Loss on training images, nats, below which a rate goes down."""


def try_rates(
    config: StudyConfig, data: TrainingData, initial_loss: float, *, steps: int = STEPS, engine: str = "auto"
) -> RateSearch:
    """Train each of RATES for `steps` steps on all images with reg 1e-6, as one pack, at a constant rate.

    A rate explodes by the rule of every trial (train.explosion); it goes down if its loss on training images ends 5%
    below that of guessing, ln C, or below the initial loss where that is lower; else it barely moves. Initial weights
    that are not small begin above ln C, and a net killed by too high a rate ends at ln C: neither counts as learning.
    Accuracies are measured on at most 1,000 validation images.
    """
    few = FirstBatches.of(_few_validation_images(data), max(1, steps // LOOKS))
    epochs = math.ceil(steps / few.num_batches(config.train.batch_size))
    train = {"reg": SMALL_REG, "l1": 0.0, "epochs": epochs, "lr_schedule": "exponential", "lr_decay": 1.0}
    config = config.model_copy(update={"train": config.train.model_copy(update=train)})
    specs = [TrialSpec(number, {"lr": rate}) for number, rate in enumerate(RATES)]
    pack = Pack(config, few, specs, engine=engine, keeps_best=False)
    looks: dict[int, list[EpochResult]] = {number: [] for number in pack.numbers}
    explosions: dict[int, Explosion] = {}
    while not pack.done:
        report = pack.run_epoch()
        for result in report.results:
            looks[result.number].append(result)
        explosions |= {explosion.number: explosion for explosion in report.explosions}
    needed = (1 - MOVES) * min(math.log(data.num_classes), initial_loss)
    trials = []
    for number, rate in enumerate(RATES):
        explosion, seen = explosions.get(number), tuple(looks[number])
        verdict: RateVerdict = "explodes" if explosion is not None else "barely moves"
        if verdict != "explodes" and seen[-1].train_loss < needed:
            verdict = "goes down"
        trials.append(RateTrial(rate, verdict, seen, explosion))
    return RateSearch(tuple(trials), steps, needed)


def rough_range(verdicts: Sequence[tuple[float, RateVerdict]]) -> FloatRange | None:
    """From the lowest rate that goes down to the last one before the first that explodes above it.

    Where none explodes, to the highest that goes down. A single rate is widened to half the way to its neighbours;
    None where no rate goes down.

    Args:
        verdicts: (rate, what it did), rates ascending.
    """
    down = [rate for rate, verdict in verdicts if verdict == "goes down"]
    if not down:
        return None
    low = down[0]
    exploding = next((rate for rate, verdict in verdicts if verdict == "explodes" and rate > low), None)
    high = down[-1] if exploding is None else max(rate for rate, _ in verdicts if rate < exploding)
    if low == high:
        low, high = (float(f"{end:.4g}") for end in (low / GRID_STEP, high * GRID_STEP))
    return FloatRange(low, high, log=True)


def rate_finding(search: RateSearch) -> Finding:
    """The rough range as a check; it stops nothing, since a net may need more steps to get going."""
    steps, found = search.steps, rough_range([(trial.lr, trial.verdict) for trial in search.trials])
    measured: dict[str, Any] = {"steps": steps, "needed": plain(search.needed)}
    measured["rates"] = [trial.as_dict() for trial in search.trials]
    if found is None:
        advice = "more steps (--steps), another model.init or train.optimizer"
        return Finding("learning rate", "note", f"no rate goes down in {steps} steps", advice, measured)
    measured |= {"low": found.low, "high": found.high, "reason": _reason(search.trials)}
    return Finding("learning rate", "ok", f"lr from {found.low:.1e} to {found.high:.1e}", "", measured)


def _reason(trials: Sequence[RateTrial]) -> str:
    down = [trial.lr for trial in trials if trial.verdict == "goes down"]
    exploding = next((t.lr for t in trials if t.verdict == "explodes" and t.lr > down[0]), None)
    above = f"explodes at {exploding:.1e}" if exploding else f"no more above {down[-1]:.1e}"
    return f"the loss goes down from {down[0]:.1e} on, {above}"


def _few_validation_images(data: TrainingData) -> TrainingData:
    """At most 1,000 validation images, stratified: a hundred steps should not wait for all of them."""
    if len(data.y_val_N) <= MAX_SAMPLE:
        return data
    rows = torch.from_numpy(sample(data.y_val_N.cpu().numpy(), MAX_SAMPLE, seed=0)).to(data.y_val_N.device)
    return replace(data, x_val_NCHW=data.x_val_NCHW[rows], y_val_N=data.y_val_N[rows])
