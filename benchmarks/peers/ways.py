"""Every way as a command of its own, as its user starts it, and what the clock on the wall says of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.peers.ended import Ended
from benchmarks.peers.work import Work
from hpsearch.errors import StorageError
from hpsearch.storage import TrialRow, find_study, open_database, read_trials

ROOT = Path(__file__).parents[2]
OURS = "hpsearch"
FLOAT32 = "hpsearch-float32"
# What the expert does otherwise, by the name of the way.
VARIANTS = {
    "optuna-expert-bfloat16": {"precision": "bfloat16"},
    "optuna-expert-compiled": {"precision": "bfloat16", "compile_mode": "default"},
}
ENDS_WHEN_STOPPED = (0, 128 + signal.SIGINT, -signal.SIGINT)


@dataclass(frozen=True)
class Timed:
    """A finished command: from its start to its end, and its trials in between."""

    began: float  # seconds since 1970
    seconds: float
    trials: Ended

    @property
    def startup(self) -> float:
        """Seconds until the first trial began."""
        return self.trials.started - self.began


def run_hpsearch(work: Work, folder: Path, sets: Mapping[str, str] | None = None, options: Sequence[str] = ()) -> Timed:
    """`hpsearch coarse` with its own choices, but for `sets` and `options`; Ctrl-C ends it where time is limited."""
    folder.mkdir(parents=True)
    (folder / "study.toml").write_text(work.study_file())
    words = ["coarse", "-c", "study.toml", "--sampler", work.sampler, *options]
    began, seconds = run_stage(work, folder, words, sets or {}, work.seconds)
    rows = trials_of(folder, "coarse", work.seconds)
    if work.seconds is None:
        exploded_or_failed = [row.number for row in rows if row.state != "COMPLETE"]
        assert not exploded_or_failed, f"trials {exploded_or_failed} did not train to their end: no fair comparison"
    return Timed(began, seconds, Ended.of(first_start(rows, began + seconds), ended_of(rows)))


def run_stage(
    work: Work, folder: Path, words: Sequence[str], sets: Mapping[str, str], seconds: float | None
) -> tuple[float, float]:
    """A command of hpsearch's in `folder`, ended by Ctrl-C after `seconds`: when it began, and how long it took.

    Raises:
        SystemExit: it failed; the end of its log says how.
    """
    command = [sys.executable, "-m", "hpsearch", *words, "--json", "--device", work.device, "--seed", str(work.seed)]
    command += [part for key, value in sets.items() for part in ("--set", f"{key}={value}")]
    return _run(command, folder, seconds)


def trials_of(folder: Path, stage: str, seconds: float | None) -> list[TrialRow]:
    """Those of a stage in `folder`; none where its `seconds` were over before it had made its study."""
    try:
        with closing(open_database(f"sqlite:///{folder}/studies/hpsearch.db")) as db:
            return read_trials(db, find_study(db, stage))
    except StorageError:
        if seconds is None:
            raise
        return []


def ended_of(rows: Sequence[TrialRow]) -> list[tuple[float, float]]:
    """When each trial ended, and its value; one that exploded, or that a rung stopped, ends too, and finds nothing."""
    return [(r.completed.timestamp(), r.value if r.state == "COMPLETE" else 0.0) for r in rows if r.completed]


def first_start(rows: Sequence[TrialRow], otherwise: float) -> float:
    """When the first trial began; `otherwise` where none did."""
    return min((row.started.timestamp() for row in rows if row.started), default=otherwise)


def run_peer(name: str, work: Work, folder: Path) -> Timed:
    """A peer's search, in a process of its own."""
    folder.mkdir(parents=True)
    work.save(folder / "work.json")
    began, seconds = _run([sys.executable, "-m", "benchmarks.peers", name, str(folder)], folder)
    return Timed(began, seconds, Ended(**json.loads((folder / "ended.json").read_text())))


def run_way(name: str, work: Work, folder: Path, num_trials_of_peers: int, sets: Mapping[str, str]) -> Timed:
    """hpsearch does all trials of the work; a peer does `num_trials_of_peers` of them."""
    folder = folder.resolve()
    if name.startswith(OURS):
        return run_hpsearch(work, folder, sets)
    alone = name == "optuna-dataloader"
    part = replace(work, num_trials=num_trials_of_peers, num_processes=1 if alone else work.num_processes)
    part = replace(part, **VARIANTS.get(name, {}))
    return run_peer(name, part, folder)


def _run(command: list[str], folder: Path, stop_after: float | None = None) -> tuple[float, float]:
    """When the command began, and its seconds. Nobody's settings of threads or studies reach it."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("HPSEARCH_", "OMP_", "MKL_"))}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    with (folder / "log").open("ab") as log:
        began, start = time.time(), time.perf_counter()
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            code = process.wait(stop_after)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            code = process.wait(600)
        finally:
            process.kill()
        seconds = time.perf_counter() - start
    allowed = ENDS_WHEN_STOPPED if stop_after is not None else (0,)
    if code not in allowed:
        raise SystemExit(f"{' '.join(command)} failed ({code}):\n{(folder / 'log').read_text()[-3000:]}")
    return began, seconds
