"""Trials per second of a function of one's own that takes no time: `hpsearch coarse --objective` against Optuna.

Both have as many processes, one study in one database, two hyperparameters drawn at random, one reported value, one
result, in turns in the same run. Ours call the function in a process of its own beside each worker, which can be ended;
Optuna's `study.optimize` calls it where it is. Rates are of the time from the first trial's start to the last one's
end, as the database has them. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

from benchmarks import throughput
from hpsearch.storage import TrialRow, find_study, open_database, read_trials

CODE = """
def objective(params, report):
    report(params["lr"], 1)
    return params["lr"]
"""


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks objective", description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["sqlite", "postgres"])
    given = parser.parse_args(arguments)
    found: dict[str, Any] = {}
    for kind in [given.only] if given.only else ["sqlite", "postgres"]:
        with throughput.database(kind) as new_url:
            found[kind] = compare(new_url, given.workers, given.trials, given.rounds)
    from benchmarks.machine import about  # imports torch, with which Optuna's processes have nothing to do

    print(json.dumps({"machine": about(), **vars(given), **found}, indent=2))


def compare(new_url: Any, workers: int, trials: int, rounds: int) -> dict[str, Any]:
    """Medians over the rounds; each trial was done once, or nothing is said."""
    rates: dict[str, list[float]] = {"hpsearch": [], "optuna": []}
    commands = []
    for _ in range(rounds):
        url = new_url()
        commands.append(search(url, workers, trials))
        rates["hpsearch"].append(rate(url, "coarse", trials))
        url, each = new_url(), trials // workers
        throughput.run(optimize, throughput.create_for_optuna, url, workers, each * workers, each)
        rates["optuna"].append(rate(url, "s", each * workers))
    medians = {name: statistics.median(values) for name, values in rates.items()}
    return {
        "trials_per_second": {name: round(value, 1) for name, value in medians.items()},
        "over_optuna": round(medians["hpsearch"] / medians["optuna"], 2),
        "seconds_of_the_command": round(statistics.median(commands), 1),
    }


def search(url: str, workers: int, trials: int) -> float:
    """Seconds of the whole command, with the start of all its processes."""
    with tempfile.TemporaryDirectory(prefix="objective") as folder:
        (Path(folder) / "bench.py").write_text(CODE)
        words = ["coarse", "--objective", "bench:objective", "--trials", str(trials), "--workers", str(workers), "-q"]
        space = ["--space", "lr=log(1e-6,1e-3)", "--space", "reg=log(1e-5,1e5)"]
        roots = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "HPSEARCH_STORAGE": url, "PYTHONPATH": os.pathsep.join(roots)}
        command = [sys.executable, "-m", "hpsearch", *words, *space]
        start = time.perf_counter()
        subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - start


def optimize(url: str, barrier: Any, taken: Any, num_trials: int) -> None:
    """As many trials by Optuna; it waits for SQLite's lock as long as we do, else it gives up beside seven others."""
    import optuna

    warnings.simplefilter("ignore")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    address = url.replace("postgresql:", "postgresql+psycopg:", 1)
    waits = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {}
    storage = optuna.storages.RDBStorage(address, engine_kwargs=waits)
    barrier.wait()
    barrier.wait()
    numbers: list[int] = []
    try:
        study = optuna.load_study(study_name="s", storage=storage, sampler=optuna.samplers.RandomSampler())

        def objective(trial: Any) -> float:
            lr, _ = trial.suggest_float("lr", 1e-6, 1e-3, log=True), trial.suggest_float("reg", 1e-5, 1e5, log=True)
            trial.report(lr, 1)
            numbers.append(trial.number)
            return float(lr)

        study.optimize(objective, n_trials=num_trials)
    finally:
        taken.put(numbers)  # else whoever waits for it waits for ever


def rate(url: str, study: str, trials: int) -> float:
    """Trials a second, after checking that each has been done once."""
    db = open_database(url)
    rows = read_trials(db, find_study(db, study))
    db.close()
    assert [row.number for row in rows] == list(range(trials)), "a trial is missing, or there is one too many"
    assert all(row.state == "COMPLETE" and row.value == row.params["lr"] == row.intermediate[1] for row in rows)
    return trials / _seconds(rows)


def _seconds(rows: list[TrialRow]) -> float:
    started = min(row.started for row in rows if row.started is not None)
    return (max(row.completed for row in rows if row.completed is not None) - started).total_seconds()
