"""Heads on a frozen body: a search over features computed once, against a loop that runs the body in each step."""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torchvision import models

from hpsearch.config import DataConfig, ModelConfig, RunConfig, StudyConfig, TrainConfig
from hpsearch.datasets.device import TrainingData
from hpsearch.results import TrialSpec
from hpsearch.training import Pack
from hpsearch.training.images import load_images

WIDTH = 25  # heads in a pack
SIZE = 32  # pixels a side


@dataclass(frozen=True)
class Times:
    """Seconds."""

    net: str
    trials: int
    features: float
    """Until the images are features; a second search takes them from the cache."""
    heads: float
    """Training all heads on them."""
    loop: float
    """Training all of them behind the body, from those that were timed."""

    @property
    def factor(self) -> float:
        """How many times as fast a first search is."""
        return self.loop / (self.features + self.heads)


def measure(net: str, trials: int, timed: int, images: int, epochs: int, folder: Path) -> Times:
    """Train `trials` heads at different rates, and `timed` of them through the body."""
    weights = folder / "weights.pt"
    torch.save(getattr(models, net)().state_dict(), weights)
    synthetic = {"shape": (3, SIZE, SIZE), "train": images}
    config = StudyConfig(
        data=DataConfig(source="synthetic", synthetic=synthetic),
        model=ModelConfig(name=f"torchvision:{net}", weights=str(weights), freeze="all"),
        train=TrainConfig(epochs=epochs, precision="float32"),
    )
    run = RunConfig(data_dir=str(folder / "data"), device="cpu", threads=1)
    data = load_images(config, run, as_features=False)
    start = time.perf_counter()
    features = load_images(config, run)
    computed = time.perf_counter() - start
    specs = [TrialSpec(number, {"lr": 10 ** (-4 + 3 * number / trials)}) for number in range(trials)]
    heads = sum(_train(config, features, specs[first : first + WIDTH], "auto") for first in range(0, trials, WIDTH))
    loop = _train(config, data, specs[:timed], "loop") * trials / timed
    return Times(net, trials, computed, heads, loop)


def _train(config: StudyConfig, data: TrainingData, specs: Sequence[TrialSpec], engine: str) -> float:
    start = time.perf_counter()
    pack = Pack(config, data, specs, engine=engine, keeps_best=False)
    while not pack.done:
        pack.run_epoch()
    return time.perf_counter() - start


def main(arguments: Sequence[str]) -> None:
    """`python -m benchmarks heads`: times in seconds, and the factor, as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks heads", description=__doc__)
    parser.add_argument("--net", default="resnet18", help="of torchvision")
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--timed", type=int, default=2, help="trials that are trained behind the body")
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--epochs", type=int, default=5)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        times = measure(given.net, given.trials, given.timed, given.images, given.epochs, Path(folder))
    print(json.dumps({**asdict(times), "factor": times.factor}))
