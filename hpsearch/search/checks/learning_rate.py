"""Between which rates to search: a log grid of them, each trained for some hundred steps, all as one pack.

Source: CS231n, "babysitting the learning process": the loss barely moves: too low; the cost explodes: too high.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from typing_extensions import override

from hpsearch.analysis.rate_verdicts import (
    MOVES,
    RateVerdict,
    first_too_high,
    is_hopeless,
    judge_rate,
    judge_together,
    rough_range,
)
from hpsearch.config import StudyConfig
from hpsearch.config.losses import guessing_loss
from hpsearch.config.metric import ACCURACY
from hpsearch.datasets.device import MAX_SAMPLE, TrainingData
from hpsearch.datasets.epoch import Epoch
from hpsearch.datasets.splits import sample
from hpsearch.results import EpochResult, Explosion, TrialSpec
from hpsearch.search.checks.advice import rate_advice
from hpsearch.search.checks.findings import Finding, four_digits
from hpsearch.training import Pack


def half_decades(low: int, high: int) -> tuple[float, ...]:
    """1e`low` ... 1e`high`, two rates a decade."""
    return tuple(float(f"{10 ** (half / 2):.4g}") for half in range(2 * low, 2 * high + 1))


RATES = half_decades(-6, 1)
STEPS = 100  # of each rate
RATE_SECONDS = 300.0  # for all rates; only a deep net on a CPU gets fewer steps
LOOKS = 10  # at each curve
SMALL_REG = 1e-6


@dataclass(frozen=True)
class RateTrial:
    """One rate after its steps. The curve has a look every few steps; one that exploded has those before.

    So has a rate too low to move the weights at all, which was let go at the first look.
    """

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
            ending = {"step": self.explosion.step, "cost": four_digits(self.explosion.cost)}
            return {"lr": self.lr, "verdict": self.verdict, **ending}
        last = self.looks[-1]
        return {
            "lr": self.lr,
            "verdict": self.verdict,
            "loss": four_digits(last.train_loss),
            "val_acc": four_digits(last.val_acc),
        }


@dataclass(frozen=True, eq=False)
class FirstBatches(TrainingData):
    """Epochs of so many minibatches: the first of an epoch of all images, or of as many epochs as it takes.

    The next one begins with others, of all images in a new order.
    """

    whole: TrainingData
    num: int

    @classmethod
    def of(cls, data: TrainingData, num: int) -> FirstBatches:
        """The same images."""
        return cls(**{field.name: getattr(data, field.name) for field in fields(data)}, whole=data, num=num)

    @override
    def num_batches(self, batch_size: int) -> int:
        return self.num

    @override
    def epoch(self, seed: int, number: int, batch_size: int) -> Epoch:
        rounds = math.ceil(self.num / self.whole.num_batches(batch_size))
        numbers = range((number - 1) * rounds + 1, number * rounds + 1)
        return Epoch.joined([self.whole.epoch(seed, each, batch_size) for each in numbers], number, self.num)


@dataclass(frozen=True)
class RateSearch:
    """All rates, ascending."""

    trials: tuple[RateTrial, ...]
    steps: int
    needed: float
    """Loss on training images, below which a rate goes down."""
    asked: int | None = None
    """Steps that there was no time for, with those that were made; None where all were."""


def try_rates(
    config: StudyConfig,
    data: TrainingData,
    initial_loss: float,
    *,
    steps: int = STEPS,
    engine: str = "auto",
    listener: Callable[[str], None] = lambda _what: None,
    seconds: float = RATE_SECONDS,
    clock: Callable[[], float] = time.monotonic,
) -> RateSearch:
    """Train each of RATES for `steps` steps on all images with reg 1e-6, as one pack, at a constant rate.

    A rate explodes by the rule of every trial (train.explosion); what else it does, says `rate_verdicts`. Those whose
    steps are too small to change the net are let go at the first look, since a deep net takes minutes for the others.
    Accuracies are measured on at most 1,000 validation images. `listener` hears how far it is. After
    `seconds` of `clock` it ends at the next look, and judges by the steps that were made.
    """
    until = clock() + seconds
    per_look = max(1, steps // LOOKS)
    few = FirstBatches.of(_few_validation_images(data), per_look * config.train.accumulate)
    config = at_a_constant_rate(config, math.ceil(steps / per_look))
    specs = [TrialSpec(number, {"lr": rate}) for number, rate in enumerate(RATES)]
    pack = Pack(config, few, specs, engine=engine, keeps_best=False)
    looks: dict[int, list[EpochResult]] = {number: [] for number in pack.numbers}
    explosions: dict[int, Explosion] = {}
    while not pack.done and (pack.epoch == 0 or clock() < until):
        listener(f"learning rates, step {pack.epoch * per_look} of {steps}, {len(pack.numbers)} of {len(RATES)} left")
        report = pack.run_epoch()
        for result in report.results:
            looks[result.number].append(result)
        explosions |= {explosion.number: explosion for explosion in report.explosions}
        if pack.epoch == 1:
            pack.drop(result.number for result in report.results if is_hopeless(result, steps))
    made = min(steps, pack.epoch * per_look) if not pack.done else steps
    guessing = guessing_loss(config.train.loss, data.num_classes)
    verdicts = judge_together(
        [
            "explodes" if number in explosions else judge_rate(looks[number], initial_loss, guessing)
            for number in range(len(RATES))
        ]
    )
    trials = [
        RateTrial(rate, verdict, tuple(looks[number]), explosions.get(number))
        for number, (rate, verdict) in enumerate(zip(RATES, verdicts, strict=True))
    ]
    needed = (1 - MOVES) * min(guessing, initial_loss)
    return RateSearch(tuple(trials), made, needed, asked=steps if made < steps else None)


def at_a_constant_rate(config: StudyConfig, epochs: int) -> StudyConfig:
    """With hardly any regularization, by labels alone, with accuracy as the measure; without warm-up, which is long."""
    train = {"reg": SMALL_REG, "l1": 0.0, "epochs": epochs, "lr_schedule": "exponential", "lr_decay": 1.0}
    train |= {"metric": ACCURACY.name, "warmup": 0.0, "ema": 0.0, "teacher": None, "distill": 0.0}
    return config.model_copy(update={"train": config.train.model_copy(update=train)})


def rate_finding(search: RateSearch, config: StudyConfig, *, of_head: bool = False) -> Finding:
    """The rough range as a check; it stops nothing, since a net may need more steps to get going.

    `of_head`: whether these are rates of a head on features of a frozen body.
    """
    steps, verdicts = search.steps, [(trial.lr, trial.verdict) for trial in search.trials]
    found = rough_range(verdicts)
    measured: dict[str, Any] = {"steps": steps, "needed": four_digits(search.needed)}
    measured["rates"] = [trial.as_dict() for trial in search.trials]
    cut = ""
    if search.asked is not None:
        measured["asked_steps"] = search.asked
        cut = f" (there was time for {steps} of {search.asked} steps of each)"
    whose = {"of": "the head, its body frozen"} if of_head else {}
    measured |= whose
    if found is None:
        text = f"no rate {'of the head ' if of_head else ''}goes down in {steps} steps{cut}"
        return Finding("learning rate", "note", text, rate_advice(verdicts, config), measured)
    down = [rate for rate, verdict in verdicts if verdict == "goes down"]
    too_high = first_too_high(verdicts, down[0])
    above = f"{dict(verdicts)[too_high]} at {too_high:.1e}" if too_high else f"no more above {down[-1]:.1e}"
    measured |= {"low": found.low, "high": found.high, "reason": f"the loss goes down from {down[0]:.1e} on, {above}"}
    text = f"lr {'of the head ' if of_head else ''}from {found.low:.1e} to {found.high:.1e}{cut}"
    return Finding("learning rate", "ok", text, "", measured)


def _few_validation_images(data: TrainingData) -> TrainingData:
    """At most 1,000 validation images, stratified: a hundred steps should not wait for all of them."""
    if len(data.y_val_N) <= MAX_SAMPLE:
        return data
    rows = torch.from_numpy(sample(data.y_val_N.cpu().numpy(), MAX_SAMPLE, seed=0)).to(data.y_val_N.device)
    return replace(data, x_val_NCHW=data.x_val_NCHW[rows], y_val_N=data.y_val_N[rows])
