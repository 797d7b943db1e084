"""`best -f py > train_best.py && python train_best.py`: the winner's value again, without hpsearch."""

import json
import re
import statistics
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

SEEDS = 5
FEWEST = {"digits": 288, "folder:shapes": 60}  # validation images


def run_script(hpsearch, name="train_best.py"):
    return hpsearch.script(name).stdout


def draw_shapes(folder, num=100):
    """Bars that lie and stand, and crosses of both, anywhere in noise."""
    rng = np.random.default_rng(0)
    for label in ("lying", "standing", "cross"):
        for place in range(num):
            pixels = rng.integers(0, 60, (16, 16, 3))
            row, column = rng.integers(5, 11, 2)
            if label != "standing":
                pixels[row : row + 2, column - 4 : column + 5] += 150
            if label != "lying":
                pixels[row - 4 : row + 5, column : column + 2] += 150
            (folder / label).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / label / f"{place}.png")


CASES = {
    "mlp": ["--data", "digits", "--epochs", "6"],
    "convnet": ["--data", "folder:shapes", "--model", "convnet", "--set", "model.channels=[8,16]", "--epochs", "15",
                "--set", 'data.augment=["hflip","crop:2","rotate:10"]', "--set", "train.batch_size=20"],
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_its_value_is_one_of_those_that_seeds_give(hpsearch, name):
    """Within the mean of five seeds by four times their spread, or four standard errors of the hold-out if these are
    more: a sixth seed's value would be, by Student's t with 4 degrees of freedom, in 98 of 100 cases by the first."""
    draw_shapes(hpsearch.folder / "shapes")
    source = CASES[name][1]
    hpsearch(
        "train",
        *CASES[name],
        "--set",
        "train.lr=0.05",
        "--set",
        "train.reg=1e-4",
        "--seeds",
        SEEDS,
        "--name",
        "five",
        "-q",
    )
    values = [t["value"] for t in json.loads(hpsearch("export", "five", "-f", "json").stdout)["trials"]]
    assert len(values) == SEEDS
    script = hpsearch("best", "five", "-f", "py").stdout
    (hpsearch.folder / "train_best.py").write_text(script)
    found = float(re.search(r"best validation accuracy (0\.\d+|1\.0+)", run_script(hpsearch))[1])
    mean = statistics.mean(values)
    error = (mean * (1 - mean) / FEWEST[source]) ** 0.5
    assert mean > 0.7
    assert abs(found - mean) <= 4 * max(statistics.stdev(values) * (1 + 1 / SEEDS) ** 0.5, error)
    assert (hpsearch.folder / "best.pt").is_file()


@pytest.mark.slow
def test_what_comes_from_the_search_stands_at_the_top(hpsearch):
    hpsearch("coarse", "--data", "digits", "--trials", "2", "--epochs", "1", "--space", "lr=log(1e-2,2e-2)", "-q")
    script = hpsearch("best", "-f", "py").stdout
    best = json.loads(hpsearch("best", "--json").stdout)
    assert f"LR = {best['params']['lr']!r}  # searched in log(0.01, 0.02)" in script
    assert "hpsearch" not in script.replace("hpsearch sets", "")
    assert script.count("print(") == 1  # where it ends in silence if its reader has gone
    compile(script, "train_best.py", "exec")
    (hpsearch.folder / "train_best.py").write_text(script)
    said = run_script(hpsearch)
    assert re.search(r"^best validation accuracy 0\.\d+; its weights are in best\.pt$", said, re.M)


OBJECTIVE = """
def objective(params, report, epochs, seed=3):
    for epoch in range(1, epochs + 1):
        report(params["lr"] * epoch, epoch)
    return params["lr"] * epochs + params["width"]
"""


def test_a_study_over_a_function_gives_a_call_of_it(hpsearch):
    (hpsearch.folder / "work.py").write_text(OBJECTIVE)
    ranges = ["--space", "lr=uniform(1,2)", "--set", "objective.params.width=5", "--epochs", "2"]
    hpsearch("coarse", "--objective", "work:objective", *ranges, "--trials", "2", "-q")
    (hpsearch.folder / "train_best.py").write_text(hpsearch("best", "-f", "py").stdout)
    value = json.loads(hpsearch("best", "--json").stdout)["value"]
    assert run_script(hpsearch).splitlines()[-1] == f"value: {value!r}"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "train_best.py"], cwd=hpsearch.folder, **pipes) as script:
        script.stdout.close()  # as `| head -n 0`
        assert script.stderr.read() == ""


def test_a_list_is_a_list_there_too(hpsearch):
    (hpsearch.folder / "work.py").write_text(
        "def objective(params):\n    return len(params['widths'] + [params['lr']])\n"
    )
    ranges = ["--space", "lr=uniform(1,2)", "--space", "widths=choice([8,8],[8])"]
    hpsearch("coarse", "--objective", "work:objective", *ranges, "--trials", "2", "-q")
    (hpsearch.folder / "train_best.py").write_text(hpsearch("best", "-f", "py").stdout)
    value = json.loads(hpsearch("best", "--json").stdout)["value"]
    assert run_script(hpsearch).splitlines()[-1].split(".")[0] == f"value: {value:.0f}"


def test_a_study_over_an_optuna_objective_gives_a_call_of_it(hpsearch):
    (hpsearch.folder / "work.py").write_text(
        "def objective(trial, epochs):\n"
        "    kind = trial.suggest_categorical('kind', ['plain', 'double'])\n"
        "    rate = trial.suggest_float('rate', 1, 2)\n"
        "    trial.report(rate, 1)\n"
        "    return rate * (2 if kind == 'double' else 1) * epochs\n"
    )
    hpsearch("coarse", "--optuna-objective", "work:objective", "--trials", "3", "--epochs", "2", "-q")
    (hpsearch.folder / "train_best.py").write_text(hpsearch("best", "-f", "py").stdout)
    value = json.loads(hpsearch("best", "--json").stdout)["value"]
    assert run_script(hpsearch).splitlines()[-1] == f"value: {value!r}"


@pytest.mark.slow
def test_a_study_over_a_program_gives_a_call_of_it(hpsearch):
    (hpsearch.folder / "work.py").write_text("import sys; print('{\"value\": %s}' % (float(sys.argv[1]) * 2))")
    study = (
        f"""[objective]\ncommand = ["{sys.executable}", "work.py", "{{lr}}"]\n[space]\nlr = {{ uniform = [1, 2] }}\n"""
    )
    (hpsearch.folder / "own.toml").write_text(study)
    hpsearch("coarse", "-c", "own.toml", "--trials", "2", "--epochs", "1", "-q")
    (hpsearch.folder / "train_best.py").write_text(hpsearch("best", "-f", "py").stdout)
    value = json.loads(hpsearch("best", "--json").stdout)["value"]
    assert json.loads(run_script(hpsearch)) == {"value": value}
