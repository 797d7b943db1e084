"""train: one net with given values, by the command, from its curves to the test set."""

import io
import os
import pty
import re
import select
import shlex

import numpy as np
import pytest
from held_searches import wait_for
from PIL import Image
from rich.console import Console
from warm_commands import warm_commands

from hpsearch.cli.training_curves import over_seeds, training_charts
from hpsearch.cli.training_page import Page
from hpsearch.cli.training_progress import TrainingProgress
from hpsearch.config import StudyConfig
from hpsearch.results import EpochResult
from hpsearch.stages.listener import StageStarted, TrialFinished
from hpsearch.stages.training_plan import plan_training

QUICK = ("--data", "folder:pictures", "--model", "linear", "--epochs", "3")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, command_line):
    """A folder with images, two seeds trained on them; tests only read it."""
    folder = tmp_path_factory.mktemp("trained")
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for name, base in (("day", 120), ("night", 10)):
            (folder / "pictures" / split / name).mkdir(parents=True)
            for index in range(12):
                pixels = base + rng.integers(0, 100, (8, 8, 3))
                Image.fromarray(pixels.astype(np.uint8)).save(folder / "pictures" / split / name / f"{index}.png")
    line = command_line(folder)
    line.first = line("train", *QUICK)
    line.second = line("train", *QUICK, "--seeds", "2")
    return line


def test_a_training_is_one_command_and_another_one_adds_a_seed(trained):
    lines = trained.first.stdout.splitlines()
    assert any(line.startswith("checks   initial loss") for line in lines)
    assert re.search(r"^val_acc  \d\.\d{4} at epoch \d, \d\.\d{4} at the end$", trained.first.stdout, re.MULTILINE)
    assert any(line.startswith("verdict  ") for line in lines)
    [(weights, epoch)] = [line.split()[1::3] for line in lines if line.startswith("weights")]
    assert (trained.folder / weights).is_file()
    assert f"at epoch {epoch}, " in trained.first.stdout
    assert "[space]" not in trained.first.stderr  # there is no study file
    epochs = [line for line in trained.first.stderr.splitlines() if line.startswith("epoch")]
    pattern = r"epoch 1 / 3: cost \d+\.\d{6}, val_loss \d+\.\d{6}, train: \d\.\d{6}, val: \d\.\d{6}, lr: 1\.000000e-02"
    assert re.fullmatch(pattern, epochs[0])
    assert len(epochs) == 3
    assert "1 of 2 runs are finished; going on" in trained.second.stderr
    assert [line for line in trained.second.stderr.splitlines() if "epoch" in line and "seed 1" not in line] == []
    assert "std" in trained.second.stdout
    assert "2 of 2 seeds x 3 epochs" in trained.second.stdout


def test_the_same_command_again_does_nothing_more(trained):
    again = trained("train", *QUICK, "--seeds", "2")
    assert "epoch" not in again.stderr
    assert "2 of 2 seeds" in again.stdout
    document = trained.json("train", *QUICK)
    assert [run["seed"] for run in document["runs"]] == [0, 1]
    assert [len(run["epochs"]) for run in document["runs"]] == [3, 3]
    values = [run["value"] for run in document["runs"]]
    assert document["mean"] == pytest.approx(sum(values) / 2)
    assert document["max"] == max(values) == document["best"]["value"]
    assert document["next"]


def test_other_commands_take_it_for_a_study_like_any_other(trained):
    assert trained.json("status")[0]["trials"] == 2
    status = trained("status", "train").stdout
    assert "hpsearch coarse --from train" in status
    assert "boundary" not in status
    assert "params   train.seed 1" in trained("trial", "train", "1").stdout
    best = trained.json("best", "train")
    assert trained.json("rerun", "train", best["number"], "--seeds", "1")["match"] in ("exact", "rounding")
    assert trained.json("test", "train")["seeds"] == [best["params"]["train.seed"]]
    figures = trained.json("report", "train")["figures"]
    assert "train-accuracy" in figures
    assert "ranges-train.seed" not in figures
    assert trained.json("report")["figures"] == figures
    assert "train.seed" in trained("export", "train").stdout.splitlines()[0]
    line = trained("status", "train", "--watch").stdout
    assert line.startswith("train: 2 of 2 trials")
    assert "no ranges" in trained("boundary", "train", code=3).stderr
    assert "hpsearch coarse --from train" in trained("fine", "--from", "train", code=3).stderr


