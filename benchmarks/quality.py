"""The best validation accuracy that a search has found, against the seconds since its command was started.

hpsearch, random, TPE and successive halving with packs, and whole searches, coarse and then fine, with rungs and
without, beside Optuna with the loop of an expert: random and TPE with one process per core, and TPE one trial after
another in one process. All have the same images, split, net, ranges and epochs, and the same wall-clock, from the start
of the process; each trial counts when its search's storage says that it has ended. One that exploded, or has not seen
all epochs, finds nothing. All are repeated over seeds, in turns. Exploding trials cost the peers their full time:
stopping them is hpsearch's own doing.
"""

from __future__ import annotations

import argparse
import shlex
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import machine, pages
from benchmarks.peers.ways import Timed, run_hpsearch, run_peer
from benchmarks.peers.work import MODELS, Work, write_first_images, write_random_images
from benchmarks.stages_in_time import FINE_TRIALS, STAGES, Budget, run_stages
from hpsearch.config import load_settings
from hpsearch.errors import ConfigError
from hpsearch.runtime import num_cores
from hpsearch.training.images import load_images

WAYS: dict[str, dict[str, Any]] = {
    "hpsearch-random": {"sampler": "random"},
    "hpsearch-tpe": {"sampler": "tpe"},
    "hpsearch-halving": {"sampler": "random"},
    **{name: {} for name in STAGES},  # with samplers of their own
    "optuna-random": {"sampler": "random"},
    "optuna-tpe": {"sampler": "tpe"},
    "optuna-tpe-sequential": {"sampler": "tpe", "num_processes": 1},
}
DIGITS = {"lr": (1e-5, 1.0), "reg": (1e-5, 1e5), "normalize": "channel", "scale": 1.0, "init": "he", "lr_decay": 0.95}
CIFAR10 = {
    "mlp": {**MODELS["mlp"], "lr": (1e-6, 1e-3), "reg": (1e-5, 1e5)},  # studies/cifar10-mlp.toml
    "lenet": {**MODELS["lenet"], "lr": (1e-4, 1.0), "reg": (1e-6, 1e-1)},  # studies/cifar10-lenet.toml
}
OPTIONS = {"hpsearch-halving": ["--halving", "promote"]}  # of the command; what counts are trials that saw all epochs
NUM_POINTS = 60  # of a curve


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks quality", description=__doc__.splitlines()[0])
    parser.add_argument("--study", choices=["digits", "cifar10"], default="digits")
    parser.add_argument("--model", choices=list(CIFAR10), default="mlp", help="of cifar10; digits have the mlp alone")
    parser.add_argument("--data", help="npz:FILE for cifar10, as for peers; made up (and not learnable) if not given")
    parser.add_argument("--images", type=int, default=50_000, help="of cifar10")
    parser.add_argument("--seconds", type=float, default=15.0, help="of each search")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument(
        "--epochs-budget", type=int, metavar="B",
        help="of whole searches: epochs of coarse over all trials; a third of all epochs if not given",
    )  # fmt: skip
    parser.add_argument(
        "--fine-trials", type=int, metavar="N",
        help=f"of whole searches: trials of fine; two thirds of all epochs if only B is given, else {FINE_TRIALS}",
    )  # fmt: skip
    parser.add_argument("--most-trials", type=int, default=2000, help="budget of hpsearch, which the time cuts short")
    parser.add_argument("--processes", type=int, default=num_cores())
    parser.add_argument("--sequential-threads", type=int, default=1, help="of optuna-tpe-sequential")
    parser.add_argument("--only", help=f"some of {','.join(WAYS)}")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="for hpsearch's command")
    parser.add_argument("-o", "--output", metavar="FILE.html")
    parser.add_argument("--json", metavar="FILE")
    given = parser.parse_args(arguments)
    names = given.only.split(",") if given.only else list(WAYS)
    for name in names:
        if name not in WAYS:
            raise ConfigError(f"--only {name} is not a way to search.\nAllowed: {', '.join(WAYS)}.")
    if given.study == "digits" and given.model != "mlp":
        raise ConfigError(f"--model {given.model} does not fit --study digits.\nAllowed: mlp, or --study cifar10.")
    with tempfile.TemporaryDirectory(prefix="quality") as folder:
        found = compare(given, names, Path(folder).resolve())
    command = shlex.join(["python", "-m", "benchmarks", "quality", *arguments])
    found = {"benchmark": "quality", "command": command, **found}
    did = found["work"]
    print(f"{did['study']}, {did['model']}: best val_acc after {given.seconds:g} s, {given.seeds} seeds")
    print(table(found).as_text())
    pages.write(found, page(found), given.json, given.output)


def compare(given: argparse.Namespace, names: Sequence[str], folder: Path) -> dict[str, Any]:
    work = _work(given, folder)
    about, sets = machine.about(), dict(part.partition("=")[::2] for part in given.set)
    runs: dict[str, list[Timed]] = {name: [] for name in names}
    for seed in range(given.seeds):
        for name in names:
            own = replace(work, seed=seed, **WAYS[name])
            runs[name].append(_run(name, own, given, folder / f"{name}-{seed}", sets))
            best = max(runs[name][-1].trials.values, default=0.0)
            print(f"seed {seed}: {name} {best:.4f}", file=sys.stderr, flush=True)
    grid = np.linspace(0, given.seconds, NUM_POINTS + 1)[1:]
    return {
        "machine": {**about, "load_at_end": machine.load()},
        "work": {
            "study": given.study, "model": given.model, "source": given.data or given.study,
            "epochs": given.epochs, "lr": work.lr, "reg": work.reg, "seconds": given.seconds, "seeds": given.seeds,
            "processes": work.num_processes, "whole_searches": asdict(_budget(given)),
        },
        "seconds": [round(float(second), 3) for second in grid],
        "ways": {
            name: _summary([best_so_far(run, grid) for run in timed], timed, given.seconds)
            for name, timed in runs.items()
        },
    }  # fmt: skip


