"""What all rows have in common: device, sizes, images, the end of the time; and how a step is made of them.

Shapes: N = images, C = channels, H, W = image height and width.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import torch

from benchmarks.gpu.turns import Run, Way
from benchmarks.peers.step import Step
from hpsearch.config import StudyConfig, load_settings
from hpsearch.datasets.device import MAX_SAMPLE, TrainingData
from hpsearch.models import build_initialized
from hpsearch.training.images import load_images
from hpsearch.tuning.choosing import Workload
from hpsearch.tuning.timing import HARMLESS, Stopwatch, TimedPack

MODELS: dict[str, dict[str, Any]] = {
    "mlp": {"name": "mlp", "hidden": [50], "init": "small:1e-4"},
    "lenet": {"name": "lenet"},
    "resnet": {"name": "resnet", "depth": 18},
    "vit": {"name": "benchmarks.nets:vit"},
    "convnet": {"name": "benchmarks.nets:convnet"},
    "own convnet": {"name": "convnet"},  # hpsearch's
}


@dataclass(frozen=True)
class Sizes:
    """How large everything is."""

    trials: int
    epochs: int
    train: int
    val: int
    batch: int
    side: int
    """Height and width of an image."""
    widths: tuple[int, ...]
    """Of packs of large nets."""
    steps: int
    """In one timed run of a small net, at most; of a large net as many as make `trial_steps`."""
    trial_steps: int
    rounds: int
    most_width: int
    """At which memory is looked at; hpsearch takes no wider packs by itself."""
    expected: bool = True
    """Whether rows take about the seconds that they say."""
    nets: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What nets have in place of their own values."""

    @property
    def steps_per_epoch(self) -> int:
        return self.train // self.batch


SIZES = {
    "full": Sizes(100, 5, 49_000, 1_000, 100, 32, (1, 4, 8), 50, 32, 3, 128),
    # Whether everything runs; no figure of it means anything.
    "smoke": Sizes(
        4, 1, 80, 20, 4, 8, (1, 2), 6, 12, 1, 2, False,
        {
            "resnet": {"depth": 8},
            "vit": {"options": {"width": 16, "depth": 1, "heads": 2}},
            "convnet": {"options": {"widths": [4, 8]}},
        },
    ),
}  # fmt: skip
MIN_STEPS = 6  # the graph engine does three steps as they are before it records one


@dataclass
class Bench:
    """One run of the benchmark."""

    device: torch.device
    sizes: Sizes
    seconds: float
    """After these no row is begun, and none begins another round."""
    folder: Path
    clock: Callable[[], float] = time.perf_counter
    compile_seconds: float = 0.0
    """The longest that torch.compile took so far."""

    def __post_init__(self) -> None:
        self._begun = self.clock()

    def left(self) -> float:
        return self.seconds - (self.clock() - self._begun)

    def is_over(self) -> bool:
        return self.left() <= 0

    @cached_property
    def watch(self) -> Stopwatch:
        return Stopwatch(self.device, self.clock)

    def study(self, model: str, precision: str = "float32") -> StudyConfig:
        """Synthetic images of CIFAR-10's shape, enough for the timed steps; momentum, L2."""
        sizes = self.sizes
        num_train = max(sizes.steps, MIN_STEPS) * sizes.batch
        synthetic = {"shape": [3, sizes.side, sizes.side], "train": num_train + 100, "test": 10}
        document = {
            "data": {"source": "synthetic", "val": 100, "synthetic": synthetic},
            "model": MODELS[model] | sizes.nets.get(model, {}),
            "train": {"batch_size": sizes.batch, "optimizer": "momentum", "precision": precision},
            "space": {"lr": {"log": [1e-6, 1e-4]}, "reg": {"log": [1e-5, 1e-1]}},
            "run": {"device": str(self.device), "threads": torch.get_num_threads()},
        }
        settings = load_settings(document=document)
        if not hasattr(self, "_images"):
            self._images = load_images(settings.study, settings.run)
        return settings.study

    @property
    def images(self) -> TrainingData:
        """Those of all studies."""
        return self._images

    def workload(self) -> Workload:
        """The whole search of small nets."""
        sizes = self.sizes
        evaluated = min(MAX_SAMPLE, sizes.train) + sizes.val
        return Workload(sizes.trials, sizes.epochs, sizes.steps_per_epoch, evaluated)

    def steps(self, width: int) -> int:
        """In one timed run of a large net."""
        return max(MIN_STEPS, self.sizes.trial_steps // width)

    def engine(self, model: str, engine: str, precision: str, width: int, num_steps: int | None = None) -> Way:
        """Steps of a pack, as hpsearch times its own."""

        def make() -> Run:
            config = self.study(model, precision)
            pack = TimedPack(config, self.images, engine, width, num_steps or self.steps(width), clock=self.clock)
            return PackRun(pack)

        return Way(engine, make, precision, width)

    def limited(self, way: Way, name: str, module: ModuleType, limit: str, value: int) -> Way:
        """The same with another limit of a module: what it is worth."""

        def make() -> Run:
            with patch.object(module, limit, value):
                run = way.make()
            return partial(patch.object(module, limit, value)(run))

        return replace(way, name=name, make=make)

    def expert(self, model: str, precision: str, num_steps: int | None = None, compile_mode: str | None = None) -> Way:
        """The same net in an expert's loop: one trial."""

        def make() -> Run:
            config, data = self.study(model, precision), self.images
            net = build_initialized(config.model, data.shape, data.num_classes, config.train.seed).float()
            step = Step(net, self.device, HARMLESS["lr"], 1e-9, precision=precision, compile_mode=compile_mode)
            num_images = (num_steps or self.steps(1)) * self.sizes.batch
            x_NCHW, y_N = step.placed(data.train_images()[:num_images]), data.y_train_N[:num_images]

            def run() -> float:
                begun = self.watch.now()
                for x, y in step.batches(x_NCHW, y_N, self.sizes.batch):
                    step(x, y)
                return (self.watch.now() - begun) * self.sizes.batch / num_images

            return run

        name = f"expert, torch.compile {compile_mode}" if compile_mode else "expert"
        return Way(name, make, precision, is_peer=compile_mode is None)


@dataclass
class PackRun:
    """A pack's short epochs; the evaluation at their end is apart from the steps."""

    pack: TimedPack

    def __call__(self) -> float:
        """Seconds of one step; the first epoch warms up, and nothing is kept of it."""
        self.pack.run_epoch()
        return self.pack.steps[-1] if self.pack.steps else 0.0

    @property
    def evaluation(self) -> float:
        """Seconds in which all trials are measured on one image."""
        return statistics.median(self.pack.evaluations)
