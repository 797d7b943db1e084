"""The reference search on hpsearch and on what its user would take instead, in turns, in one run.

The search: 50,000 images of 3x32x32, 49,000 to train on and 1,000 to validate with; a 3072-50-10 net (or LeNet-5),
batches of 100, SGD with momentum; lr and reg drawn log-uniformly from ranges in which no trial explodes, since only
hpsearch would stop one. Every way is a command of its own, timed from its start to its end: imports, images, checks,
storage and all. hpsearch trains every trial; peers train some, and their time is extrapolated at the pace of the trials
after the first of each process, so that what is paid once is not scaled.
"""

from __future__ import annotations

import argparse
import math
import shlex
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import machine, pages
from benchmarks.peers import ray_tune, work
from benchmarks.peers.ended import extrapolate
from benchmarks.peers.ways import FLOAT32, OURS, VARIANTS, Timed, run_way
from benchmarks.peers.work import MODELS, Work
from hpsearch.errors import ConfigError, MissingExtraError
from hpsearch.runtime import num_cores

WAYS = {
    OURS: "hpsearch coarse, all left to itself: products in bfloat16 where that is faster",
    FLOAT32: "hpsearch coarse with train.precision=float32, as the others",
    "optuna-dataloader": "Optuna + DataLoader, as in Optuna's PyTorch example",
    "optuna-expert": "Optuna + in-memory loop, one process per core",
    "optuna-expert-bfloat16": "the same under autocast, products in bfloat16",
    "optuna-expert-compiled": "the same in bfloat16 under torch.compile",
    "ray-tune": "Ray Tune, the same loop, as many trials at once as cores",
    "ray-tune-reuse": "Ray Tune, the same, with reuse_actors=True: one process for many trials",
}
LARGE = ("resnet", "vit")  # nets on which an expert would take bfloat16 and torch.compile
PASSES = 7  # over weights, gradients and momentum in one step, at least: 4 reads, 3 writes


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks peers", description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=MODELS, default="mlp")
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--images", type=int, default=50_000, help="one in 50 of them is held out to validate with")
    parser.add_argument("--data", help="npz:FILE with x_train and y_train of 32x32 in colour; made up if not given")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peer-trials", type=int, default=2 * num_cores(), help="trials that peers train")
    parser.add_argument("--processes", type=int, help="of optuna-expert and Ray Tune; all cores on a CPU, 1 on a GPU")
    parser.add_argument("--only", help=f"some of {','.join(WAYS)}")
    parser.add_argument("--engines", nargs="+", default=["auto"], help="of hpsearch, each one a way of its own")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="for hpsearch's command")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("-o", "--output", metavar="FILE.html")
    parser.add_argument("--json", metavar="FILE")
    given = parser.parse_args(arguments)
    given.processes = given.processes or (num_cores() if given.device == "cpu" else 1)
    names, skipped = choose_ways(given.only.split(",") if given.only else None, given.model)
    with tempfile.TemporaryDirectory(prefix="peers") as folder:
        found = compare(given, names, Path(folder), skipped)
    command = shlex.join(["python", "-m", "benchmarks", "peers", *arguments])
    found = {"benchmark": "peers", "command": command, **found, "skipped": skipped}
    print("\n".join(_words(found)), table(found).as_text(), sep="\n\n")
    pages.write(found, page(found), given.json, given.output)


def choose_ways(only: Sequence[str] | None, model: str = "mlp") -> tuple[list[str], dict[str, str]]:
    """Names of the ways that run, and why others do not.

    Raises:
        ConfigError: there is no such way.
        MissingExtraError: one that was asked for is not installed.
    """
    for name in only or ():
        if name not in WAYS:
            raise ConfigError(f"--only {name} is not a way to search.\nAllowed: {', '.join(WAYS)}.")
    names, skipped = list(only or [name for name in WAYS if model in LARGE or name not in VARIANTS]), {}
    on_ray = [name for name in names if name.startswith("ray-tune")]
    try:
        if on_ray:
            ray_tune.require()
    except MissingExtraError as missing:
        if only:
            raise
        names = [name for name in names if name not in on_ray]
        skipped = dict.fromkeys(on_ray, str(missing).replace("\n", " "))
    return names, skipped


