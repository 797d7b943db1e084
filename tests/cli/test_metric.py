"""train.metric by the front door: what it names decides, everywhere, and is named wherever its values are shown."""

import csv
import io
import json
import sqlite3

import optuna
import pytest
from held_searches import wait_until_held

from hpsearch.wording import value_text

SCARCE = """
import numpy as np

def make(num=1860, ratio=31, shift=0.45):
    rng = np.random.default_rng(7)
    y = (np.arange(num) % ratio == 0).astype(int)  # one image in 31
    x = rng.normal(size=(num, 16)).astype(np.float32)
    x[y == 1] += shift
    return x.reshape(num, 1, 4, 4), y
"""
SCARCE_STUDY = """
[data]
source = "scarce:make"
normalize = "none"
[model]
name = "linear"
[train]
batch_size = 50
precision = "float64"
[space]
lr = { log = [1e-3, 3.0] }
reg = { log = [1e-4, 1e1] }
[coarse]
trials = 8
epochs = 3
"""
MEASURES = """
def brier(scores, labels):
    error = scores.copy()
    error[range(len(labels)), labels] -= 1
    return (error ** 2).sum(1).mean()
brier.minimize = True

def nothing(scores, labels):
    return float("nan")

def picky(scores, labels):
    if scores.max(1).mean() > 0.9:
        raise ValueError("too sure")
    return 0.5

def broken(scores, labels):
    return scores[:, 7].mean()
"""
TINY = """
[data]
source = "synthetic"
synthetic = { shape = [1, 4, 4], classes = 3, train = 90, test = 9, noise = 0.5 }
[model]
hidden = [6]
[train]
batch_size = 20
[coarse]
trials = 12
[fine]
trials = 6
epochs = 3
"""
LOSS = ("-c", "tiny.toml", "--set", "train.metric=loss")


def rows(hpsearch, query):
    with sqlite3.connect(hpsearch.folder / "studies" / "hpsearch.db") as connection:
        return connection.execute(query).fetchall()


@pytest.mark.slow
def test_where_a_class_is_scarce_macro_f1_and_accuracy_pick_different_trials(hpsearch):
    (hpsearch.folder / "scarce.py").write_text(SCARCE)
    (hpsearch.folder / "scarce.toml").write_text(SCARCE_STUDY)
    best = {}
    for metric in ("accuracy", "macro_f1"):
        hpsearch("coarse", "-c", "scarce.toml", "--set", f"train.metric={metric}", "--name", metric, "--skip-checks")
        best[metric] = hpsearch.json("best", metric)
        assert best[metric]["metric"] == metric
        assert best[metric]["value"] == pytest.approx(best[metric]["measures"][metric])
    assert best["accuracy"]["number"] != best["macro_f1"]["number"]
    for one, other in (("accuracy", "macro_f1"), ("macro_f1", "accuracy")):
        assert best[one]["measures"][one] > best[other]["measures"][one]
    assert best["macro_f1"]["measures"]["accuracy"] == pytest.approx(best["macro_f1"]["attributes"]["val_acc"])
    trial = hpsearch("trial", "macro_f1", best["macro_f1"]["number"]).stdout
    assert "val_macro_f1 0.7" in trial
    assert "macro F1" in trial
    assert "balanced accuracy" in trial


@pytest.fixture(scope="module")
def by_loss(tmp_path_factory, command_line):
    """A search by loss, coarse killed on its way, then fine and the test; tests only read it."""
    folder = tmp_path_factory.mktemp("by-loss")
    (folder / "tiny.toml").write_text(TINY)
    line = command_line(folder)
    arguments = ("coarse", *LOSS, "--epochs", 20, "--set", "train.precision=float64")
    often = ("--set", "run.width=3", "--set", "run.checkpoint_seconds=0")
    process = line.held(*arguments, *often, after=6, packs=1)
    wait_until_held(folder)
    process.kill()
    process.communicate(timeout=600)
    line(*arguments, *often)
    line(*arguments, "--name", "whole")
    line.fine = line("fine", "--from", "coarse", "--set", "fine.pruner=median").stdout
    line.test = line.json("test", "fine")
    return line


@pytest.mark.slow
def test_a_killed_search_by_loss_ends_as_one_that_was_not(by_loss):
    coarse, whole = (by_loss.json("export", study)["trials"] for study in ("coarse", "whole"))
    assert [t["state"] for t in coarse] == [t["state"] for t in whole]
    for one, other in zip(coarse, whole, strict=True):
        assert one["value"] == pytest.approx(other["value"], rel=1e-6)
        assert one["attributes"].get("best_epoch") == other["attributes"].get("best_epoch")


