import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import quality
from benchmarks.peers.ended import Ended
from benchmarks.peers.ways import Timed
from benchmarks.quality import best_so_far
from hpsearch.errors import ConfigError

ROOT = Path(__file__).parents[2]


def run(*options):
    command = [sys.executable, "-m", "benchmarks", "quality", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("names", "options"),
    [
        ("hpsearch-random,optuna-tpe-sequential", ["--epochs", "1", "--most-trials", "60"]),
        ("hpsearch-stages,optuna-tpe", ["--study", "cifar10", "--model", "lenet", "--images", "300", "--epochs", "4"]),
    ],
)
def test_quality_of_hpsearch_and_a_peer(tmp_path, names, options):
    files = ["--json", str(tmp_path / "q.json"), "-o", str(tmp_path / "q.html")]
    done = run("--only", names, "--seconds", "6", "--seeds", "1", *options, *files)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "q.json").read_text())
    assert list(found["ways"]) == names.split(",")
    for way in found["ways"].values():
        assert len(way["median"]) == len(found["seconds"])
        assert way["median"] == sorted(way["median"])
        assert all(low <= middle for low, middle in zip(way["quartiles"][0], way["median"], strict=True))
    assert "Plotly.newPlot" in (tmp_path / "q.html").read_text()


def test_digits_are_too_small_for_nets_of_cifar10():
    with pytest.raises(ConfigError, match=r"--model lenet .*\n.*mlp"):
        quality.main(["--model", "lenet"])


def test_a_trial_counts_from_its_end_on():
    run = Timed(began=100.0, seconds=9.0, trials=Ended(102.0, [103.0, 104.0, 106.0], [0.5, 0.4, 0.9]))
    assert best_so_far(run, [1, 3, 4, 5.9, 6, 8]) == [0.0, 0.5, 0.5, 0.5, 0.9, 0.9]
    assert run.startup == 2.0