def test_the_best_trial_of_a_search_is_trained_with_its_own_epochs(hpsearch):
    """The first thing to do with best.toml; [fine] has other epochs than [train]."""
    searched = ("--trials", "2", "--skip-checks", "-q")
    hpsearch("coarse", "-c", "tiny.toml", *searched, "--set", "train.precision=float64", "--set", "coarse.epochs=4")
    best = hpsearch.json("best", "coarse")
    (hpsearch.folder / "best.toml").write_text(hpsearch("best", "coarse", "-f", "toml").stdout)
    done = hpsearch("train", "-c", "best.toml")
    assert "note: [space] is not used by train: lr, reg" in done.stderr
    assert f"val_acc  {best['value']:.4f} at epoch {best['attributes']['best_epoch']}" in done.stdout
    assert "seed 0 x 4 epochs" in done.stdout


@pytest.mark.slow
def test_other_values_another_name_and_no_ranges(hpsearch):
    hpsearch("train", "-c", "tiny.toml", "--set", "train.lr=1e-7", "--epochs", "2", "-q")
    refused = hpsearch("train", "-c", "tiny.toml", "--set", "train.lr=1e-2", "--epochs", "2", code=3)
    assert "train.lr: 1e-07 -> 0.01" in refused.stderr
    assert "--space is no option of hpsearch train." in hpsearch("train", "--space", "lr=log(1,2)", code=2).stderr
    low = hpsearch("train", "-c", "tiny.toml", "--set", "train.lr=1e-7", "--epochs", "2")
    assert "verdict  lr too low" in low.stdout
    [proposed] = re.findall(r"^next +(hpsearch train .*?)(?:   #|$)", low.stdout, re.MULTILINE)
    assert "--name train-2" in proposed
    assert "--set train.lr=1e-06" in proposed
    assert re.search(r"^ *# it looks lr too low: try a higher lr$|   # it looks lr too low", low.stdout, re.MULTILINE)
    again = hpsearch.json(*shlex.split(proposed)[1:])
    assert [run["seed"] for run in again["runs"]] == [0]
    assert again["study"] == "train-2"
    exploded = hpsearch("train", "-c", "tiny.toml", "--set", "lr=1e6", "--name", "up", "--seeds", "2")
    assert "exploded in epoch 1" in exploded.stdout
    assert "seed 1: exploded in epoch 1" in exploded.stderr
    assert re.search(r"next +hpsearch train --name up-2 --seeds 2 .*--set train.lr=100000\b", exploded.stdout)
    plan = hpsearch.json("train", "-c", "tiny.toml", "--name", "new", "--seeds", "4", "--dry-run")
    assert (plan["study"], plan["trials"], plan["packs"]) == ("new", 4, 4)
    assert "hpsearch train" in hpsearch("coarse", "--space", "lr=none", "--space", "reg=none", code=2).stderr
    assert {row["study"] for row in hpsearch.json("status")} == {"train", "train-2", "up"}


def test_a_killed_training_goes_on_from_its_checkpoint(hpsearch):
    """Killed once a checkpoint lies there, however far behind the training a slow disk is."""
    arguments = ("train", "-c", "tiny.toml", "--epochs", "12", "--set", "run.checkpoint_seconds=0", "--set", "lr=0.01")
    process = hpsearch.held(*arguments, after=5)
    checkpoints = hpsearch.folder / "studies" / "artifacts" / "checkpoints"
    wait_for(lambda: list(checkpoints.glob("*/0/5.json")), "a checkpoint of epoch 5")
    process.kill()
    process.communicate(timeout=600)
    done = hpsearch(*arguments)
    resumed = int(re.search(r"note: trial 0 resumes at epoch (\d+)", done.stderr)[1])
    again = [int(epoch) for epoch in re.findall(r"^epoch (\d+) /", done.stderr, re.MULTILINE)]
    assert again[-1] == 12
    assert resumed == 6
    assert min(again) >= resumed
    [run] = hpsearch.json(*arguments)["runs"]
    assert [row["epoch"] for row in run["epochs"]] == list(range(1, 13))


def test_curves_are_drawn_in_a_terminal(hpsearch):
    ours, theirs = pty.openpty()
    environment = {**hpsearch.environment, "TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
    arguments = ["train", "-c", "tiny.toml", "--epochs", "100", "--set", "lr=0.1"]
    process = warm_commands().start(arguments, hpsearch.folder, environment, terminal=os.ttyname(theirs))
    shown = b""
    while (more := select.select([ours], [], [], 0.05)[0]) or not process.has_ended():
        shown += os.read(ours, 65536) if more else b""
    os.close(theirs)
    os.close(ours)
    assert process.wait(timeout=600).returncode == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode(errors="replace"))
    before, last = text.rsplit("loss", 1) if text.count("loss") > 1 else (text, text)
    assert re.search(r"train    epoch \d+/100  val_acc \d\.\d{4}  best \d\.\d{4} at \d+", before)
    assert "accuracy" in last
    assert "verdict  " in last
    assert all(len(line) <= 80 for line in re.split(r"[\r\n]+", last.partition("train    seed 0")[0]))


