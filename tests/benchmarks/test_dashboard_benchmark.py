import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_benchmark_of_the_dashboard_asks_as_the_page_does():
    options = ["--trials", "40", "--epochs", "2", "--clients", "2", "--seconds", "1", "--interval", "0.3"]
    command = [sys.executable, "-m", "benchmarks", "dashboard", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=600)
    cold, loaded, *plain = json.loads(done.stdout)["rows"]
    assert [row["server"] for row in plain] == ["optuna-dashboard"] * 2
    assert "/api/studies/1?after=0" in cold["requests"]
    assert set(loaded["requests"]) >= {"list", "finished, opened", "half-way, opened", "finished, refresh"}
    assert loaded["requests"]["finished, refresh"]["kb"] > 0
