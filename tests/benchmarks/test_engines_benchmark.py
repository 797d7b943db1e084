import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_benchmark_of_engines_runs_and_names_its_peer():
    command = [sys.executable, "-m", "benchmarks", "engines", "--images", "300", "--rounds", "1", "--trials", "2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120)
    result = json.loads(done.stdout)
    assert set(result["seconds_per_trial_and_50k_images"]) == {"plain", "vmap", "loop"}
    assert result["times_plain"]["plain"] == 1