def epoch(number, epoch, **values):
    same = dict.fromkeys(("cost", "train_loss", "train_acc", "val_loss", "val_acc", "update_ratio", "lr"), 0.5)
    return EpochResult(number, epoch, **{**same, **values})


RUNS = {n: [epoch(n, e, val_acc=0.1 * n + 0.05 * e) for e in range(1, 6)] for n in range(3)}


def test_seeds_are_combined_at_each_epoch():
    runs = {0: [epoch(0, 1, val_acc=0.2), epoch(0, 2, val_acc=0.4)], 1: [epoch(1, 1, val_acc=float("nan"))]}
    assert over_seeds(runs, "val_acc", max) == [(1, 0.2), (2, 0.4)]
    assert over_seeds(RUNS, "val_acc", min)[0] == (1, 0.05)


@pytest.mark.parametrize(("rows", "titles"), [(24, 2), (14, 2), (13, 1), (7, 1), (6, 0)])
def test_as_many_charts_as_fit(rows, titles):
    charts = training_charts(RUNS, 80, rows)
    assert len(charts) == titles
    lines = [line for chart in charts for line in chart.plain.splitlines()]
    assert len(lines) <= rows
    assert max(map(len, lines), default=0) <= 80


def test_one_run_has_no_range_and_a_run_among_others_has_theirs():
    def labels(*arguments, **options):
        _, chart = training_charts(*arguments, **options)
        return {word for line in chart.plain.splitlines()[1:-1] for word in line.split() if word.isalpha()}

    assert labels({0: RUNS[0]}, 80, 24) == {"train", "val"}
    assert labels(RUNS, 80, 24) == {"train", "val", "lowest", "highest"}
    title = training_charts(RUNS, 80, 24, focus=(2, "seed 9"))[1].plain.splitlines()[0]
    assert title == "accuracy, seed 9"


def printed(page, width, height):
    console = Console(width=width, height=height, file=io.StringIO())
    return ["".join(segment.text for segment in line) for line in console.render_lines(page, pad=False)]


@pytest.mark.parametrize("num_runs", [1, 5, 40])
@pytest.mark.parametrize(("width", "height"), [(80, 24), (60, 12), (120, 50), (80, 5)])
def test_the_page_fits_the_terminal(num_runs, width, height):
    page = Page(StageStarted("train", num_runs, 0, 0, 0, 8, None, "auto", 1, "cpu"), 3, None)
    page.begin()
    assert len(printed(page, width, height)) == 1
    for number in range(num_runs):
        page.add(epoch(number, e, val_acc=0.1 * e) for e in range(1, 8))
    if num_runs > 1:
        page.end(TrialFinished(0, "PRUNED", 0.0, {}, "exploded", 7, 1, num_runs))
    lines = printed(page, width, height)
    assert len(lines) <= max(height, 6)
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    assert ("epoch 7/8  val_acc 0.7000  best 0.7000 at 7" in text) == (num_runs == 1)
    if num_runs == 5 and height >= 24:
        assert re.search(r"^ +3 +7/8 .*exploded$", text, re.MULTILINE)
        assert "seed 4" in text  # the first one that has not ended


def test_lines_tell_what_is_trained_now_and_nothing_twice(capsys):
    progress = TrainingProgress(quiet=False, as_json=False, past=lambda: {0: [epoch(0, 1), epoch(0, 2)]})
    progress.planned(plan_training(StudyConfig().with_params({"train.seed": 7}), "train", 3))
    with progress:
        progress.stage_started(StageStarted("train", 3, 1, 0, 0, 2, None, "auto", 1, "cpu"))
        progress.measured([epoch(0, 1), epoch(0, 2), epoch(1, 1)])  # as they stand in the database
        progress.measured([epoch(1, 1)])
        progress.measured([epoch(2, 1)], earlier=True)
        progress.measured([epoch(2, 2)])
        progress.trial_finished(TrialFinished(1, "FAIL", None, {}, "ValueError: no", 2, 2, 3))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "note: train: 1 of 3 runs are finished; going on"
    assert [line.partition(": cost")[0] for line in lines[1:]] == [
        "seed 8: epoch 1 / 2",
        "seed 9: epoch 2 / 2",
        "seed 8: failed: ValueError: no",
    ]
