"""`hpsearch ensemble` on digits, from the search to the report."""

import csv
import io
import re

import numpy as np
import pytest
from sklearn.datasets import load_digits

DIGITS = ("--trials", "8", "--epochs", "4", "--skip-checks", "--space", "lr=log(1e-2,0.5)", "-q")


@pytest.fixture(scope="module")
def digits(tmp_path_factory, command_line):
    """A search on digits with the weights of all trials, and another one with those of the best."""
    line = command_line(tmp_path_factory.mktemp("digits"))
    line("coarse", *DIGITS, "--keep", "all")
    line("coarse", *DIGITS, "--name", "linear", "--model", "linear")
    return line


@pytest.fixture(scope="module")
def greedy(digits):
    """The ensemble that most tests look at."""
    return digits("ensemble", "coarse", "--top", 3, "--greedy", "--weights", "net")


def rows_of(text):
    return list(csv.reader(io.StringIO(text)))


@pytest.mark.slow
def test_the_table_has_the_best_trials_and_what_they_gain_together(digits):
    done = digits("ensemble", "coarse", "--top", 3)
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["study", "trial", "val_acc", "weight"]
    members = [line.split() for line in lines[1:4]]
    trials = digits.json("export", "coarse")["trials"]
    best = sorted((t for t in trials if t["state"] == "COMPLETE"), key=lambda t: (-t["value"], t["number"]))[:3]
    assert sorted((int(m[1]), m[2]) for m in members) == sorted((t["number"], f"{t['value']:.4f}") for t in best)
    assert [m[3] for m in members] == ["0.333"] * 3
    assert re.search(r"^ensemble val_acc 0\.\d{4}  the mean of 3 nets, 288 validation images$", done.stdout, re.M)
    assert re.search(
        r"^gain     [+-]0\.\d{4}  95% \[[+-]0\.\d{4}, [+-]0\.\d{4}\] \(paired bootstrap\): ", done.stdout, re.M
    )
    assert done.stderr == ""  # nothing had to be trained
    assert "chosen on these validation images" not in done.stdout


def test_greedy_weights_are_said_to_be_chosen_on_the_same_images(digits, greedy):
    assert "weighed greedily, 288 validation images" in greedy.stdout
    assert "the weights were chosen on these validation images, so this gain is too high" in greedy.stdout
    found = digits.json("ensemble", "coarse", "--top", 3, "--greedy")
    weights = [member["weight"] for member in found["members"]]
    assert sum(weights) == pytest.approx(1)
    assert found["validation"]["value"] >= found["validation"]["single"]
    assert found["test"] is None
    gain = found["validation"]["difference"]["gain"]
    assert ("--ensemble" in found["next"]) == (gain > 0)
    assert ("or       hpsearch ensemble coarse --top 3 --greedy --test" in greedy.stdout) == (gain > 0)


def test_predict_and_the_script_say_the_same(digits, greedy):
    assert "weights  in net; without hpsearch: python net/predict.py IMAGE..." in greedy.stderr
    x = load_digits().images[:40, None]
    np.savez(digits.folder / "x.npz", x=x)
    np.save(digits.folder / "x.npy", x)
    header, *said = rows_of(digits("predict", "coarse", "x.npz", "--ensemble").stdout)
    assert header == ["file", "class", "probability"]
    assert np.mean([row[1] == str(label) for row, label in zip(said, load_digits().target, strict=False)]) > 0.9
    script = digits.script("net/predict.py", "x.npy")
    rows = rows_of(script.stdout)
    assert [row[1] for row in rows] == [row[1] for row in said]
    assert [float(row[2]) for row in rows] == pytest.approx([float(row[2]) for row in said], abs=1e-5)
    alone = rows_of(digits("predict", "coarse", "x.npz").stdout)[1:]
    assert [row[2] for row in alone] != [row[2] for row in said]
    document = digits.json("predict", "coarse", "x.npz", "--ensemble")
    assert sum(each["weight"] for each in document["ensemble"]) == pytest.approx(1)
    assert "trial" not in document
    refused = digits("ensemble", "coarse", "--weights", "net", code=2)
    assert "is there already" in refused.stderr
    assert "name other nets" in digits("predict", "coarse", "x.npz", "--ensemble", "--trial", 1, code=2).stderr


@pytest.mark.slow
def test_other_nets_are_trained_where_their_weights_are_not_kept(digits):
    done = digits("ensemble", "coarse", "linear", "--top", 2, "--test")
    said = done.stderr.splitlines()
    assert re.fullmatch(
        r"note: the weights of 1 of 4 nets are not kept: they are trained now, in .+ at most at the speed .+", said[0]
    )
    assert re.fullmatch(r"trained 1 of 1: trial \d of linear: val_acc 0\.\d{4}", said[1])
    assert re.search(r"^test     test_acc 0\.\d{4}, the best single net 0\.\d{4}, 359 test images$", done.stdout, re.M)
    assert "--test" not in done.stdout
    again = digits("ensemble", "coarse", "linear", "--top", 2, "--test")
    assert again.stderr == ""
    assert "this is use 2 of these test images (use 2 by coarse" in again.stdout
    assert (
        "these test images have been used 2 times by the searches here, 2 times by linear"
        in digits("status", "linear").stdout
    )


