import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*options):
    command = [sys.executable, "-m", "benchmarks", "engines", "--images", "300", "--rounds", "1", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=600).stdout


@pytest.mark.slow
def test_the_benchmark_of_engines_runs_and_names_its_peer():
    result = json.loads(run("--trials", "1", "2", "--threads", "1", "--json"))
    assert [(each["trials"], each["threads"]) for each in result["runs"]] == [(1, 1), (2, 1)]
    for each in result["runs"]:
        assert set(each["seconds_per_trial_and_50k_images"]) == {"plain", "loop", "vmap", "fused"}
        assert each["times_plain"]["plain"] == 1
        assert all(0 < share < 1.5 for share in each["share_of_peak"].values())


@pytest.mark.slow
def test_the_benchmark_of_engines_knows_lenet():
    engines = ["plain", "fused", "fused-bfloat16"]
    (each,) = json.loads(run("--net", "lenet", "--trials", "2", "--engines", *engines, "--json"))["runs"]
    assert list(each["times_plain"]) == engines
    assert set(each["gflops_of_products"]) == {"square", "forward", "weight gradient"}
    assert all(0 < share < 3 for share in each["share_of_peak"].values())  # bfloat16 may pass float32's peak


@pytest.mark.slow
def test_the_benchmark_of_engines_prints_a_table():
    engines = ["fused", "fused-bfloat16", "fused-best"]
    table = run("--trials", "2", "--engines", *engines, "--net", "digits")
    assert [line.split()[0] for line in table.splitlines()[2:]] == engines
