"""What a trial costs as a search grows: in trials, in workers, in the width of a pack.

Trials: training of no length through the queue (taken in packs, an epoch's result written after the other, finished);
then what people and samplers ask of a study of that size: status, best, boundary, report; `history`, which TPE reads
once per process, `look`, which it reads before each pack, and `ask`, one proposal; and the last two as they would be
if each look read all trials, and each proposal learnt from all. Workers: `hpsearch coarse --workers`
as a command, from start to end, and from the first trial's start to the last one's end. Width: one pack in this
process, an epoch after one that warms up. Control: a whole search in one worker of this process; the share of its time,
from taking the first trial to the last result in the database, that is not in its packs' epochs.
"""

from __future__ import annotations

import argparse
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import control, machine, pages
from benchmarks.peers.ways import run_hpsearch
from benchmarks.peers.work import MODELS, Work, flop_per_sample, write_random_images
from hpsearch.analysis.best_trial import best_or_refuse
from hpsearch.analysis.study_trials import read_study
from hpsearch.analysis.summary import stage_summary
from hpsearch.analysis.verdicts import verdicts
from hpsearch.config import FloatRange, StageConfig, load_settings
from hpsearch.report.search_report import make_report
from hpsearch.results import EpochResult, TrialSpec
from hpsearch.runtime import set_threads
from hpsearch.stages.proposals import BEGUN, Mirror
from hpsearch.stages.windowed_storage import NUM_BEST, NUM_NEWEST
from hpsearch.storage import (
    Database,
    NewTrial,
    Outcome,
    Queue,
    StudyRow,
    create_stage,
    new_worker_id,
    open_database,
    read_epochs,
    read_overview,
    read_trials,
)
from hpsearch.training import Pack
from hpsearch.training.images import load_images

SPACE = {"lr": FloatRange(1e-6, 1e-3, log=True), "reg": FloatRange(1e-5, 1e5, log=True)}
ASKED = ("status", "best", "boundary", "report")
SAMPLED = ("history", "look", "ask", "look_all", "ask_all")
NUM_ASKS = 20
NAME = "coarse"
PARTS = ("trials", "workers", "width", "control")
PACK = 8  # trials that the worker of no length takes at once


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks scaling", description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=list(PARTS), help="all if not given")
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 300, 1000, 3000, 10_000])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--worker-trials", type=int, default=16, help="of the search with workers")
    parser.add_argument("--widths", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64, 128])
    parser.add_argument("--threads", type=int, default=1, help="of packs, for width and control; 0: all cores")
    parser.add_argument("--images", type=int, default=5000, help="of 3x32x32, for workers and widths")
    control.add_options(parser)
    parser.add_argument("--model", choices=MODELS, default="mlp")
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("-o", "--output", metavar="FILE.html")
    parser.add_argument("--json", metavar="FILE")
    given = parser.parse_args(arguments)
    measured: dict[str, Callable[[argparse.Namespace, Path], list[dict[str, Any]]]] = {
        "trials": over_trials,
        "workers": over_workers,
        "width": over_width,
        "control": control.over_samplers,
    }
    command = shlex.join(["python", "-m", "benchmarks", "scaling", *arguments])
    found: dict[str, Any] = {"benchmark": "scaling", "command": command, "machine": machine.about()}
    with tempfile.TemporaryDirectory(prefix="scaling") as folder:
        for part in given.only or measured:
            found[part] = measured[part](given, Path(folder).resolve())
    found["machine"]["load_at_end"] = machine.load()
    if "trials" in found:
        found["tpe_window"] = {"best": NUM_BEST, "newest": NUM_NEWEST}
        print(f"ask: TPE learns from the best {NUM_BEST} and the newest {NUM_NEWEST} trials; ask_all: from all\n")
    for part in tables(found):
        print(part.as_text(), end="\n\n")
    pages.write(found, page(found), given.json, given.output)


