"""status, best, boundary, trial, export, data, init: what they print, how fast, and on whose studies."""

import csv
import io
import json
import math
import re
import subprocess
import sys
import tomllib

import optuna
import pytest

HEAVY = ("torch", "torchvision", "sklearn", "skimage", "plotly", "scipy")


def test_boundary_as_json_has_the_documented_keys(searched):
    result = searched.json("boundary", "coarse")
    assert result["study"] == "coarse"
    for row in result["parameters"]:
        keys = {"param", "best", "low", "high", "log", "position", "verdict", "at_limit", "proposed", "reason"}
        keys.add("searched_beyond")
        assert set(row) == keys
        assert row["verdict"] in {"inside", "lower", "upper", "single"}
        assert 0 <= row["position"] <= 1
        assert row["proposed"][0] <= row["best"] <= row["proposed"][1]


def test_boundary_proposes_what_fine_would_search(searched):
    proposed = {row["param"]: row["proposed"] for row in searched.json("boundary", "fine")["parameters"]}
    plan = searched.json("fine", "--from", "fine", "--dry-run")
    assert {row["param"]: row["new"] for row in plan["ranges"]} == proposed


def test_boundary_says_which_later_stage_searched_beyond_the_end(hpsearch):
    """Of a search that moved twice: the first stage's own verdict alone would send its reader there again."""
    (hpsearch.folder / "far.py").write_text("def value(params):\n    return -abs(params['x'] - 5.0)\n")
    first = ("--objective", "far:value", "--space", "x=uniform(0, 2)", "--enqueue", "x=2", "--trials", 12)
    hpsearch("coarse", *first)
    assert "beyond" not in hpsearch("boundary", "coarse").stdout
    hpsearch("fine", "--from", "coarse", "--trust", "far:value", "--trials", 12)
    (row,) = hpsearch.json("boundary", "coarse")["parameters"]
    assert (row["verdict"], row["searched_beyond"]) == ("upper", "fine")
    assert re.search(r"^x +fine has searched beyond it, in \[.+, .+\]$", hpsearch("boundary", "coarse").stdout, re.M)
    assert "beyond" not in hpsearch("boundary", "fine").stdout


def test_trial_shows_its_curves(searched):
    best = searched.json("best", "coarse")
    shown = searched.json("trial", "coarse", best["number"])
    assert [row["val_acc"] for row in shown["epochs"]] == list(best["intermediate"].values())
    assert {"cost", "train_loss", "val_loss", "train_acc", "update_ratio", "lr"} <= set(shown["epochs"][0])
    assert "update_ratio" in searched("trial", "coarse", best["number"]).stdout


def test_export_as_csv_and_json(searched):
    rows = list(csv.DictReader(io.StringIO(searched("export", "coarse").stdout)))
    document = json.loads(searched("export", "coarse", "-f", "json").stdout)
    assert [int(row["number"]) for row in rows] == [trial["number"] for trial in document["trials"]] == list(range(12))
    for row, trial in zip(rows, document["trials"], strict=True):
        assert float(row["lr"]) == trial["params"]["lr"]
        assert float(row["value"]) == trial["value"]
    searched("export", "coarse", "-o", "out.csv")
    assert (searched.folder / "out.csv").read_text() == searched("export", "coarse").stdout


def test_best_as_toml_is_a_study_file_with_the_best_values(searched):
    best = searched.json("best", "fine")
    document = tomllib.loads(searched("best", "fine", "-f", "toml").stdout)
    assert document["train"]["lr"] == best["params"]["lr"]
    assert document["train"]["reg"] == best["params"]["reg"]
    assert document["data"]["source"] == "synthetic"
    assert document["train"]["epochs"] == 3  # those of the stage, not the default
    assert document["fine"]["trials"] == 6
    assert "lr_step" not in document["train"]


def test_without_a_name_the_latest_study_is_meant(searched):
    assert searched.json("best")["study"] == "fine"


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """A database that plain Optuna made: minimized, with a choice, an int, infinities and an odd name."""
    folder = tmp_path_factory.mktemp("theirs")
    study = optuna.create_study(study_name="[b]<img onerror=1>", storage=f"sqlite:///{folder}/optuna.db")

    def objective(trial):
        rate = trial.suggest_float("rate", 1e-5, 1e-1, log=True)
        trial.suggest_int("layers", 1, 3)
        trial.suggest_categorical("kind", ["=cmd()", "b", None])
        return math.inf if rate > 3e-2 else (math.log10(rate) + 3) ** 2

    study.optimize(objective, n_trials=30)
    return folder, study


