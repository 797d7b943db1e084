"""How much of a worker's time is no training: what the control plane takes from a search of the reference's shape."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks import pages
from benchmarks.peers.work import MODELS, Work, write_random_images
from hpsearch.config import load_settings
from hpsearch.config.schema import SAMPLERS
from hpsearch.search.stage_run import run_stage
from hpsearch.stages.planning import plan_coarse
from hpsearch.storage import Queue, open_database
from hpsearch.training import Pack
from hpsearch.training.images import load_images
from hpsearch.worker.worker import Worker


@dataclass
class Spent:
    """Seconds of one worker, measured from outside."""

    worker: float = 0.0
    """From taking its first trial to its last result in the database."""
    training: float = 0.0
    """In its packs' epochs: steps and evaluations."""
    num_packs: int = 0
    writing: float = 0.0
    """CPU time of writing results, most of it in a thread beside the training."""

    @property
    def share(self) -> float:
        return 1 - self.training / self.worker


@contextmanager
def watched() -> Iterator[Spent]:
    """What a worker spends that runs in this process meanwhile; packs that are timed before it begins do not count."""
    spent = Spent()
    working = False

    def add(name: str, call: Callable[..., Any], clock: Callable[[], float]) -> Callable[..., Any]:
        def timed(*arguments: Any, **options: Any) -> Any:
            start = clock()
            try:
                return call(*arguments, **options)
            finally:
                setattr(spent, name, getattr(spent, name) + working * (clock() - start))

        return timed

    def run(worker: Worker) -> None:
        nonlocal working
        working = True
        try:
            work(worker)
        finally:
            working = False

    def run_epoch(pack: Pack) -> Any:
        spent.num_packs += working and pack.epoch == 0
        return train(pack)

    work = add("worker", Worker.run, time.perf_counter)
    train = add("training", Pack.run_epoch, time.perf_counter)
    with (
        mock.patch.object(Worker, "run", run),
        mock.patch.object(Pack, "run_epoch", run_epoch),
        mock.patch.object(Queue, "record", add("writing", Queue.record, time.thread_time)),
        mock.patch.object(Queue, "finish", add("writing", Queue.finish, time.thread_time)),
    ):
        yield spent


def add_options(parser: argparse.ArgumentParser) -> None:
    """Those of this part of the benchmark."""
    parser.add_argument("--control-images", type=int, default=50_000, help="of 3x32x32")
    parser.add_argument("--control-trials", type=int, default=100)
    parser.add_argument("--control-rounds", type=int, default=1)
    parser.add_argument("--samplers", nargs="+", choices=SAMPLERS, default=["random"], help="of the search for control")


def over_samplers(given: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """The share of a whole search in one worker that is not in its packs' epochs, for each sampler."""
    images = folder / "control.npz"
    write_random_images(images, given.control_images)
    work = Work(
        str(images), max(10, given.control_images // 50), given.model, epochs=given.epochs,
        num_trials=given.control_trials, num_processes=1, device=given.device, **MODELS[given.model],
    )  # fmt: skip
    (folder / "control.toml").write_text(work.study_file())
    rows = []
    for sampler in given.samplers:
        rounds = [_search(given, folder, sampler, number) for number in range(given.control_rounds)]
        spent = sorted(rounds, key=lambda each: each.share)[len(rounds) // 2]
        about = {"sampler": sampler, "trials": given.control_trials, "epochs": given.epochs, "packs": spent.num_packs}
        seconds = {"seconds": spent.worker, "training_seconds": spent.training, "writing_cpu_seconds": spent.writing}
        shares = {"share": spent.share, "writing_cpu_share": spent.writing / spent.worker}
        rows.append({**about, **seconds, **shares, "shares": [each.share for each in rounds]})
    return rows


def _search(given: argparse.Namespace, folder: Path, sampler: str, number: int) -> Spent:
    url = f"sqlite:///{folder}/control-{sampler}-{number}.db"
    flags = {
        "run.device": given.device, "run.threads": given.threads, "run.engine": given.engine, "run.storage": url,
        "run.artifact_dir": str(folder / f"control-{sampler}-{number}"), "coarse.sampler": sampler,
    }  # fmt: skip
    settings = load_settings(str(folder / "control.toml"), flags=flags)
    plan = plan_coarse(settings)
    data = load_images(plan.trial_config, settings.run)
    db = open_database(url, create=True)
    with watched() as spent:
        run_stage(db, plan, settings.run, images=data, checks=False)
    db.close()
    return spent


def table(rows: list[dict[str, Any]]) -> pages.Table:
    """A row for each sampler."""
    head = ["sampler", "trials", "packs", "seconds", "training s", "no training", "CPU of writing"]
    cells = []
    for row in rows:
        seconds = [f"{row['seconds']:.2f}", f"{row['training_seconds']:.2f}"]
        shares = [f"{row['share']:.1%}", f"{row['writing_cpu_share']:.1%}"]
        cells.append([row["sampler"], f"{row['trials']}", f"{row['packs']}", *seconds, *shares])
    return pages.Table(head, cells)