def over_trials(given: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Milliseconds per trial of the queue, and seconds of each question, for each number of trials."""
    rows = []
    for number in given.trials:
        url = f"sqlite:///{folder}/{number}.db"
        db = open_database(url, create=True)
        start = time.perf_counter()
        study = spend(db, number, given.epochs)
        seconds = time.perf_counter() - start
        db.close()
        asked = {name: _median_of(given.rounds, partial(ask, name, url, study)) for name in ASKED}
        sampled = [sample(url, study) for _ in range(given.rounds)]
        asked |= {name: statistics.median(each[name] for each in sampled) for name in SAMPLED}
        rows.append({"trials": number, "seconds": seconds, "ms_per_trial": 1000 * seconds / number, **asked})
        print(f"{number} trials: {seconds:.1f} s", file=sys.stderr, flush=True)
    return rows


def spend(db: Database, num_trials: int, num_epochs: int) -> StudyRow:
    """Create a stage and take, record and finish all its trials, as a worker does that trains in no time."""
    rng = np.random.default_rng(0)
    drawn = [{"lr": 10 ** rng.uniform(-6, -3), "reg": 10 ** rng.uniform(-5, 5)} for _ in range(num_trials)]
    config = {"coarse": {"trials": num_trials, "epochs": num_epochs}}
    attrs = {"hpsearch.stage": "coarse", "hpsearch.config": config}
    trials = [NewTrial(params, {"structure": "x"}) for params in drawn]
    study = create_stage(db, NAME, "maximize", attrs, SPACE, trials)
    queue = Queue(db, study, new_worker_id())
    while leases := queue.take(PACK):
        best = {lease.number: 0.5 - 0.1 * abs(np.log10(lease.params["lr"]) + 4) for lease in leases}
        for epoch in range(1, num_epochs + 1):
            results = []
            for lease in leases:
                accuracy = float(best[lease.number] * (1 - 0.5**epoch))
                losses = (2.3 * 0.8**epoch, 2.2 * 0.8**epoch, accuracy, 2.25 * 0.8**epoch, accuracy)
                results.append((lease, EpochResult(lease.number, epoch, *losses, 1e-3, lease.params["lr"])))
            assert not queue.record(results)
        assert not queue.finish([Outcome(lease, "COMPLETE", float(best[lease.number])) for lease in leases])
    return study


def ask(what: str, url: str, study: StudyRow) -> float:
    """Seconds of one question, from opening the database on."""
    start = time.perf_counter()
    db = open_database(url)
    match what:
        case "status":
            read_overview(db)
            stage_summary(read_study(db, NAME), epochs=read_epochs(db, study))
        case "best":
            best_or_refuse(read_study(db, NAME))
        case "boundary":
            verdicts(read_study(db, NAME))
        case "report":
            make_report(db, [NAME])
    db.close()
    return time.perf_counter() - start


def sample(url: str, study: StudyRow) -> dict[str, float]:
    """Seconds of what a worker with the sampler TPE does: reads the past once, looks at what is new, asks."""
    db = open_database(url)
    found = {}
    for suffix, windowed in (("", True), ("_all", False)):
        clock = [time.perf_counter()]
        rows = read_trials(db, study)
        last, num_trials = rows[-1], len(rows) + NUM_ASKS
        others = [replace(last, trial_id=0, number=n, state="WAITING", params={}) for n in range(len(rows), num_trials)]
        settings = StageConfig(trials=num_trials, sampler="tpe")
        mirror = Mirror(NAME, SPACE, settings, [*rows, *others], windowed=windowed)
        clock.append(time.perf_counter())
        first = max(0, mirror.first_open - PACK) if windowed else 0  # as if the last pack had just ended
        mirror.learn(read_trials(db, study, BEGUN, first_number=first))
        clock.append(time.perf_counter())
        asks = [_timed(partial(mirror.propose, other.number)) for other in others]
        found["history" + suffix], found["look" + suffix] = (after - before for before, after in pairwise(clock))
        found["ask" + suffix] = statistics.median(asks)
    db.close()
    return {name: found[name] for name in SAMPLED}


def over_workers(given: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Seconds of the same search with each number of workers, in turns."""
    images = folder / "workers.npz"
    write_random_images(images, given.images)
    work = Work(
        str(images), max(10, given.images // 50), given.model, epochs=given.epochs, num_trials=given.worker_trials,
        num_processes=1, device=given.device, **MODELS[given.model],
    )  # fmt: skip
    runs: dict[int, list[Any]] = {number: [] for number in given.workers}
    for round_ in range(given.rounds):
        for number, timed in runs.items():
            options = ["--workers", str(number)]
            sets = {"run.engine": given.engine}
            timed.append(run_hpsearch(work, folder / f"workers-{number}-{round_}", sets, options))
    rows = []
    for number, timed in runs.items():
        seconds = statistics.median(run.seconds for run in timed)
        training = statistics.median(run.trials.ended[-1] - run.trials.started for run in timed)
        per_trial = {"seconds_per_trial": seconds / given.worker_trials}
        per_trial["seconds_per_trial_while_training"] = training / given.worker_trials
        rows.append({"workers": number, "trials": given.worker_trials, "seconds": seconds, **per_trial})
    return rows


def over_width(given: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Seconds per trial and 50,000 images of one pack of each width, in turns."""
    images = folder / "width.npz"
    write_random_images(images, given.images)
    work = Work(
        str(images), max(10, given.images // 50), given.model, epochs=given.rounds + 1, num_trials=1,
        num_processes=1, device=given.device, **MODELS[given.model],
    )  # fmt: skip
    (folder / "width.toml").write_text(work.study_file())
    flags = {"run.device": given.device, "run.threads": given.threads, "train.epochs": given.rounds + 1}
    settings = load_settings(str(folder / "width.toml"), flags=flags)
    data = load_images(settings.study, settings.run)
    threads = set_threads(given.threads)
    rng = np.random.default_rng(0)
    times: dict[int, list[float]] = {}
    for width in given.widths:
        rates = 10 ** rng.uniform(*np.log10(work.lr), width)
        specs = [TrialSpec(number, {"lr": float(rate), "reg": 1e-4}) for number, rate in enumerate(rates)]
        pack = Pack(settings.study, data, specs, engine=given.engine, keeps_best=False)
        pack.run_epoch()  # the first one warms up
        times[width] = [_timed(pack.run_epoch) for _ in range(given.rounds)]
        assert len(pack.numbers) == width, "a trial exploded"
        del pack
    gflop = 1e-9 * flop_per_sample(given.model) * 50_000
    rows = []
    for width, each in times.items():
        seconds = statistics.median(each) / width * 50_000 / data.num_train
        rows.append({"width": width, "threads": threads, "seconds_per_trial": seconds, "gflops": gflop / seconds})
    return rows


def _timed(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _median_of(rounds: int, seconds: Callable[[], float]) -> float:
    seconds()  # imports, and whatever else is done once
    return statistics.median(seconds() for _ in range(rounds))


def tables(found: dict[str, Any]) -> list[pages.Table]:
    """One per part that was measured."""
    made = []
    if "trials" in found:
        rows = [
            [
                f"{r['trials']}",
                f"{r['seconds']:.2f}",
                f"{r['ms_per_trial']:.2f}",
                *(f"{r[name]:.3f}" for name in (*ASKED, *SAMPLED)),
            ]
            for r in found["trials"]
        ]
        made.append(
            pages.Table(["trials", "seconds", "ms per trial", *(f"{name} s" for name in (*ASKED, *SAMPLED))], rows)
        )
    if "workers" in found:
        keys: Sequence[str] = ("seconds", "seconds_per_trial", "seconds_per_trial_while_training")
        rows = [[f"{r['workers']}", *(f"{r[key]:.3f}" for key in keys)] for r in found["workers"]]
        made.append(pages.Table(["workers", "seconds", "s per trial", "s per trial while training"], rows))
    if "width" in found:
        rows = [[f"{r['width']}", f"{r['seconds_per_trial']:.4f}", f"{r['gflops']:.0f}"] for r in found["width"]]
        made.append(pages.Table(["width", "s per trial and 50k images", "GFLOP/s"], rows))
    if "control" in found:
        made.append(control.table(found["control"]))
    return made


def page(found: dict[str, Any]) -> str:
    """A figure and a table for each part."""
    figures = []
    if "trials" in found:
        numbers = [row["trials"] for row in found["trials"]]
        fig = pages.figure("The control plane", "trials", "milliseconds per trial", log_x=True)
        fig.add_scatter(x=numbers, y=[row["ms_per_trial"] for row in found["trials"]], mode="lines+markers")
        questions = pages.figure("Questions", "trials of the study", "seconds", log_x=True, log_y=True)
        for name in (*ASKED, *SAMPLED):
            questions.add_scatter(x=numbers, y=[row[name] for row in found["trials"]], name=name, mode="lines+markers")
        figures += [fig, questions]
    if "workers" in found:
        fig = pages.figure("Workers", "workers", "seconds per trial")
        for key, name in (("seconds_per_trial", "whole command"), ("seconds_per_trial_while_training", "training")):
            fig.add_bar(
                x=[str(row["workers"]) for row in found["workers"]], y=[r[key] for r in found["workers"]], name=name
            )
        figures.append(fig)
    if "width" in found:
        fig = pages.figure("Width of a pack", "trials in the pack", "seconds per trial and 50,000 images", log_x=True)
        widths, seconds = zip(*((row["width"], row["seconds_per_trial"]) for row in found["width"]), strict=True)
        fig.add_scatter(x=widths, y=seconds, mode="lines+markers")
        figures.append(fig)
    note = " ".join(__doc__.split("\n\n", 1)[1].split())
    return pages.render("What a trial costs as a search grows", found, [*tables(found), *figures, note])
