"""Rows of the fault matrix: the user's model or objective raises, or cannot be imported."""

from collections import Counter

import optuna
import pytest

import hpsearch
from hpsearch.analysis import attributes
from hpsearch.config import usercode
from hpsearch.wording import count_text

NETS = '''
import torch
from torch import nn

class Net(nn.Module):
    """Takes anything until it is trained; then, widths that are in `bad` raise."""

    def __init__(self, shape, num_classes, width, bad):
        super().__init__()
        self.bad = width in bad
        size = shape[0] * shape[1] * shape[2]
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(size, width), nn.ReLU(), nn.Linear(width, num_classes))

    def forward(self, x):
        if self.training and self.bad and len(x) > 2:
            raise ValueError(f"a width of {self.layers[1].out_features} cannot be trained")
        return self.layers(x)

def net(shape, num_classes, width=6, bad=(), unbuildable=()):
    if width in unbuildable:
        raise KeyError(width)
    return Net(shape, num_classes, width, bad)

class Fragile(nn.Sequential):
    def forward(self, x):
        logits = super().forward(x)
        if not torch.isfinite(logits).all():
            raise FloatingPointError("logits are no numbers")
        return logits

def fragile(shape, num_classes):
    return Fragile(nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], num_classes))
'''
STUDY = """
[data]
source = "synthetic"
synthetic = { shape = [1, 4, 4], classes = 3, train = 90, test = 9, noise = 0.5 }
[model]
name = "mynets:net"
[train]
batch_size = 20
epochs = 2
[space]
lr = { log = [1e-3, 1e-1] }
"model.options.width" = { choice = [4, 5, 6] }
[coarse]
trials = 12
epochs = 3
"""

COARSE = ("coarse", "-c", "study.toml")


@pytest.fixture
def own(sqlite_fleet):
    (sqlite_fleet.folder / "mynets.py").write_text(NETS)
    (sqlite_fleet.folder / "study.toml").write_text(STUDY)
    return sqlite_fleet


def states(fleet):
    return Counter(trial.state for trial in fleet.trials())


@pytest.mark.slow
def test_two_workers_finish_all_others_when_one_choice_raises_in_training(own):
    out, _ = own.run(*COARSE, "--workers", "2", "--set", "model.options.bad=[5]", "--set", "coarse.seed=1")
    trials = own.trials()
    bad = [trial.number for trial in trials if trial.params["model.options.width"] == 5]
    assert 0 < len(bad) < 12
    assert [trial.number for trial in trials if trial.state == "FAIL"] == bad
    assert all(trial.state == "COMPLETE" for trial in trials if trial.number not in bad)
    assert f"failed   {count_text(len(bad), 'trial')}: ValueError: a width of 5 cannot be trained" in out
    text = trials[bad[0]].attrs[attributes.TRACEBACK]
    assert "mynets.py" in text
    assert "ValueError: a width of 5" in text
    out, _ = own.run("status")
    head, row = (line.split() for line in out.splitlines()[:2])
    assert row[head.index("failed")] == str(len(bad))  # a number of their own


@pytest.mark.slow
def test_a_net_that_cannot_be_trained_at_all_stops_the_stage_with_the_count(own):
    bad = ("--set", "model.options.bad=[4,5,6]", "--space", "model.options.width=choice(5)", "--skip-checks")
    for workers in ("1", "2"):
        _, err = own.run(*COARSE, "--workers", workers, "--name", f"by-{workers}", *bad, code=1)
        assert "3 trials failed with the same error, 3 times running; the stage stops.\nValueError: a width of 5" in err
        found = Counter(trial.state for trial in own.trials(f"by-{workers}"))
        assert found["RUNNING"] == 0
        assert 3 <= found["FAIL"] <= 3 * int(workers)
        assert found["FAIL"] + found["WAITING"] == 12


def test_a_stage_all_of_whose_trials_failed_has_failed(own):
    arguments = ("--set", "model.options.bad=[4,5]", "--space", "model.options.width=choice(4,5)", "--skip-checks")
    out, _ = own.run(*COARSE, *arguments, code=1)  # two structures, two errors: none of them thrice running
    assert "best     none: no trial finished" in out
    assert states(own) == {"FAIL": 12}


def test_before_the_first_trial_the_checks_find_it_and_nothing_is_written(own):
    narrow = ("--set", "model.options.width=4", "--space", "model.options.width=none")
    _, err = own.run(*COARSE, "--set", "model.options.bad=[4]", *narrow, code=2)
    assert "mynets:net: training its net on a few images raised ValueError: a width of 4 cannot be trained\n" in err
    assert "in forward" in err
    assert "hpsearch/" not in err
    assert not (own.folder / "studies.db").exists()
    _, err = own.run(*COARSE, "--set", "model.options.unbuildable=[6]", code=2)  # the last of the choices
    assert "calling it with (1, 4, 4), 3, unbuildable=[6], width=6 raised KeyError: 6\n" in err
    assert not (own.folder / "studies.db").exists()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere:net", "nowhere:net: there is no module 'nowhere'.\nLooked in "),
        ("mynets:nat", "Did you mean 'net'?"),
        ("half:net", "importing it raised ZeroDivisionError: division by zero\n"),
    ],
)
def test_what_cannot_be_imported_stops_the_command(own, name, said):
    (own.folder / "half.py").write_text("def net(): ...\n1 / 0\n")
    _, err = own.run(*COARSE, "--model", name, "--space", "model.options.width=none", code=2)
    assert said in err
    assert not (own.folder / "studies.db").exists()


def test_one_trial_of_a_pack_that_raises_fails_alone(own):
    """Numbers that fit a vector train in one pack; a net that raises for one of them must not take the others along."""
    text = STUDY.replace("mynets:net", "mynets:fragile").replace('"model.options.width" = { choice = [4, 5, 6] }', "")
    (own.folder / "study.toml").write_text(text.replace("[space]", "explosion = 1e300\n[space]"))
    space = "lr=choice(0.001,0.01,0.02,1e300)"
    own.environment["HPSEARCH_RUN__WIDTH"] = "12"
    out, _ = own.run(*COARSE, "--space", space, "--set", "coarse.sampler=grid")
    assert "failed   1 trial: FloatingPointError: logits are no numbers" in out
    assert {trial.params["lr"]: trial.state for trial in own.trials()} == {
        0.001: "COMPLETE", 0.01: "COMPLETE", 0.02: "COMPLETE", 1e300: "FAIL",
    }  # fmt: skip


def test_an_objective_lets_the_users_error_through(own, monkeypatch):
    monkeypatch.chdir(own.folder)
    monkeypatch.syspath_prepend(str(own.folder))
    monkeypatch.setattr(usercode, "_trusted", set())
    study = optuna.create_study(direction="maximize")
    objective = hpsearch.Objective("study.toml")
    study.optimize(objective, n_trials=1)
    bad = hpsearch.Objective(objective.config.with_params({"model.options.bad": [4, 5, 6]}))
    with pytest.raises(ValueError, match=r"a width of \d cannot be trained") as caught:
        study.optimize(bad, n_trials=1)
    assert any(entry.path.name == "mynets.py" for entry in caught.traceback)
    assert study.trials[-1].state == optuna.trial.TrialState.FAIL