def test_the_lowest_loss_of_a_trial_is_its_value_and_the_lowest_of_all_the_best(by_loss):
    exported = by_loss.json("export", "coarse")
    assert (exported["direction"], exported["metric"]) == ("minimize", "loss")
    complete = [trial for trial in exported["trials"] if trial["state"] == "COMPLETE"]
    for trial in complete:
        losses = [epoch["val_loss"] for epoch in trial["epochs"]]
        assert losses == [epoch["val_score"] for epoch in trial["epochs"]] == list(trial["intermediate"].values())
        assert trial["value"] == min(losses)
        assert trial["attributes"]["best_epoch"] == losses.index(min(losses)) + 1
        assert trial["attributes"]["last_value"] == losses[-1]
        assert trial["attributes"]["last_val_acc"] == trial["epochs"][-1]["val_acc"]
    best = by_loss.json("best", "coarse")
    assert best["value"] == min(trial["value"] for trial in complete)
    assert best["measures"]["loss"] == pytest.approx(best["value"])
    study = optuna.load_study(study_name="coarse", storage=f"sqlite:///{by_loss.folder}/studies/hpsearch.db")
    assert (study.direction.name, study.best_trial.number) == ("MINIMIZE", best["number"])


def test_explosions_are_worse_than_all_and_never_the_best(by_loss):
    exploded = [t for t in by_loss.json("export", "coarse")["trials"] if t["attributes"].get("reason") == "exploded"]
    assert exploded, "the space of the tiny study reaches rates that explode"
    assert all(trial["value"] > 3 for trial in exploded)  # 3 ln 3
    assert by_loss.json("status", "coarse")["exploded"] == len(exploded)


def test_fine_narrows_to_where_the_loss_was_low(by_loss):
    complete = [t for t in by_loss.json("export", "coarse")["trials"] if t["state"] == "COMPLETE"]
    ranked = sorted(complete, key=lambda trial: trial["value"])
    [lr] = [row for row in by_loss.json("boundary", "coarse")["parameters"] if row["param"] == "lr"]
    assert lr["best"] == ranked[0]["params"]["lr"]
    low, high = lr["proposed"]
    assert all(low <= trial["params"]["lr"] <= high for trial in ranked[:3])
    assert "val_loss" in by_loss.fine
    config = dict(rows(by_loss, "SELECT key, value_json FROM study_user_attributes WHERE study_id = 3"))
    assert json.loads(config["hpsearch.config"])["train"]["metric"] == "loss"  # as its source


@pytest.mark.slow
def test_every_view_names_it(by_loss):
    assert "  val_loss " in next(text for text in by_loss.fine.splitlines() if text.startswith("best"))
    assert by_loss("status").stdout.count("val_loss") == 3
    assert {row["metric"] for row in by_loss.json("status")} == {"loss"}
    assert by_loss.json("status", "fine")["metric"] == by_loss.json("boundary", "fine")["metric"] == "loss"
    assert "best val_loss" in by_loss("status", "fine", "--watch").stdout
    number = by_loss.json("best", "fine")["number"]
    assert "val_loss " in by_loss("trial", "fine", number, "--no-table").stdout
    table = list(csv.DictReader(io.StringIO(by_loss("export", "fine").stdout)))
    assert {row["metric"] for row in table} == {"loss"}
    file = by_loss("best", "fine", "-f", "toml").stdout
    assert f"trial {number}, val_loss " in file
    assert 'metric = "loss"' in file
    assert "val_loss" in by_loss("rerun", "fine", number, "--seeds", 2).stdout


def test_the_test_set_is_measured_by_it_and_by_the_others(by_loss):
    best = by_loss.json("best", "fine")
    assert (by_loss.test["metric"], by_loss.test["value"]) == ("loss", best["value"])
    assert by_loss.test["score"] == pytest.approx(by_loss.test["measures"]["loss"])
    assert by_loss.test["mean"] == pytest.approx(by_loss.test["measures"]["accuracy"])
    assert by_loss.test["val_acc"] == best["attributes"]["val_acc"]
    assert {"balanced_accuracy", "macro_f1", "auroc"} < by_loss.test["measures"].keys()


@pytest.mark.slow
def test_the_report_is_about_it(by_loss):
    by_loss("report", "-o", "report.html")
    page = (by_loss.folder / "report.html").read_text()
    value = by_loss.json("best", "fine")["value"]
    assert "best validation loss" in page
    assert f'<p class="big">{value_text(value)}</p>' in page
    assert "macro F1" in page
    assert f"loss {value_text(value)} → {value_text(by_loss.test['score'])}" in page


@pytest.mark.slow
def test_samplers_are_compared_by_it(hpsearch):
    arguments = ("compare", *LOSS, "--trials", 4, "--repeats", 2, "--epochs", 1, "--samplers", "random,qmc")
    found = hpsearch.json(*arguments)
    assert found["metric"] == "loss"
    assert found["guessing"] == pytest.approx(1.0986, abs=1e-4)
    for sampler, results in found["samplers"].items():
        studies = [hpsearch.json("export", f"compare/{sampler}/{repeat}") for repeat in range(2)]
        lowest = [min(t["value"] for t in study["trials"] if t["state"] == "COMPLETE") for study in studies]
        assert results["best"]["of_repeats"] == pytest.approx([min(found["guessing"], value) for value in lowest])
    better = {s: results["best"]["mean"] for s, results in found["samplers"].items()}
    assert found["differences"][0]["mean"] == pytest.approx(better["qmc"] - better["random"])
    assert "best val_loss" in hpsearch(*arguments).stdout


