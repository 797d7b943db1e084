import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.scaling import NAME, spend
from hpsearch.storage import open_database, read_epochs, read_trials

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_scaling_over_trials_workers_and_width(tmp_path):
    options = ["--trials", "10", "30", "--workers", "1", "--worker-trials", "2", "--widths", "1", "2", "--epochs", "1"]
    options += ["--images", "300", "--rounds", "1", "--json", str(tmp_path / "s.json"), "-o", str(tmp_path / "s.html")]
    command = [sys.executable, "-m", "benchmarks", "scaling", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200)
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
    assert (tmp_path / "s.html").read_text().count("Plotly.newPlot(") >= 4


def test_the_worker_of_no_length_writes_what_a_worker_writes(tmp_path):
    db = open_database(f"sqlite:///{tmp_path}/s.db", create=True)
    study = spend(db, 11, 3)
    rows, epochs = read_trials(db, study), read_epochs(db, study)
    db.close()
    assert study.name == NAME
    assert [(row.number, row.state, len(row.intermediate)) for row in rows] == [(n, "COMPLETE", 3) for n in range(11)]
    assert all(len(epochs[number]) == 3 for number in range(11))
