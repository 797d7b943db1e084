"""Engines beside a plain PyTorch loop and the device's matrix products, on an MLP or LeNet with SGD and momentum.

All of them train the same trials on the same images in the same process, in turns, so that noise of the machine hits
each alike; the products are timed in between. Prints a table, or with --json all figures: medians over the rounds of
the seconds per trial and 50,000 images, times as fast as the plain loop, and the share that an epoch's arithmetic (of
training; evaluation is in the time only) has of the peak: the same device's product of two large square matrices.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
import time
from dataclasses import replace
from functools import partial

import torch

from benchmarks.peers.trainable import lenet
from benchmarks.peers.work import NUM_CLASSES, SHAPE, flop_per_sample
from hpsearch.config import load_settings
from hpsearch.results import TrialSpec
from hpsearch.runtime import num_cores, set_threads
from hpsearch.training import Pack
from hpsearch.training.images import load_images

NUM_IMAGES = 50_000  # of the reference epoch, to which times are scaled
SQUARE = 2048  # rows and columns of the large matrices
BATCH = 100
NETS = {
    "reference": "3072-50-10, batch 100",
    "digits": "64-50-10, batch 100",
    "lenet": "LeNet 6c5-16c5-120-84-10 on 3x32x32, batch 100",
}
ENGINES = {
    "plain": None, "loop": "loop", "vmap": "vmap", "fused": "fused", "loop-bfloat16": "loop", "fused-bfloat16": "fused",
    "fused-best": "fused",  # which also keeps the weights of each trial's best epoch
}  # fmt: skip


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks engines", description=__doc__.splitlines()[0])
    parser.add_argument("--net", choices=NETS, default="reference")
    parser.add_argument("--trials", type=int, nargs="+", default=[8], help="widths of the pack")
    parser.add_argument("--threads", type=int, nargs="+", default=[0], help="0: all cores")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=["plain", "loop", "vmap", "fused"])
    parser.add_argument("--images", type=int, default=5000, help="training images in the timed epoch (not of digits)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    runs = (measure(given, threads, trials) for threads in given.threads for trials in given.trials)
    if given.json:
        versions = {"torch": torch.__version__, "python": platform.python_version()}
        about = {"work": f"{NETS[given.net]}, momentum", "device": given.device, "cores": num_cores()}
        print(json.dumps({**about, "versions": versions, "runs": list(runs)}, indent=2))
        return
    for run in runs:  # each is printed as soon as it is there
        print(f"{NETS[given.net]}: {run['trials']} trials, {run['threads']} threads", end="; GFLOP/s of products: ")
        print(", ".join(f"{name} {speed:.0f}" for name, speed in run["gflops_of_products"].items()))
        print(f"  {'':16}{'s/50k images':>14}{'fastest':>14}{'times plain':>14}{'of the peak':>14}")
        for name, seconds in run["seconds_per_trial_and_50k_images"].items():
            ratio, share = run["times_plain"].get(name, math.nan), run["share_of_peak"][name]
            print(f"  {name:16}{seconds:14.4f}{run['fastest'][name]:14.4f}{ratio:14.2f}{share:14.0%}", flush=True)


def measure(given: argparse.Namespace, threads: int, num_trials: int) -> dict[str, object]:
    """All engines and the products in turns, for one width and number of threads."""
    threads = set_threads(threads)
    source = {"source": "synthetic", "val": 100, "synthetic": {"train": given.images + 100}}
    study = {
        "data": {"source": "digits"} if given.net == "digits" else source,
        "model": {
            "name": "lenet" if given.net == "lenet" else "mlp",
            "hidden": [50],
            "init": "small:1e-4" if given.net == "reference" else "he",
        },
        "train": {"epochs": given.rounds + 1},
        "run": {"threads": threads, "device": given.device},
    }
    settings = load_settings(stored=study)
    data = load_images(settings.study, settings.run)
    rates = [10 ** (-3 - 0.01 * number) for number in range(num_trials)]
    specs = [TrialSpec(number, {"lr": rate, "reg": 1e-4}) for number, rate in enumerate(rates)]

    works = {}
    for name in given.engines:
        if name == "plain":
            as_floats = replace(data, x_train_NCHW=data.train_images())
            trials = [PlainTrial(given.net, as_floats, rate, 1e-4) for rate in rates]
            works[name] = lambda trials=trials: [trial.run_epoch() for trial in trials]
        else:
            config = settings.study.with_params({"train.precision": "bfloat16" if "bfloat16" in name else "float32"})
            works[name] = Pack(config, data, specs, engine=ENGINES[name], keeps_best=name == "fused-best").run_epoch

    num_inputs, num_classes = data.x_train_NCHW[0].numel(), data.num_classes
    rows, inputs, outputs = (BATCH, num_inputs, 50)  # of the first layer
    if given.net == "lenet":
        assert data.x_train_NCHW.shape[1:] == SHAPE
        assert num_classes == NUM_CLASSES
        rows, inputs, outputs = (BATCH * 28 * 28, 5 * 5 * 3, 6)
    shapes = {
        "square": (SQUARE, SQUARE, SQUARE),
        "forward": (rows, inputs, outputs * num_trials),
        "weight gradient": (outputs * num_trials, rows, inputs),
    }
    products = {name: tuple(torch.randn(*shape, device=given.device) for shape in ((m, k), (k, n), (m, n)))
                for name, (m, k, n) in shapes.items()}  # fmt: skip
    seconds: dict[str, list[float]] = {name: [] for name in works}
    speeds: dict[str, list[float]] = {name: [] for name in shapes}
    for round_ in range(given.rounds + 1):
        for name, (left, right, out) in products.items():
            arithmetic = 2 * math.prod(shapes[name])
            repeats = max(1, round(2 * SQUARE**3 / arithmetic))
            took = timed(partial(repeat, repeats, partial(torch.mm, left, right, out=out)), given.device)
            speeds[name] += [arithmetic * repeats / took] if round_ else []
        for name, work in works.items():
            took = timed(work, given.device)
            # the first round warms up
            seconds[name] += [took / num_trials * NUM_IMAGES / data.num_train] if round_ else []
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    peak = statistics.median(speeds["square"])
    # The images need no gradient.
    flop_of_image = flop_per_sample("lenet") if given.net == "lenet" else 50 * (4 * num_inputs + 6 * num_classes)
    flop = NUM_IMAGES * flop_of_image
    return {
        "threads": threads,
        "trials": num_trials,
        "images": data.num_train,
        "rounds": given.rounds,
        "gflops_of_products": {name: round(statistics.median(found) / 1e9, 1) for name, found in speeds.items()},
        "seconds_per_trial_and_50k_images": {name: round(value, 4) for name, value in medians.items()},
        "fastest": {name: round(min(times), 4) for name, times in seconds.items()},
        "times_plain": {
            name: round(medians["plain"] / value, 2) for name, value in medians.items() if "plain" in works
        },
        "share_of_peak": {name: round(flop / value / peak, 3) for name, value in medians.items()},
    }


def repeat(times: int, work) -> None:
    for _ in range(times):
        work()


def timed(work, device: str) -> float:
    start = time.perf_counter()
    work()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - start


class PlainTrial:
    """What an expert writes without hpsearch: images in memory, nn.Module, torch.optim."""

    def __init__(self, net: str, data, lr: float, reg: float) -> None:
        self.data, self.reg, self.epoch = data, reg, 0
        features = data.x_train_NCHW[0].numel()
        mlp = (
            torch.nn.Flatten(),
            torch.nn.Linear(features, 50),
            torch.nn.ReLU(),
            torch.nn.Linear(50, data.num_classes),
        )
        self.net = (lenet() if net == "lenet" else torch.nn.Sequential(*mlp)).to(data.x_train_NCHW.device)
        weights = [p for p in self.net.parameters() if p.ndim > 1]
        biases = [p for p in self.net.parameters() if p.ndim == 1]
        groups = [{"params": weights, "weight_decay": reg}, {"params": biases}]
        self.optimizer = torch.optim.SGD(groups, lr=lr, momentum=0.9)

    def run_epoch(self) -> None:
        self.epoch += 1
        for x, y in self.data.batches(0, self.epoch, BATCH):
            self.optimizer.zero_grad()
            torch.nn.functional.cross_entropy(self.net(x), y).backward()
            self.optimizer.step()
        with torch.no_grad():
            (self.net(self.data.x_val_NCHW).argmax(1) == self.data.y_val_N).float().mean().item()


if __name__ == "__main__":
    main([])
