import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_four_workers_call_a_function_exactly_as_often_as_asked_beside_optuna():
    command = [sys.executable, "-m", "benchmarks", "objective", "--workers", "4", "--trials", "160", "--rounds", "1"]
    done = subprocess.run([*command, "--only", "sqlite"], cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr  # the counts are asserted there
    found = json.loads(done.stdout)
    assert found["trials"] == 160
    rates = found["sqlite"]["trials_per_second"]
    assert rates.keys() == {"hpsearch", "optuna"}
    assert all(value > 0 for value in rates.values())
