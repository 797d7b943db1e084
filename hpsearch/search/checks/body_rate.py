"""Rates of a net that has trained before: of its new head on a frozen body, and of the body beside a good one of these.

The head's come first, as in gradual unfreezing (Howard & Ruder 2018), on features of a few images, so that all of them
take seconds. Then one pack trains all that the search will train, each trial with another train.body_lr.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from hpsearch.analysis.body_rate_verdicts import FACTORS, BodyVerdict, body_range, judge_body, tries_within
from hpsearch.config import StudyConfig
from hpsearch.config.losses import guessing_loss
from hpsearch.config.net_names import trains_given_body
from hpsearch.datasets.device import TrainingData
from hpsearch.datasets.splits import sample
from hpsearch.results import TrialSpec
from hpsearch.search.checks.findings import Finding, four_digits
from hpsearch.search.checks.learning_rate import FirstBatches, RateSearch, at_a_constant_rate
from hpsearch.training import Pack
from hpsearch.training.features import computed_features, frozen_body
from hpsearch.wording import count_text

NAME = "body rate"
PARAM = "train.body_lr"
BODY_SECONDS = 60.0  # for all factors of the body; a deep net on a CPU gets fewer of them, or none
NUM_TRAIN, NUM_VAL = 1000, 250  # images that these rates are tried on, stratified
LOOKS = 4  # at each curve; each of them measures all images above
PASSES = 3  # a step takes about as long as three passes forward


def has_body_rate(config: StudyConfig) -> bool:
    """Whether a search draws a rate for a body that has trained before."""
    return PARAM in config.space and trains_given_body(dict(config.model))


@dataclass(frozen=True, eq=False)
class FewImages:
    """Some images of a search, and the same as features of the frozen body."""

    images: TrainingData
    features: TrainingData
    seconds: float
    """Of one image in one pass through the body."""


def few_images(config: StudyConfig, data: TrainingData) -> FewImages | None:
    """At most 1,000 training and 250 validation images, not augmented; None where a net has several heads."""
    rows_N, val_N = (
        torch.from_numpy(sample(y_N.cpu().numpy(), min(len(y_N), most), seed=0)).to(y_N.device)
        for y_N, most in ((data.y_train_N, NUM_TRAIN), (data.y_val_N, NUM_VAL))
    )
    few = replace(
        data,
        x_train_NCHW=data.train_images(rows_N),
        y_train_N=data.y_train_N[rows_N],
        x_val_NCHW=data.x_val_NCHW[val_N],
        y_val_N=data.y_val_N[val_N],
        augment=(),
        memory=None,
    )
    body = frozen_body(config, few)
    if body is None:
        return None
    begun = time.monotonic()
    features = computed_features(body, few)
    return FewImages(few, features, (time.monotonic() - begun) / (few.num_train + few.num_val))


def body_finding(
    config: StudyConfig,
    few: FewImages,
    heads: RateSearch,
    *,
    seconds: float = math.inf,
    engine: str = "auto",
    listener: Callable[[str], None] = lambda _what: None,
) -> Finding:
    """Which factors of the body's rate do no worse than a frozen body, at the head's rate with the lowest loss.

    It stops nothing. Batch normalization of a body that trains takes the statistics of its minibatches, that of a
    frozen one stays as it was: that counts, too.

    Args:
        config: of the net, of which more than the head trains.
        few: images.
        heads: rates of the head on features of the same images.
        seconds: for all factors; with less time there are fewer of them, and fewer steps.
        engine: as run.engine.
        listener: hears how far it is.
    """
    good = [trial for trial in heads.trials if trial.verdict == "goes down"]
    if not good:
        text = "body_lr not tried: no rate of the head goes down"
        return Finding(NAME, "note", text, "more steps (--steps)", {"steps": 0})
    lr = min(good, key=lambda trial: trial.looks[-1].val_loss).lr
    step_seconds = PASSES * few.seconds * min(config.train.batch_size, few.images.num_train)
    factors, steps = tries_within(seconds, step_seconds, heads.steps)
    if not factors:
        each = f"{count_text(heads.steps, 'step')} take {heads.steps * step_seconds:.0f} s here, with each factor"
        text = f"body_lr not tried: {each}"
        advice = "body_lr keeps the range that it has; smaller images (data.size) or a GPU take less"
        return Finding(NAME, "note", text, advice, {"steps": 0, "lr": lr})
    begun = time.monotonic()
    trained = try_body_rates(config, few, lr, factors, steps, begun + seconds, engine, listener)
    took = time.monotonic() - begun
    guessing = guessing_loss(config.train.loss, few.images.num_classes)
    verdicts = [(factor, judge_body(trained.losses[factor], trained.frozen, guessing)) for factor in factors]
    found = body_range(verdicts)
    measured: dict[str, Any] = {
        "lr": lr,
        "steps": trained.steps,
        "seconds": four_digits(took),
        "frozen": four_digits(min(trained.frozen[: trained.looks])),
        "rates": [_rate(factor, verdict, trained.losses[factor]) for factor, verdict in verdicts],
    }
    short = _what_is_short(len(factors), trained.steps, heads.steps)
    if found is None:
        text = f"every body_lr does worse than a frozen body at lr {lr:.1e}{short}"
        return Finding(NAME, "note", text, "model.freeze = all, or fewer stages that train, or a lower lr", measured)
    measured |= {"low": found.low, "high": found.high, "reason": _reason(verdicts, found.high, lr)}
    return Finding(NAME, "ok", f"body_lr from {found.low:.1e} to {found.high:.1e} at lr {lr:.1e}{short}", "", measured)


@dataclass(frozen=True)
class BodySearch:
    """Validation losses at each look: of each factor, None where it exploded, and of the frozen body."""

    losses: dict[float, list[float] | None]
    frozen: list[float]
    steps: int
    """That were made; fewer than asked for where the time was over."""
    looks: int
    """So many of them were made on the way."""


def try_body_rates(
    config: StudyConfig,
    few: FewImages,
    lr: float,
    factors: tuple[float, ...],
    steps: int,
    deadline: float,
    engine: str,
    listener: Callable[[str], None],
) -> BodySearch:
    """Train with each factor as one pack, and the head on the frozen body, on the same minibatches."""
    each = max(1, math.ceil(steps / LOOKS))
    config = at_a_constant_rate(config.with_params({"lr": lr}), math.ceil(steps / each))
    batches = each * config.train.accumulate
    head = Pack(config, FirstBatches.of(few.features, batches), [TrialSpec(0)], engine=engine, keeps_best=False)
    frozen: list[float] = []
    while not head.done:
        frozen += [result.val_loss for result in head.run_epoch().results]
    specs = [TrialSpec(number, {PARAM: factor}) for number, factor in enumerate(factors)]
    pack = Pack(config, FirstBatches.of(few.images, batches), specs, engine=engine, keeps_best=False)
    losses: dict[float, list[float] | None] = {factor: [] for factor in factors}
    while not pack.done and (pack.epoch == 0 or time.monotonic() < deadline):
        left = f"{len(pack.numbers)} of {len(factors)} left"
        listener(f"rates of the body, step {pack.epoch * each} of {steps}, {left}")
        report = pack.run_epoch()
        for result in report.results:
            of_factor = losses[factors[result.number]]
            assert of_factor is not None, "a trial that exploded is gone"
            of_factor.append(result.val_loss)
        losses |= {factors[explosion.number]: None for explosion in report.explosions}
    return BodySearch(losses, frozen, pack.epoch * each, pack.epoch)


def _rate(factor: float, verdict: BodyVerdict, losses: list[float] | None) -> dict[str, Any]:
    lowest = {"val_loss": four_digits(min(losses))} if losses else {}
    return {"body_lr": factor, "verdict": verdict, **lowest}


def _what_is_short(num_factors: int, steps: int, wanted: int) -> str:
    """What the time did not allow."""
    parts = [f"{num_factors} of {len(FACTORS)} factors"] if num_factors < len(FACTORS) else []
    parts += [f"{steps} of {count_text(wanted, 'step')}"] if steps < wanted else []
    return f" (in the time: {', '.join(parts)})" if parts else ""


def _reason(verdicts: list[tuple[float, BodyVerdict]], high: float, lr: float) -> str:
    """Why the range is that."""
    too_high = next(((f, v) for f, v in verdicts if f > high and v in ("does worse", "explodes")), None)
    better = [factor for factor, verdict in verdicts if verdict == "does better" and factor <= high]
    gain = f"better from {better[0]:.1e} on" if better else "as well"
    end = f"{too_high[1]} at {too_high[0]:.1e}" if too_high else "no worse up to 1"
    return f"beside a frozen body the net does {gain}, {end}, with lr {lr:.1e}"