def _run(name: str, work: Work, given: argparse.Namespace, folder: Path, sets: dict[str, str]) -> Timed:
    if name.startswith("hpsearch"):
        ours = replace(work, images=str(Path(work.images).with_name("ours.npz")))
        if name in STAGES:
            return run_stages(ours, folder, STAGES[name](_budget(given)), sets)
        return run_hpsearch(ours, folder, sets, OPTIONS.get(name, ()))
    threads = given.sequential_threads if work.num_processes == 1 else max(1, num_cores() // work.num_processes)
    return run_peer("optuna-expert", replace(work, threads=threads), folder)


def _budget(given: argparse.Namespace) -> Budget:
    return Budget.of(given.epochs, given.epochs_budget, given.fine_trials)


def _work(given: argparse.Namespace, folder: Path) -> Work:
    """The search, and two files of the same images: ours.npz raw, peers.npz split and normalized by hpsearch."""
    ours, peers = folder / "ours.npz", folder / "peers.npz"
    if given.study == "digits":
        from hpsearch.datasets.embedded import Digits

        images = Digits().load_train()
        np.savez(ours, x_train=images.x, y_train=images.y)
        num_val, ranges, num_images = len(images.y) // 5, DIGITS, len(images.y)
    else:
        num_images = given.images
        if given.data:
            num_images = write_first_images(ours, Path(given.data.removeprefix("npz:")).resolve(), given.images)
        else:
            write_random_images(ours, given.images)
        num_val, ranges = max(10, num_images // 50), CIFAR10[given.model]
    work = Work(
        str(peers), num_val, given.model, epochs=given.epochs, num_trials=given.most_trials,
        num_processes=given.processes, seconds=given.seconds, **ranges,
    )  # fmt: skip
    (folder / "study.toml").write_text(replace(work, images=str(ours)).study_file())
    settings = load_settings(str(folder / "study.toml"))
    data = load_images(settings.study, settings.run.model_copy(update={"device": "cpu"}))
    x_NCHW, y_N = torch.cat([data.train_images(), data.x_val_NCHW]), torch.cat([data.y_train_N, data.y_val_N])
    np.savez(peers, x_train=x_NCHW.numpy(), y_train=y_N.numpy())
    return work


def best_so_far(run: Timed, grid: Sequence[float]) -> list[float]:
    """The best value among the trials that had ended by each second; 0 before the first."""
    ended = list(zip((when - run.began for when in run.trials.ended), run.trials.values, strict=True))
    return [max((value for when, value in ended if when <= second), default=0.0) for second in grid]


def _summary(curves: list[list[float]], timed: list[Timed], seconds: float) -> dict[str, Any]:
    """Median and quartiles over the seeds at each second of the grid; trials that ended within the time."""
    low, median, high = (np.quantile(curves, q, axis=0).round(5).tolist() for q in (0.25, 0.5, 0.75))
    return {
        "median": median,
        "quartiles": [low, high],
        "best_each": [curve[-1] for curve in curves],
        "num_trials": statistics.median(sum(t <= run.began + seconds for t in run.trials.ended) for run in timed),
        "startup_seconds": round(statistics.median(run.startup for run in timed), 2),
        "seconds": round(statistics.median(run.seconds for run in timed), 2),
    }


def table(found: dict[str, Any]) -> pages.Table:
    rows = []
    for name, way in found["ways"].items():
        low, high = (quartile[-1] for quartile in way["quartiles"])
        half = way["median"][len(way["median"]) // 2 - 1]
        cells = [f"{way['median'][-1]:.4f}", f"{low:.4f} - {high:.4f}", f"{half:.4f}"]
        cells += [f"{way['num_trials']:.0f}", f"{way['startup_seconds']:.1f}", f"{way['seconds']:.1f}"]
        rows.append([name, *cells])
    return pages.Table(["way", "median best", "quartiles", "at half time", "trials", "start s", "end s"], rows)


def page(found: dict[str, Any]) -> str:
    """Median curves with their quartiles as bands; searches without a trial yet are left out."""
    fig = pages.figure("Best validation accuracy so far (median and quartiles over seeds)", "seconds", "val_acc")
    for index, (name, way) in enumerate(found["ways"].items()):
        colour = pages.COLOURS[index % len(pages.COLOURS)]
        there = [i for i, value in enumerate(way["quartiles"][0]) if value > 0]
        x = [found["seconds"][i] for i in there]
        low, high = ([quartile[i] for i in there] for quartile in way["quartiles"])
        fig.add_scatter(
            x=[*x, *x[::-1]], y=[*high, *low[::-1]], fill="toself", fillcolor=colour, opacity=0.15, mode="none",
            hoverinfo="skip", showlegend=False, legendgroup=name,
        )  # fmt: skip
        median = [way["median"][i] for i in there]
        fig.add_scatter(x=x, y=median, name=name, mode="lines", line={"color": colour, "shape": "hv"}, legendgroup=name)
    worst = [v for way in found["ways"].values() for v in way["median"][len(way["median"]) // 3 :] if v > 0]
    if worst:
        fig.update_yaxes(range=[min(worst) - 0.02, max(worst) + 0.02])
    note = " ".join(__doc__.split("\n\n", 1)[1].split())
    return pages.render("Quality of the search against time", found, [table(found), fig, note])
