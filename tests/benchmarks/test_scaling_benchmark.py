import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import control
from benchmarks.scaling import NAME, spend
from hpsearch.storage import Queue, open_database, read_epochs, read_trials
from hpsearch.training import Pack
from hpsearch.worker.worker import Worker

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_scaling_over_trials_workers_and_width(tmp_path):
    options = ["--trials", "10", "30", "--workers", "1", "--worker-trials", "2", "--widths", "1", "2", "--epochs", "1"]
    options += ["--images", "300", "--rounds", "1", "--json", str(tmp_path / "s.json"), "-o", str(tmp_path / "s.html")]
    options += ["--control-images", "300", "--control-trials", "4", "--samplers", "random", "tpe"]
    command = [sys.executable, "-m", "benchmarks", "scaling", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "s.json").read_text())
    assert [row["trials"] for row in found["trials"]] == [10, 30]
    for row in found["trials"]:
        questions = ("ms_per_trial", "status", "best", "boundary", "report", "history", "look", "ask")
        questions += ("look_all", "ask_all")
        assert all(row[name] > 0 for name in questions)
    [row] = found["workers"]
    assert row["seconds_per_trial"] > row["seconds_per_trial_while_training"] > 0
    assert [row["width"] for row in found["width"]] == [1, 2]
    assert all(row["gflops"] > 0 for row in found["width"])
    assert [row["sampler"] for row in found["control"]] == ["random", "tpe"]
    assert all(0 < row["share"] < 1 and 0 < row["writing_cpu_share"] < 1 for row in found["control"])
    assert (tmp_path / "s.html").read_text().count("Plotly.newPlot(") >= 4


def test_a_worker_is_watched_from_outside(monkeypatch):
    """Two epochs of 0.75 s, and half a second of writing, by a clock of the test's own."""
    now = 0.0

    def passes(seconds):
        def call(_self, *_arguments, **_options):
            nonlocal now
            now += seconds

        return call

    def run(self):
        for epoch in range(2):
            Pack.run_epoch(SimpleNamespace(epoch=epoch))
            Queue.record(self, [])
        Queue.finish(self, [])

    monkeypatch.setattr(control, "time", SimpleNamespace(perf_counter=lambda: now, thread_time=lambda: now))
    for owner, name, call in (
        (Pack, "run_epoch", passes(0.75)),
        (Queue, "record", passes(0.125)),
        (Queue, "finish", passes(0.25)),
        (Worker, "run", run),
    ):
        monkeypatch.setattr(owner, name, call)
    with control.watched() as spent:
        Pack.run_epoch(SimpleNamespace(epoch=0))  # as tuning does, before any worker runs
        Worker.run(None)
    assert (spent.worker, spent.training, spent.writing, spent.num_packs) == (2.0, 1.5, 0.5, 1)
    assert spent.share == 0.25
    assert Worker.run is run


def test_the_worker_of_no_length_writes_what_a_worker_writes(tmp_path):
    db = open_database(f"sqlite:///{tmp_path}/s.db", create=True)
    study = spend(db, 11, 3)
    rows, epochs = read_trials(db, study), read_epochs(db, study)
    db.close()
    assert study.name == NAME
    assert [(row.number, row.state, len(row.intermediate)) for row in rows] == [(n, "COMPLETE", 3) for n in range(11)]
    assert all(len(epochs[number]) == 3 for number in range(11))
