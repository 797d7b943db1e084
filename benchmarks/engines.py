"""Engines beside a plain PyTorch loop on the reference work: a 3072-50-10 net, batches of 100, SGD with momentum.

All of them train the same trials on the same images in the same process, in turns, so that noise of the machine hits
each alike. Prints JSON: seconds per trial and 50,000 images (median over rounds), and the ratio to the plain loop.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time

import torch

from hpsearch.config import load_settings
from hpsearch.results import TrialSpec
from hpsearch.runtime import num_cores, set_threads
from hpsearch.search.images import load_data
from hpsearch.training import Pack

NUM_IMAGES = 50_000  # of the reference epoch, to which times are scaled


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks engines", description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=8, help="width of the pack")
    parser.add_argument("--images", type=int, default=5000, help="training images in the timed epoch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0, help="0: all cores")
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args(arguments)

    threads = set_threads(given.threads)
    study = {
        "data": {"source": "synthetic", "val": 100, "synthetic": {"train": given.images + 100}},
        "model": {"hidden": [50], "init": "small:1e-4"},
        "train": {"epochs": given.rounds + 1},
        "run": {"threads": given.threads, "device": given.device},
    }
    settings = load_settings(stored=study)
    data = load_data(settings.study, settings.run)
    rates = [10 ** (-3 - 0.1 * number) for number in range(given.trials)]
    specs = [TrialSpec(number, {"lr": rate, "reg": 1e-4}) for number, rate in enumerate(rates)]

    packs = {name: Pack(settings.study, data, specs, engine=name) for name in ("vmap", "loop")}
    plain = [PlainTrial(data, rate, 1e-4) for rate in rates]
    seconds: dict[str, list[float]] = {"plain": [], "vmap": [], "loop": []}
    for round_ in range(given.rounds + 1):
        for name, work in {
            "plain": lambda: [trial.run_epoch() for trial in plain],
            "vmap": packs["vmap"].run_epoch,
            "loop": packs["loop"].run_epoch,
        }.items():
            start = time.perf_counter()
            work()
            if given.device.startswith("cuda"):
                torch.cuda.synchronize()
            if round_:  # the first one warms up
                seconds[name].append((time.perf_counter() - start) / given.trials * NUM_IMAGES / given.images)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    print(
        json.dumps(
            {
                "work": f"3072-50-10, batch 100, momentum, {given.trials} trials, {given.images} images",
                "device": given.device,
                "threads": threads,
                "cores": num_cores(),
                "versions": {"torch": torch.__version__, "python": platform.python_version()},
                "seconds_per_trial_and_50k_images": {name: round(value, 4) for name, value in medians.items()},
                "times_plain": {name: round(medians["plain"] / value, 2) for name, value in medians.items()},
            },
            indent=2,
        )
    )


class PlainTrial:
    """What an expert writes without hpsearch: images in memory, nn.Module, torch.optim."""

    def __init__(self, data, lr: float, reg: float) -> None:
        self.data, self.reg, self.epoch = data, reg, 0
        features = data.x_train_NCHW[0].numel()
        self.net = torch.nn.Sequential(
            torch.nn.Flatten(),
            torch.nn.Linear(features, 50),
            torch.nn.ReLU(),
            torch.nn.Linear(50, data.num_classes),
        ).to(data.x_train_NCHW.device)
        weights = [p for p in self.net.parameters() if p.ndim > 1]
        biases = [p for p in self.net.parameters() if p.ndim == 1]
        groups = [{"params": weights, "weight_decay": reg}, {"params": biases}]
        self.optimizer = torch.optim.SGD(groups, lr=lr, momentum=0.9)

    def run_epoch(self) -> None:
        self.epoch += 1
        for x, y in self.data.batches(0, self.epoch, 100):
            self.optimizer.zero_grad()
            torch.nn.functional.cross_entropy(self.net(x), y).backward()
            self.optimizer.step()
        with torch.no_grad():
            (self.net(self.data.x_val_NCHW).argmax(1) == self.data.y_val_N).float().mean().item()


if __name__ == "__main__":
    main([])