@pytest.mark.slow
def test_a_function_beside_the_study_file_decides(hpsearch):
    (hpsearch.folder / "measures.py").write_text(MEASURES)
    own = ("-c", "tiny.toml", "--trials", 4, "--set", "train.metric=measures:brier")
    assert "val_brier: " in hpsearch("coarse", *own).stdout
    best = hpsearch.json("best")
    assert best["metric"] == "measures:brier"
    values = [t["value"] for t in hpsearch.json("export", "coarse")["trials"] if t["state"] == "COMPLETE"]
    assert best["value"] == min(values)  # brier.minimize
    refused = hpsearch("fine", "--from", "coarse", code=3).stderr
    assert "the code 'measures:brier' is named by the database, not by you" in refused
    assert "--trust measures" in hpsearch("status", "coarse").stdout
    fine = ("fine", "--from", "coarse", "--trust", "measures", "--trials", 3, "--set", "train.patience=1")
    assert "val_brier: " in hpsearch(*fine).stdout
    test = hpsearch("test", "fine", "--trust", "measures").stdout
    assert "test_brier 0." in test
    hpsearch("report", "-o", "report.html")
    page = (hpsearch.folder / "report.html").read_text()
    assert "best validation brier" in page
    assert '<option value="score">val_brier</option>' in page


def test_a_function_that_fails_ends_the_command_before_anything_is_written(hpsearch):
    (hpsearch.folder / "measures.py").write_text(MEASURES)
    done = hpsearch("coarse", "-c", "tiny.toml", "--set", "train.metric=measures:broken", code=2)
    assert "measures:broken: calling it as train.metric raised IndexError" in done.stderr
    assert "scores[:, 7]" in done.stderr  # their own frame
    assert not (hpsearch.folder / "studies").exists()


def test_a_trial_whose_scores_it_does_not_take_fails_alone(hpsearch):
    (hpsearch.folder / "measures.py").write_text(MEASURES)
    grid = ("--sampler", "grid", "--trials", 4, "--space", "lr=choice(1e-5, 1e-4, 1e-3, 0.2)", "--space", "reg=none")
    hpsearch("coarse", "-c", "tiny.toml", *grid, "--set", "train.metric=measures:picky", "--epochs", 6)
    trials = {t["params"]["lr"]: t for t in hpsearch.json("export", "coarse")["trials"]}
    assert {lr for lr, trial in trials.items() if trial["state"] == "FAIL"} == {0.2}
    assert trials[0.2]["attributes"]["reason"] == "ValueError: too sure"
    assert 'raise ValueError("too sure")' in trials[0.2]["attributes"]["traceback"]


def test_a_trial_that_never_gets_a_number_fails_and_says_so(hpsearch):
    (hpsearch.folder / "measures.py").write_text(MEASURES)
    hpsearch("coarse", "-c", "tiny.toml", "--trials", 3, "--set", "train.metric=measures:nothing")
    failed = [t for t in hpsearch.json("export", "coarse")["trials"] if t["state"] == "FAIL"]
    assert failed
    assert {t["attributes"]["reason"] for t in failed} == {"measures:nothing gave no number in any epoch"}


def test_a_training_is_judged_by_it(hpsearch):
    done = hpsearch("train", "-c", "tiny.toml", "--epochs", 6, "--seeds", 2, "--set", "train.metric=macro_f1")
    assert "val_macro_f1" in done.stdout
    assert "val_macro_f1: 0." in done.stderr
    result = hpsearch.json("train", "-c", "tiny.toml", "--epochs", 6, "--seeds", 2, "--set", "train.metric=macro_f1")
    assert result["metric"] == "macro_f1"
    for run in result["runs"]:
        assert run["value"] == max(epoch["val_score"] for epoch in run["epochs"])


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("f1", "Did you mean macro_f1?"),
        ("roc_auc", "Did you mean auroc?"),
        ("kappa", "MODULE:FUNCTION"),
        ("accurcy", "accuracy"),
        ("top5", "is 1 for every net: there are 3 classes"),
    ],
)
def test_what_is_no_metric_is_refused(hpsearch, value, said):
    assert said in hpsearch("coarse", "-c", "tiny.toml", "--set", f"train.metric={value}", code=2).stderr


def test_it_is_not_searched(hpsearch):
    done = hpsearch("coarse", "-c", "tiny.toml", "--space", "train.metric=choice(loss, accuracy)", code=2)
    assert "train.metric" in done.stderr


def test_another_metric_is_another_search(hpsearch):
    hpsearch("coarse", "-c", "tiny.toml", "--trials", 2)
    refused = hpsearch("coarse", *LOSS, "--trials", 2, code=3).stderr
    assert 'train.metric: - -> "loss"' in refused
