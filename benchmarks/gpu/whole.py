"""The reference search as a whole: trained in this process, and as the command that its user types."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.turns import Run, Way, as_rows, in_turns
from benchmarks.gpu.work import Bench
from benchmarks.peers.step import Step
from benchmarks.peers.trainable import initialize, mlp
from benchmarks.peers.ways import run_hpsearch
from benchmarks.peers.work import HIDDEN, MODELS, Work, write_random_images
from hpsearch.config import load_settings
from hpsearch.datasets.device import TrainingData
from hpsearch.results import TrialSpec
from hpsearch.training import Pack
from hpsearch.training.choice import default_engine
from hpsearch.training.images import load_images

ROUNDS = 2  # of the whole training; the expert's part of one takes longer than all of hpsearch's


def reference(bench: Bench) -> Work:
    """Its images are random bytes: enough where only time matters."""
    sizes, images = bench.sizes, bench.folder / "images.npz"
    if not images.exists():
        write_random_images(images, sizes.train + sizes.val)
    return Work(
        str(images), sizes.val, "mlp", epochs=sizes.epochs, num_trials=sizes.trials, num_processes=1,
        batch_size=sizes.batch, device=str(bench.device), **MODELS["mlp"],
    )  # fmt: skip


def search(bench: Bench) -> list[dict[str, Any]]:
    """All trials in one pack to their end, evaluations and weights of best epochs included."""
    work = reference(bench)
    flags = {"run.device": work.device, "run.threads": torch.get_num_threads(), "train.epochs": work.epochs}
    settings = load_settings(document=tomllib.loads(work.study_file()), flags=flags)
    study = settings.study
    data = load_images(study, settings.run)
    engine = default_engine("mlp", bench.device)
    ways = [Way("expert", partial(_expert, bench, work, data), is_peer=True)]
    for precision in ("bfloat16", "float32"):
        config = study.with_params({"train.precision": precision})
        ways.append(Way(engine, partial(_whole, bench, config, data, engine), precision))
    rows = as_rows("reference-search", in_turns(ways, ROUNDS, bench.watch.now, bench.is_over))
    for row in rows:
        row["unit"] = "search"
        row["seconds_of_search"] = row.get("median")
    rows[0]["notes"].append(f"one epoch of one trial, times {work.num_trials * work.epochs}")
    return rows


def _expert(bench: Bench, work: Work, data: TrainingData) -> Run:
    net = mlp(data.x_val_NCHW[0].numel(), HIDDEN)
    initialize(net, work.init)
    step = Step(net, bench.device, work.lr[0], work.reg[0])
    x_NCHW = data.train_images()

    def run() -> float:
        begun = bench.watch.now()
        for x, y in step.batches(x_NCHW, data.y_train_N, work.batch_size):
            step(x, y)
        step.accuracy(data.x_val_NCHW, data.y_val_N)
        return (bench.watch.now() - begun) * work.num_trials * work.epochs

    return run


def _whole(bench: Bench, config: Any, data: TrainingData, engine: str) -> Run:
    work = bench.sizes
    (least_lr, most_lr), (least_reg, most_reg) = MODELS["mlp"]["lr"], MODELS["mlp"]["reg"]
    parts = torch.linspace(0, 1, work.trials, dtype=torch.float64).tolist()
    specs = [
        TrialSpec(i, {"lr": least_lr * (most_lr / least_lr) ** x, "reg": least_reg * (most_reg / least_reg) ** x})
        for i, x in enumerate(parts)
    ]

    def run() -> float:
        pack = Pack(config, data, specs, engine=engine)
        begun = bench.watch.now()
        while not pack.done:
            exploded = pack.run_epoch().explosions
            assert not exploded, f"trials exploded, so less was trained than should be: {exploded}"
        return bench.watch.now() - begun

    return run


def command(bench: Bench) -> list[dict[str, Any]]:
    """The second start of a fresh process; the first one, which reads files that no cache holds yet, is `start`."""
    work, firsts = reference(bench), []

    def search_once() -> float:
        timed = run_hpsearch(work, bench.folder / f"command-{len(firsts)}")
        firsts.append(timed.startup)
        return timed.seconds

    def import_torch() -> float:
        begun = bench.watch.now()
        subprocess.run([sys.executable, "-c", "import torch"], check=True, cwd=Path(os.sep))
        return bench.watch.now() - begun

    ways = [Way("import torch", lambda: import_torch, "-"), Way("hpsearch coarse", lambda: search_once, "auto")]
    rows = as_rows("command", in_turns(ways, 1, bench.watch.now))
    for row in rows:
        row["unit"] = "process"
    if firsts and not rows[1]["refused"]:
        rows[1]["seconds_of_search"] = rows[1]["median"]
        rows[1]["seconds_before_first_trial"] = firsts[-1]
        rows[1]["notes"].append(f"{firsts[-1]:.1f} s of it before the first trial")
    for row in rows:
        row["notes"] += [f"the first start took {row['start_seconds']:.1f} s"] if row["start_seconds"] else []
    return rows
