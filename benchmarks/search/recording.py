"""`python -m benchmarks record`: a table of real trainings, made once, that searches can be asked about for nothing.

A small convnet, or the net of one hidden layer of the lectures, is trained on CIFAR-10's images at half their size, by
hpsearch's own packs, with values that fill the space evenly. What is kept is what each has reached after each epoch,
and where it exploded.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine
from hpsearch.storage import find_study, open_database, read_epochs, read_trials

RECORDED = Path(__file__).parent.parent / "recorded"
EXPLODED = 65535  # in place of a count, from the epoch on in which the training exploded
SIDE = 16  # pixels; CIFAR-10's images have 32
STUDY = """
[data]
source = "npz:{images}"
val = {val}
normalize = "channel"
[model]
{model}
[train]
batch_size = 50
lr_schedule = "cosine"
precision = "float32"
[space]
lr = {{ log = [1e-5, 1.0] }}
reg = {{ log = [1e-6, 1.0] }}
optimizer = {{ choice = ["momentum", "adam", "rmsprop"] }}
momentum = {{ uniform = [0.5, 0.99], when = {{ "train.optimizer" = "momentum" }} }}
label_smoothing = {{ uniform = [0.0, 0.3] }}
dropout = {{ uniform = [0.0, 0.6] }}
[coarse]
trials = {configs}
epochs = {epochs}
sampler = "qmc"
[run]
keep = "none"
width = {width}
"""
CONVNET = """name = "convnet"
channels = [8, 16, 32]
stride = 2
pool = "none"
batch_norm = true
hidden = []"""
MLP = """name = "mlp"
hidden = [64]
init = 'he'"""
MODELS = {"convnet": CONVNET, "mlp": MLP}
SPACE = {  # as the study above has it; momentum goes with the optimizer momentum alone
    "lr": {"log": [1e-5, 1.0]},
    "reg": {"log": [1e-6, 1.0]},
    "optimizer": {"choice": ["momentum", "adam", "rmsprop"]},
    "momentum": {"uniform": [0.5, 0.99], "when": {"optimizer": ["momentum"]}},
    "label_smoothing": {"uniform": [0.0, 0.3]},
    "dropout": {"uniform": [0.0, 0.6]},
}


@dataclass(frozen=True)
class Recording:
    """N configurations, E epochs.

    Attributes:
        params: by hyperparameter, N values; NaN where it does not apply, places in the list where it is a choice.
        counts: N x E, validation images that were right after each epoch; EXPLODED from an explosion on.
        about: space, number of validation images, command, versions, processor.
    """

    params: dict[str, np.ndarray]
    counts: np.ndarray
    about: dict[str, Any]

    def save(self, file: Path) -> None:
        """A few kB."""
        columns = {f"param_{name}": values.astype(np.float32) for name, values in self.params.items()}
        about = np.frombuffer(json.dumps(self.about).encode(), dtype=np.uint8)
        np.savez_compressed(file, counts_NE=self.counts.astype(np.uint16), about=about, **columns)

    @classmethod
    def load(cls, file: Path) -> Recording:
        with np.load(file) as kept:
            about = json.loads(kept["about"].tobytes())
            return cls({name: kept[f"param_{name}"] for name in about["space"]}, kept["counts_NE"], about)


def shrink(source: Path, target: Path, num_images: int) -> None:
    """The first images of an .npz file at half their size, as means of four pixels."""
    with np.load(source) as given:
        images_NHWC, labels = given["x_train"][:num_images], given["y_train"][:num_images]
    blocks = images_NHWC.reshape(len(images_NHWC), SIDE, 2, SIDE, 2, 3)
    small = blocks.mean((2, 4)).round().astype(np.uint8)
    np.savez(target, x_train=small, y_train=labels, x_test=small[:20], y_test=labels[:20])  # the test set is not used


def read(url: str, epochs: int, val: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """What was trained, from the database of the search."""
    db = open_database(url)
    study = find_study(db, "coarse")
    trials = sorted(read_trials(db, study), key=lambda trial: trial.number)
    curves = read_epochs(db, study)
    db.close()
    counts = np.full((len(trials), epochs), EXPLODED, dtype=np.uint16)
    params = {name: np.full(len(trials), np.nan) for name in SPACE}
    for row, trial in enumerate(trials):
        for point in curves.get(trial.number, []):
            if point.val_acc is not None and np.isfinite(point.val_acc):
                counts[row, point.epoch - 1] = round(point.val_acc * val)
        if trial.state != "COMPLETE":  # the epoch in which it exploded is measured as well
            (measured,) = np.nonzero(counts[row] != EXPLODED)
            if len(measured) and measured[-1] + 1 < epochs:
                counts[row, measured[-1]] = EXPLODED
        for name, range_ in SPACE.items():
            value = trial.params.get(name, trial.params.get(f"train.{name}", trial.params.get(f"model.{name}")))
            if value is not None:
                params[name][row] = range_["choice"].index(value) if "choice" in range_ else value
    return params, counts


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks record", description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, metavar="npz:FILE", help="CIFAR-10: x_train, y_train, uint8, NHWC")
    parser.add_argument("--model", choices=MODELS, default="convnet")
    parser.add_argument("--configs", type=int, default=512, help="a power of two fills the space evenly")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--train", type=int, default=2000, help="images to train on")
    parser.add_argument("--val", type=int, default=1000, help="images that are counted")
    parser.add_argument("--width", type=int, default=32, help="of the packs")
    parser.add_argument("--folder", default="recording", help="of the search; the same command goes on there")
    parser.add_argument("-o", "--output", type=Path, help="MODEL.npz among the recorded ones, if not given")
    given = parser.parse_args(arguments)
    output = given.output or RECORDED / f"{given.model}.npz"
    folder = Path(given.folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    images = folder / "images.npz"
    if not images.exists():
        shrink(Path(given.data.removeprefix("npz:")), images, given.train + given.val)
    parts: dict[str, Any] = {name: getattr(given, name) for name in ("val", "configs", "epochs", "width")}
    parts["model"] = MODELS[given.model]
    study = STUDY.format(images=images, **parts)
    (folder / "study.toml").write_text(study)
    url = f"sqlite:///{folder}/trials.db"
    options = ["--skip-checks", "--workers", "1", "-q", "--storage", url]
    environment = {**os.environ, "HPSEARCH_RUN__THREADS": "1", "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [sys.executable, "-m", "hpsearch", "coarse", "-c", "study.toml", *options],
        cwd=folder,
        env=environment,
        check=True,
    )
    params, counts = read(url, given.epochs, given.val)
    about = {
        "space": SPACE,
        "val": given.val,
        "study": STUDY.format(images="images.npz", **parts),
        "images": f"the first {given.train + given.val} of CIFAR-10 at {SIDE} x {SIDE} pixels",
        "command": "python -m benchmarks record " + " ".join(arguments),
        "machine": machine.about("hpsearch"),
    }
    Recording(params, counts, about).save(output)
    print(f"{output}: {len(counts)} configurations x {given.epochs} epochs, {output.stat().st_size:,} bytes")