@pytest.mark.slow
def test_any_optuna_study_can_be_read(theirs, hpsearch):
    folder, study = theirs
    name, storage = study.study_name, ("--storage", f"sqlite:///{folder}/optuna.db")
    assert hpsearch.json("best", name, *storage)["number"] == study.best_trial.number
    rows = {row["param"]: row for row in hpsearch.json("boundary", name, *storage)["parameters"]}
    assert rows["rate"]["verdict"] == "inside"
    assert rows["rate"]["proposed"][0] <= study.best_params["rate"] <= rows["rate"]["proposed"][1] <= 3.2e-2
    plan = hpsearch.json("fine", "--from", name, "--dry-run", *storage)
    assert {row["param"] for row in plan["ranges"]} == {"rate", "layers", "kind"}
    assert "rate" in plan["problem"]
    assert len(list(csv.reader(io.StringIO(hpsearch("export", name, *storage).stdout)))) == 31
    assert name in hpsearch("status", *storage).stdout
    assert "'=cmd()" in hpsearch("export", name, *storage).stdout
    refused = hpsearch("fine", "--from", name, *storage, code=2)
    assert "--rename" in refused.stderr


def test_renaming_makes_a_foreign_study_searchable(theirs, hpsearch):
    folder, study = theirs
    plan = hpsearch.json(
        *("fine", "--from", study.study_name, "--storage", f"sqlite:///{folder}/optuna.db", "-c", "tiny.toml"),
        *("--rename", "rate=lr", "--rename", "layers=none", "--rename", "kind=none", "--dry-run"),
    )
    assert [row["param"] for row in plan["ranges"]] == ["lr"]
    assert plan["problem"] is None


LOOKING = ["--help", "status", "best", "boundary", "trial coarse 0", "status fine"]


@pytest.mark.slow
def test_looking_imports_nothing_heavy(searched):
    """One after the other in one interpreter, in which nothing heavy may ever be."""
    code = (
        "import sys; from hpsearch.__main__ import main\n"
        f"for words in {LOOKING!r}:\n"
        "    sys.argv = ['hpsearch', *words.split()]\n"
        "    try: main()\n    except SystemExit as end: code = end.code\n"
        f"    print(words, code, [name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=searched.folder, capture_output=True, text=True, check=True)
    assert done.stderr.splitlines() == [f"{words} 0 []" for words in LOOKING]


def test_start_and_end_of_a_command_do_nothing_that_can_wait(searched):
    """No validator is built for help, and no garbage looked for among what was imported; it is, while a command runs.

    Together they were a sixth of what `hpsearch status` takes.
    """
    code = (
        "import gc, sys\n"
        "looked = []\n"
        "gc.callbacks.append(lambda phase, info: looked.append(gc.get_freeze_count()) if phase == 'start' else None)\n"
        "import typer\n"
        "from hpsearch.__main__ import main\n"
        "sys.argv = ['hpsearch', '--help']\n"
        "looked.clear()\n"
        "try: main()\nexcept SystemExit: left = len(gc.get_objects())\n"
        "from hpsearch.config import DataConfig, RunConfig, StudyConfig\n"
        "built = [each.__name__ for each in (DataConfig, RunConfig, StudyConfig) if each.__pydantic_complete__]\n"
        "print(built, 0 in looked, gc.isenabled(), left < 5000, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=searched.folder, capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "[] False True True"


@pytest.mark.parametrize(
    "command",
    ["coarse", "fine", "status", "best", "boundary", "trial", "export", "init", "data list", "data show", "data fetch"],
)
def test_the_help_of_every_command_has_an_example(hpsearch, command):
    assert f"hpsearch {command}" in hpsearch(*command.split(), "--help").stdout.split("Example:")[1]


def test_init_writes_a_study_file_that_coarse_reads(hpsearch):
    hpsearch("init", "my.toml")
    assert hpsearch.json("coarse", "-c", "my.toml", "--dry-run")["trials"] == 100


def test_data_list_and_show(hpsearch):
    assert {"digits", "cifar10", "folder:PATH"} <= {row["name"] for row in hpsearch.json("data", "list")}
    shown = hpsearch.json("data", "show", "digits")
    assert shown["num_train"] + shown["num_val"] == sum(shown["per_class"].values())
    text = hpsearch("data", "show", "digits").stdout
    assert f"held out for validation, {sum(shown['per_class_test'].values())} to test" in text
    assert re.search(r"class +images +test", text)
    assert "needs no download" in hpsearch("data", "fetch", "digits").stdout


def test_a_closed_pipe_is_no_error(searched):
    process = searched.start("export", "coarse", "-f", "json")
    process.stdout.close()
    assert process.wait(timeout=600) in (0, 1)
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()
