"""What a pack takes: a few real steps with a learning rate that does no harm, timed apart from the evaluation.

Shapes: N = images, B = batch, C = channels, H = height, W = width.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from hpsearch.config import StudyConfig
from hpsearch.config.data_sources import is_user_code
from hpsearch.datasets.device import TrainingData
from hpsearch.errors import EngineError, HpsearchError
from hpsearch.logs import get_logger
from hpsearch.results import TrialSpec
from hpsearch.training import Pack

Clock = Callable[[], float]

MAX_STEPS = 10  # minibatches in a timed epoch, at most
MIN_STEPS = 3  # or at least
CRUMB = 4  # images of the smallest minibatch: a large net must not take minutes to be known as large
MIN_GROWTH = 2.0  # times the part of a pack that was timed: less is not worth another one
NUM_EVALUATED = 50  # images of each part that a timed epoch evaluates on, at most
# Values that change no verdict on a net, but keep the arithmetic that the search will have.
HARMLESS = {"lr": 1e-12}
HARMLESS_IF_SEARCHED = {
    "reg": 1e-9, "train.l1": 1e-9, "train.weight_decay": 1e-9, "train.label_smoothing": 0.1, "train.focal": 1.0,
    "model.dropout": 0.5, "train.warmup": 1.0, "train.clip_norm": 1.0, "train.ema": 0.5,
    "train.distill": 0.5,
}  # fmt: skip

log = get_logger(__name__)


class TooSlowError(HpsearchError):
    """A way to train that is not worth another step."""


class Candidate(NamedTuple):
    """A way to train."""

    engine: str
    width: int


@dataclass(frozen=True)
class Timing:
    """What a full pack takes on this device."""

    engine: str
    width: int
    """Trials in the pack."""
    step: float
    """Seconds of one minibatch for all of them."""
    evaluation: float
    """Seconds of measuring all of them on one image."""

    def short_epoch(self, num_steps: int) -> float:
        """Seconds of a timed epoch."""
        return num_steps * self.step + 2 * NUM_EVALUATED * self.evaluation

    def scaled(self, factor: float) -> Timing:
        """Of a pack that is so many times as wide, if its time grows with it."""
        if factor == 1:
            return self
        return Timing(self.engine, round(self.width * factor), self.step * factor, self.evaluation * factor)


def harmless(config: StudyConfig, batch_size: int | None = None) -> StudyConfig:
    """A config that trains with the same operations and goes nowhere, for as many epochs as one likes."""
    also = {name: value for name, value in HARMLESS_IF_SEARCHED.items() if name in config.space}
    config = config.with_params({**HARMLESS, **also})
    changed: dict[str, Any] = {"epochs": 1_000_000, "batch_size": batch_size or config.train.batch_size}
    if is_user_code(config.train.metric):  # which may not take a part of the images; this needs all scores, too
        changed["metric"] = "auroc"
    return config.model_copy(update={"train": config.train.model_copy(update=changed)})


@dataclass
class Stopwatch:
    """Moments on one device, taken when it has done what it was told."""

    device: torch.device
    clock: Clock = time.perf_counter
    most_seconds: float = math.inf
    """Of the first step of an epoch."""
    steps_begun: float = 0.0
    last_begun: float = 0.0
    steps_ended: float = 0.0

    def now(self) -> float:
        """Seconds, after the device has caught up."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()
        return self.clock()

    def step(self, num_batches: int) -> float:
        """Seconds of one step but the last, which measures itself: a tenth of a timed epoch, not of a real one."""
        if num_batches == 1:
            return self.steps_ended - self.steps_begun
        return (self.last_begun - self.steps_begun) / (num_batches - 1)


