import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*arguments):
    command = [sys.executable, "-m", "benchmarks", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_the_benchmark_of_throughput_counts_each_trial_once_and_names_its_peer():
    found = run("throughput", "--workers", "2", "--trials", "20", "--rounds", "1", "--only", "sqlite")
    assert set(found["sqlite"]["trials_per_second"]) == {"hpsearch", "hpsearch, one at a time", "optuna"}
    assert found["sqlite"]["over_optuna"]["optuna"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_chaos_in_a_short_form(database):
    options = ["--trials", "12", "--epochs", "100", "--kills", "1", "--outages", "1", "--interval", "1"]
    found = run("chaos", "--database", database, *options)
    assert found["finished"] == ["12 of 12"]
    assert found["equal_to_undisturbed"] == [True]
    assert found["kills_done"] == [1]
    assert found["outages_done"] == [1]
    assert found["seconds_to_training"]["count"] > 0
