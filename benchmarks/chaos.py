"""Kill workers and the database at random while a search runs, and see that nothing is lost.

The same search runs once undisturbed and once per seed with faults: SIGKILL of a random worker at random times, and
outages of the database (Postgres: the server is killed and started again after two seconds; SQLite: another program
locks the file as long). Afterwards the invariants hold: the budget exactly, each trial once, none running, and on a CPU
the values of the undisturbed run. Times are from the kill to the moment at which all of the worker's trials are in
another one's hands ("taken") and to the first epoch that one of them reports there ("training"). Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import random
import signal
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.searching import OwnPostgres, Search, Servant, outage_of_sqlite

OUTAGE_SECONDS = 2.0
LOOK_SECONDS = 0.03  # between two looks at the leases: the resolution of the times


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks chaos", description=__doc__.splitlines()[0])
    parser.add_argument("--database", choices=["sqlite", "postgres"], default="sqlite")
    parser.add_argument("--seeds", type=int, default=1, help="disturbed runs")
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--outages", type=int, default=5)
    parser.add_argument("--interval", type=float, default=4.0, help="mean seconds between two kills")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args(arguments)

    with tempfile.TemporaryDirectory(prefix="chaos") as name, Servant(given.database, Path(name)) as servant:
        folder = Path(name)
        quiet = Search(folder / "undisturbed", servant.new_url(), given.trials, given.epochs, given.workers)
        seconds = quiet.run()
        quiet.check()
        runs = [disturb(folder / str(seed), servant, quiet, seed, given) for seed in range(given.seeds)]
    times = {name: sorted(value for run in runs for value in getattr(run, name)) for name in ("taken", "training")}
    print(
        json.dumps(
            {
                "machine": platform.processor() or platform.machine(),
                **vars(given),
                "undisturbed_seconds": round(seconds, 1),
                "kills_done": [run.num_kills for run in runs],
                "outages_done": [run.num_outages for run in runs],
                "finished": [f"{run.num_finished} of {given.trials}" for run in runs],
                "equal_to_undisturbed": [run.equal for run in runs],
                "time_over_undisturbed": [round(run.seconds / seconds, 2) for run in runs],
                **{f"seconds_to_{name}": quantiles(values) for name, values in times.items()},
            },
            indent=2,
        )
    )


@dataclass
class Run:
    """What a disturbed run came to."""

    seconds: float
    num_kills: int
    num_outages: int
    num_finished: int
    equal: bool
    taken: list[float]
    training: list[float]


def disturb(folder: Path, servant: Servant, quiet: Search, seed: int, given: Any) -> Run:
    """One run with faults; raises AssertionError where an invariant does not hold."""
    search = Search(folder, servant.new_url(), given.trials, given.epochs, given.workers)
    start = time.monotonic()
    process = search.start()
    draw = random.Random(seed)
    span = given.kills * given.interval
    outages = sorted(draw.uniform(0.05, 0.95) * span for _ in range(given.outages))
    log = KillLog(search)
    num_outages, begun = 0, None
    next_kill = math.inf
    while process.poll() is None:
        now = time.monotonic()
        if begun is None and search.holders():
            begun, next_kill = now, now + draw.expovariate(1 / given.interval)
        if begun is not None and num_outages < len(outages) and now - begun > outages[num_outages]:
            outage(servant, search)
            num_outages += 1
        log.look()
        if now > next_kill and log.num_kills < given.kills and (workers := sorted(search.holders())):
            log.kill(draw.choice(workers))
            next_kill = now + draw.expovariate(1 / given.interval)
        time.sleep(LOOK_SECONDS)
    seconds = time.monotonic() - start
    search.finished(process)
    search.check()
    finished = sum(state in ("COMPLETE", "PRUNED") for _, state, *_ in search.values())
    equal = search.values() == quiet.values()
    return Run(seconds, log.num_kills, num_outages, finished, equal, log.taken, log.training)


class KillLog:
    """When workers were killed, and when their trials were at work again."""

    def __init__(self, search: Search) -> None:
        self.search = search
        self.num_kills = 0
        self.taken: list[float] = []
        self.training: list[float] = []
        self._untaken: list[tuple[float, dict[int, int]]] = []
        self._untrained: list[tuple[float, dict[int, int]]] = []

    def kill(self, pid: int) -> None:
        """SIGKILL; what the worker held then is followed."""
        held = self.search.held_by(pid)
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self.num_kills += 1
        if held:
            entry = (time.monotonic(), held)
            self._untaken.append(entry)
            self._untrained.append(entry)

    def look(self) -> None:
        """See which of the trials have a new attempt, or are finished, and which of these have reported an epoch."""
        if not self._untrained:
            return
        attempts = self.search.attempts()
        now = time.monotonic()
        for waiting, times, done in (
            (self._untaken, self.taken, lambda n, a: attempts[n].attempt > a or attempts[n].finished),
            (self._untrained, self.training, lambda n, a: attempts[n].reported_after(a)),
        ):
            for entry in list(waiting):
                at, held = entry
                every = all if times is self.taken else any
                if every(done(number, attempt) for number, attempt in held.items()):
                    times.append(now - at)
                    waiting.remove(entry)


def outage(servant: Servant, search: Search) -> None:
    """The database is away for OUTAGE_SECONDS."""
    if isinstance(servant.server, OwnPostgres):
        servant.server.kill()
        time.sleep(OUTAGE_SECONDS)
        servant.server.start()
    else:
        outage_of_sqlite(search.url, OUTAGE_SECONDS)


def quantiles(values: list[float]) -> dict[str, float]:
    """Count, median, p95 and maximum."""
    if not values:
        return {"count": 0}
    p95 = values[min(len(values) - 1, math.ceil(0.95 * len(values)) - 1)]
    found = {"count": len(values), "median": statistics.median(values), "p95": p95, "max": values[-1]}
    return {name: round(value, 2) for name, value in found.items()}