def compare(given: argparse.Namespace, names: Sequence[str], folder: Path, skipped: dict[str, str]) -> dict[str, Any]:
    """All ways in turns, the device's peaks before each turn; the expert's variants may turn out not to be had here."""
    images, num_images = folder / "images.npz", given.images
    if given.data:
        num_images = work.write_first_images(images, Path(given.data.removeprefix("npz:")).resolve(), given.images)
    else:
        work.write_random_images(images, given.images)
    num_val = max(num_images // 50, work.NUM_CLASSES)
    search = Work(
        str(images), num_val, given.model, epochs=given.epochs, num_trials=given.trials,
        num_processes=given.processes, device=given.device, **MODELS[given.model],
    )  # fmt: skip
    sets = dict(part.partition("=")[::2] for part in given.set)
    ways = {name: sets for name in names if name != OURS}
    if FLOAT32 in ways:
        ways[FLOAT32] = {**sets, "train.precision": "float32"}
    if OURS in names:
        ours = {OURS if e == "auto" else f"{OURS} ({e})": {**sets, "run.engine": e} for e in given.engines}
        ways = {**ours, **ways}
    about = machine.about("ray")
    peaks, runs = machine.Peaks(given.device), {name: [] for name in ways}
    peer_trials = min(given.peer_trials, given.trials)
    for round_ in range(given.rounds):
        peaks.measure()
        for number, (name, its_sets) in enumerate(ways.items()):
            if name in skipped:
                continue
            try:
                runs[name].append(run_way(name, search, folder / f"{round_}-{number}", peer_trials, its_sets))
            except SystemExit as failed:
                if name not in VARIANTS:
                    raise
                skipped[name] = str(failed).strip().splitlines()[-1]
                del runs[name]
                continue
            print(f"round {round_ + 1}: {name} {runs[name][-1].seconds:.1f} s", file=sys.stderr, flush=True)
    num_train = num_images - num_val
    return {
        "machine": {**about, "load_at_end": machine.load()},
        "work": {
            "model": given.model, "images": num_images, "training_images": num_train, "source": given.data or "random",
            "trials": given.trials, "epochs": given.epochs, "batch_size": search.batch_size, "lr": search.lr,
            "reg": search.reg, "exploded": "none: ranges are such that no trial does", "rounds": given.rounds,
            "flop_per_sample": work.flop_per_sample(given.model), "device": given.device, "processes": given.processes,
        },
        "peaks": peaks.as_dict(),
        "ways": _results(runs, search, num_train, peaks),
    }  # fmt: skip


def _results(
    runs: dict[str, list[Timed]], search: Work, num_train: int, peaks: machine.Peaks
) -> dict[str, dict[str, Any]]:
    steps = search.num_trials * search.epochs * math.ceil(num_train / search.batch_size)
    gflop = 1e-9 * work.flop_per_sample(search.model) * search.num_trials * search.epochs * num_train
    gigabytes = 1e-9 * 4 * PASSES * work.num_parameters(search.model) * steps
    results = {}
    for name, timed in runs.items():
        at_once = 1 if name == "optuna-dataloader" else search.num_processes
        each = [extrapolate(run.seconds, run.trials.ended, at_once, search.num_trials) for run in timed]
        seconds, startup = statistics.median(each), statistics.median(run.startup for run in timed)
        num_run, searching = len(timed[0].trials.ended), max(seconds - startup, 1e-9)
        results[name] = {
            "what": WAYS.get(name, "hpsearch coarse with that engine"),
            "seconds": seconds,
            "seconds_each": each,
            "extrapolated": f"from {num_run} of {search.num_trials} trials" if num_run < search.num_trials else None,
            "seconds_run": statistics.median(run.seconds for run in timed),
            "startup_seconds": startup,
            "trials_per_hour": 3600 * search.num_trials / seconds,
            "gflops": gflop / seconds,
            "share_of_gemm": gflop / seconds / peaks.gflops,
            "share_of_gemm_after_startup": gflop / searching / peaks.gflops,
            "state_gb_s": gigabytes / searching,
            "share_of_copy": gigabytes / searching / peaks.gb_s,
            "best_val_acc": max(max(run.trials.values) for run in timed),
        }
    if OURS in results:
        for each in results.values():
            each["times_hpsearch"] = each["seconds"] / results[OURS]["seconds"]
    return results


def table(found: dict[str, Any]) -> pages.Table:
    """One row per way."""
    head = ["way", "seconds", "times hpsearch", "trials/h", "GFLOP/s", "of GEMM", "after start", "start s", ""]
    rows = []
    for name, way in found["ways"].items():
        ratio = f"{way['times_hpsearch']:.2f}x" if "times_hpsearch" in way else "-"
        cells = [f"{way['seconds']:.1f}", ratio, f"{way['trials_per_hour']:.0f}", f"{way['gflops']:.1f}"]
        cells += [f"{way['share_of_gemm']:.1%}", f"{way['share_of_gemm_after_startup']:.1%}"]
        rows.append([name, *cells, f"{way['startup_seconds']:.1f}", way["extrapolated"] or "all trials"])
    return pages.Table(head, rows)


def _words(found: dict[str, Any]) -> list[str]:
    did, peaks, host = found["work"], found["peaks"], found["machine"]
    lines = [
        f"{did['model']}: {did['trials']} trials x {did['epochs']} epochs, {did['training_images']} training images, "
        f"medians of {did['rounds']} rounds, on {did['device']}",
        f"{host['processor']}, {host['cores']} cores, load {host['load_at_start']} -> {host['load_at_end']}; "
        f"peaks: {peaks['gemm_gflops']:.0f} GFLOP/s of fp32 products, {peaks['copy_gb_s']:.1f} GB/s copied",
    ]
    return lines + [f"{name} was left out: {why}" for name, why in found["skipped"].items()]


def page(found: dict[str, Any]) -> str:
    """Seconds and shares as bars."""
    names = list(found["ways"])
    seconds = pages.figure("Seconds of the whole search (median; whiskers: rounds)", "", "seconds")
    values = [found["ways"][name]["seconds"] for name in names]
    above = [max(found["ways"][name]["seconds_each"]) - value for name, value in zip(names, values, strict=True)]
    below = [value - min(found["ways"][name]["seconds_each"]) for name, value in zip(names, values, strict=True)]
    errors = {"type": "data", "array": above, "arrayminus": below, "symmetric": False}
    seconds.add_bar(x=names, y=values, error_y=errors, text=[f"{value:.0f} s" for value in values])
    shares = pages.figure("Share of the measured peak", "", "share of fp32 GEMM")
    for key, label in (("share_of_gemm", "from start to end"), ("share_of_gemm_after_startup", "after the start")):
        shares.add_bar(name=label, x=names, y=[found["ways"][name][key] for name in names])
    shares.update_yaxes(tickformat=".0%")
    notes = [f"{name}: {way['what']}." for name, way in found["ways"].items()]
    return pages.render("The reference search, side by side", found, [
        *_words(found), table(found), seconds, shares, *notes, " ".join(__doc__.split("\n\n", 1)[1].split()),
    ])  # fmt: skip