@dataclass(frozen=True, eq=False)
class WatchedData(TrainingData):
    """A part of the images that says when the steps of an epoch began and ended."""

    watch: Stopwatch

    @classmethod
    def part(cls, data: TrainingData, num_images: int, watch: Stopwatch) -> WatchedData:
        """The first images of the training part, and of the hold-out."""
        whole = {each.name: getattr(data, each.name) for each in fields(TrainingData)}
        small = {
            "x_train_NCHW": data.x_train_NCHW[:num_images],
            "y_train_N": data.y_train_N[:num_images],
            "x_val_NCHW": data.x_val_NCHW[: min(num_images, NUM_EVALUATED)],
            "y_val_N": data.y_val_N[: min(num_images, NUM_EVALUATED)],
        }
        return cls(**{**whole, **small}, watch=watch)

    @override
    def stretches(self, num_batches: int, every: int) -> Iterator[range]:
        """The first step and the last by themselves."""
        last = num_batches - 1
        for steps in (range(1), range(1, last), range(max(1, last), num_batches)):
            if steps.start == 0:
                self.watch.steps_begun = self.watch.now()
            if steps.start == last:
                self.watch.last_begun = self.watch.now()
            if steps:
                yield steps
            took = self.watch.now() - self.watch.steps_begun
            if steps.start == 0 and took > self.watch.most_seconds:
                raise TooSlowError(f"its first step took {took:.3g} s, expected were {self.watch.most_seconds:.3g}")
        self.watch.steps_ended = self.watch.now()

    def train_sample(self, num: int = NUM_EVALUATED) -> tuple[Tensor, Tensor]:
        """The first images: which ones they are takes no time."""
        rows_B = torch.arange(min(num, self.num_train), device=self.y_train_N.device)
        return self.train_images(rows_B), self.y_train_N[:num]

    @property
    def num_evaluated(self) -> int:
        """Images that an epoch's end measures."""
        return len(self.train_sample()[1]) + len(self.y_val_N)


@dataclass
class TimedPack:
    """A pack that trains one short epoch after the other; the first one warms up and is not counted.

    Raises:
        EngineError: the engine cannot train this net.
    """

    config: StudyConfig
    data: TrainingData
    engine: str
    width: int
    num_steps: int = MAX_STEPS
    batch_size: int | None = None
    clock: Clock = time.perf_counter
    steps: list[float] = field(default_factory=list)
    evaluations: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        config = harmless(self.config, self.batch_size)
        self.watch = Stopwatch(self.data.x_train_NCHW.device, self.clock)
        self.part = WatchedData.part(self.data, self.num_steps * config.train.batch_size, self.watch)
        self.num_batches = self.part.num_batches(config.train.batch_size)
        specs = [TrialSpec(number) for number in range(self.width)]
        self.pack = Pack(
            config, self.part, specs, engine=self.engine, keeps_best=False, falls_back=self.engine == "auto"
        )
        self.engine = self.pack.engine

    def run_epoch(self, most_seconds: float = math.inf) -> float:
        """Train and measure once; seconds that it took.

        Raises:
            TooSlowError: its first step took longer than `most_seconds`.
        """
        self.watch.most_seconds = most_seconds
        begun = self.watch.now()
        self.pack.run_epoch()
        took = self.watch.now() - begun
        if self.pack.epoch > 1:
            self.steps.append(self.watch.step(self.num_batches))
            trained = self.watch.steps_ended - self.watch.steps_begun
            self.evaluations.append(max(0.0, took - trained) / self.part.num_evaluated)
        return took

    def timing(self) -> Timing:
        """Medians of what was run."""
        return Timing(self.engine, self.width, statistics.median(self.steps), statistics.median(self.evaluations))


def estimate(
    make: Callable[..., TimedPack],
    default: Candidate,
    batch_size: int,
    worth: Callable[[Timing], float],
    most_steps: int,
) -> Timing:
    """The timing of a pack: of a crumb of it first, then of as much of it as is worth it, scaled up to the whole.

    A step of a crumb may be all overhead, hundreds of times what its share of a full step is, so what it says of the
    whole is a bound, by which the next part is chosen. `worth` says how many seconds that one may take.
    """
    width, images, num_steps = 1, min(CRUMB, batch_size), 1
    found: Timing | None = None
    while True:
        part = width * images / (default.width * batch_size)
        try:
            pack = make(Candidate(default.engine, width), num_steps=num_steps, batch_size=images)
            for _ in range(3):
                pack.run_epoch()
        except (RuntimeError, EngineError) as error:
            if found is None:
                raise
            log.info("a pack of %d trials cannot be timed: %s", width, error)
            return found
        # The least, since a stall of the machine in a crumb would be scaled up with it.
        step = min(pack.steps)
        found = Timing(pack.engine, default.width, step / part, min(pack.evaluations) * default.width / width)
        log.info("%d trials, %d images: %s", width, images, found)
        seconds = worth(found)
        affordable = seconds / 2 / step if step > 0 else math.inf
        if part == 1 or affordable < MIN_GROWTH:
            return found
        growth = 1 / part
        if affordable < growth:
            images, before = min(batch_size, int(images * affordable)), images
            width = min(default.width, max(1, int(width * affordable * before / images)))
            growth = width * images / (default.width * batch_size) / part
        else:
            width, images = default.width, batch_size
        num_steps = max(1, min(most_steps, int(seconds / 3 / (step * growth)))) if step > 0 else most_steps
