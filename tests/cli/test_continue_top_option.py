"""`fine --continue-top`: what it says, and that a kill in the middle of a trial that goes on changes nothing."""

import re

import pytest

# The checkpoint of the second trial after epoch 4 is the last thing that is written; the training waits there.
KILL = """
import os, signal, sys, threading
from pathlib import Path

marker = Path({marker!r})
if "fine" in sys.orig_argv and not marker.exists():
    from hpsearch.training import Pack
    from hpsearch.training.checkpoints import Checkpoints

    save, run_epoch = Checkpoints.save, Pack.run_epoch

    def save_and_die(self, number, checkpoint):
        save(self, number, checkpoint)
        if number == 1 and checkpoint.snapshot.epoch == 4:
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    def wait_there(self):
        if self.epoch == 4:
            threading.Event().wait()
        return run_epoch(self)

    Checkpoints.save, Pack.run_epoch = save_and_die, wait_there
"""
COARSE = ("coarse", "-c", "tiny.toml", "--keep-top", "2", "--skip-checks", "--trials", "6")
FINE = ("fine", "--from", "coarse", "--trials", "4", "--epochs", "6", "--sampler", "random", "--continue-top", "2")
ALIKE = ("--engine", "loop", "--workers", "1", "--set", "run.width=2", "--set", "run.checkpoint_seconds=0")


@pytest.fixture(scope="module")
def searched(tmp_path_factory, command_line, tiny_study):
    folder = tmp_path_factory.mktemp("continued")
    (folder / "tiny.toml").write_text(tiny_study)
    line = command_line(folder)
    line(*COARSE)
    line.plan = line(*FINE, "--dry-run")
    line.fine = line(*FINE)
    return line


def as_ended(document):
    return [(t["params"], t["state"], t["value"], t["epochs"]) for t in document["trials"]]


@pytest.mark.slow
def test_plan_trial_best_and_test_say_where_it_comes_from(searched):
    (first, second) = (searched.json("trial", "fine", n)["attributes"]["continued"] for n in (0, 1))
    assert (first["study"], first["epoch"], second["epoch"]) == ("coarse", 2, 2)
    assert f"goes on  trial {first['trial']} of coarse from epoch 2\n" in searched.plan.stdout
    said = f"origin   continued from coarse trial {first['trial']} at epoch 2"
    assert f"{said}\n" in searched("trial", "fine", "0").stdout
    assert "origin" not in searched("trial", "fine", "3").stdout
    best = searched.json("best", "fine")
    (folder := searched.folder / "report.html").unlink(missing_ok=True)
    searched("report", "fine", "-o", folder)
    assert f"continued from coarse trial {first['trial']} at epoch 2" in folder.read_text()
    if (origin := best["attributes"].get("continued")) is not None:
        said = f"origin   continued from coarse trial {origin['trial']} at epoch 2"
        assert f"{said}\n" in searched("best", "fine").stdout
        assert f"{said}\n" in searched("status", "fine").stdout
        assert f"{said}; here it is trained from its first epoch\n" in searched("test", "fine").stdout


def test_with_another_number_it_is_another_search(searched):
    assert "continue_top: 2 -> 1" in searched(*FINE[:-1], "1", code=3).stderr


def test_without_kept_states_it_says_the_command_that_keeps_them(searched):
    refused = searched("fine", "--from", "fine", "--epochs", "9", "--continue-top", "2", "--name", "on", code=3)
    assert refused.stderr.strip().splitlines() == [
        "error: fine.continue_top = 2: 'fine' keeps the states of 0 trials (--keep-top was 0).",
        "Keep them: hpsearch fine --from coarse --name fine-kept --keep-top 2, with the other options of 'fine'; then "
        "hpsearch fine --from fine-kept",
    ]


def test_a_program_keeps_none(searched):
    refused = searched("coarse", "--objective", "a:b", "--space", "x=uniform(0,1)", "--keep-top", "2", code=2)
    assert len(refused.stderr.strip().splitlines()) == 2
    assert "coarse.keep_top = 2" in refused.stderr


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_a_kill_in_the_middle_of_one_that_goes_on_changes_nothing(searched, tmp_path, request, database):
    environment = {}
    if database == "postgres":
        environment["HPSEARCH_STORAGE"] = request.getfixturevalue("postgres_databases").new()
        searched(*COARSE, **environment)
    searched(*FINE, *ALIKE, "--name", "whole", **environment)
    marker = tmp_path / "killed"
    (tmp_path / "sitecustomize.py").write_text(KILL.format(marker=str(marker)))
    searched(*FINE, *ALIKE, "--name", "killed", code=-9, PYTHONPATH=str(tmp_path), **environment)
    assert marker.exists()
    again = searched(*FINE, *ALIKE, "--name", "killed", **environment)
    # Of the first trial the state after epoch 4 may not have been written: the writer takes them in any order.
    assert re.search(r"trial(s 0, 1 resume| 0 resumes) at epoch [45]", again.stderr)
    assert "spent: 4 of 4 trials" in again.stdout
    whole, killed = (as_ended(searched.json("export", name, **environment)) for name in ("whole", "killed"))
    assert killed == whole