@pytest.mark.slow
def test_snapshots_of_one_training_go_where_any_ensemble_goes(digits):
    """From the search with restarts to the script, the report and the command that predicts with them."""
    cycles = ["train.lr_schedule=sgdr", "train.lr_period=1", "train.lr_period_factor=1"]
    digits("coarse", *DIGITS, "--name", "cycles", "--trials", 3, *(word for each in cycles for word in ("--set", each)))
    done = digits("ensemble", "cycles", "--snapshots", "--weights", "states")
    said = done.stderr.splitlines()
    assert re.fullmatch(
        r"note: the snapshots of trial \d of cycles are not kept: it is trained again now, in .+", said[0]
    )
    assert re.fullmatch(r"trained 1 of 1: trial \d of cycles: val_acc 0\.\d{4}", said[1])
    header, *rows = [line.split() for line in done.stdout.splitlines()[:5]]
    assert header == ["study", "trial", "epoch", "val_acc", "weight"]
    assert {int(row[2]) for row in rows} == {1, 2, 3, 4}
    assert [row[4] for row in rows] == ["0.250"] * 4
    assert re.search(r"^ensemble val_acc 0\.\d{4}  the mean of 4 snapshots, 288 validation images$", done.stdout, re.M)
    best = digits.json("best", "cycles")
    single = rf"^single   val_acc {best['value']:.4f}  trial {best['number']} of cycles, epoch \d, the best of them$"
    assert re.search(single, done.stdout, re.M)
    assert re.search(r"^gain     [+-]0\.\d{4}  95% \[[+-]0\.\d{4}, [+-]0\.\d{4}\]", done.stdout, re.M)
    found = digits.json("ensemble", "cycles", "--snapshots", "--kept", "--trial", best["number"])
    assert found["snapshots"] is True
    assert {member["number"] for member in found["members"]} == {best["number"]}
    np.save(digits.folder / "few.npy", load_digits().images[:20, None])
    np.savez(digits.folder / "few.npz", x=load_digits().images[:20, None])
    predicted = rows_of(digits("predict", "cycles", "few.npz", "--ensemble").stdout)[1:]
    script = digits.script("states/predict.py", "few.npy")
    assert [row[1] for row in rows_of(script.stdout)] == [row[1] for row in predicted]
    digits("report", "cycles", "-o", "cycles.html")
    page = (digits.folder / "cycles.html").read_text()
    assert "4 snapshots averaged, each taken where a cycle of the learning rate ended." in page
    refused = digits("ensemble", "coarse", "--snapshots", code=2).stderr
    assert "'exponential', whose rate does not restart: no cycle ended.\nAllowed: trials in which two cycles" in refused


@pytest.mark.slow
def test_the_report_has_a_section(digits, greedy):
    digits("ensemble", "coarse", "--top", 2, "--greedy", "--test")
    digits("report", "coarse", "-o", "report.html")
    page = (digits.folder / "report.html").read_text()
    [section] = re.findall(r'<section id="s-ensemble">.*?</section>', page, re.DOTALL)
    assert "On 288 validation images val_acc 0." in section
    assert "On 359 test images test_acc 0." in section
    assert section.count("<tr>") == 3
    assert '<a href="#s-ensemble">Ensemble</a>' in page
    digits("report", "linear", "-o", "other.html")
    assert "s-ensemble" not in (digits.folder / "other.html").read_text()


@pytest.mark.slow
def test_what_is_wrong_is_said(digits):
    np.savez(digits.folder / "x.npz", x=load_digits().images[:40, None])
    few = digits("ensemble", "linear", "--top", 4, "--kept", code=2).stderr
    assert re.search(
        r"--top 4: 'linear' has \d finished trials? whose weights are kept\.\nAllowed: 1 to \d; without", few
    )
    assert re.search(
        r"--top 99: 'coarse' has \d finished trials", digits("ensemble", "coarse", "--top", 99, code=2).stderr
    )
    assert "is one net" in digits("ensemble", "coarse", "--top", 1, code=2).stderr
    assert "'nowhere'" in digits("ensemble", "nowhere", code=2).stderr
    digits("coarse", *DIGITS, "--name", "split", "--set", "data.seed=1", "--trials", 2)
    other = digits("ensemble", "coarse", "split", code=3).stderr
    assert "'coarse' and 'split' cannot be one ensemble: data.seed: 0 -> 1" in other
    assert "'linear' has no ensemble" in digits("predict", "linear", "x.npz", "--ensemble", code=3).stderr
