"""What a sampler sees of trials that wait at rungs, and go on."""

import optuna
import pytest

from hpsearch.config import FloatRange, StageConfig
from hpsearch.stages.proposals import Mirror
from hpsearch.storage import RUNG, TrialRow

SPACE = {"lr": FloatRange(1e-3, 1.0, log=True)}


def row(number, state, values=(), paused=False):
    attrs = {RUNG: {"until": len(values), "paused": paused, "earlier": 1}}
    intermediate = dict(enumerate(values, start=1))
    return TrialRow(number, number, state, None, {"lr": 0.1}, SPACE, intermediate, attrs)


@pytest.fixture
def mirror():
    return Mirror(
        "coarse", SPACE, StageConfig(sampler="tpe", trials=3, epochs=9), [row(n, "WAITING") for n in range(3)]
    )


def seen(mirror, number):
    trial = mirror.storage.get_trial(number)
    return trial.state.name, trial.intermediate_values


def test_a_trial_that_waits_is_learnt_from_and_runs_again_when_it_is_promoted(mirror):
    mirror.adopt(0, {"lr": 0.1})
    mirror.report(0, 1, 0.5)
    mirror.pause(0, 1)
    assert seen(mirror, 0) == ("PRUNED", {1: 0.5})
    mirror.adopt(0, {"lr": 0.1})
    assert seen(mirror, 0) == ("RUNNING", {1: 0.5})
    mirror.report(0, 2, 0.7)
    mirror.finish(0, 0.7)
    assert seen(mirror, 0) == ("COMPLETE", {1: 0.5, 2: 0.7})
    assert mirror.study.best_value == 0.7
    assert len(mirror.study.get_trials(states=[optuna.trial.TrialState.COMPLETE])) == 1


def test_trials_of_other_workers_are_followed_from_rung_to_rung(mirror):
    mirror.learn([row(0, "RUNNING", [0.5], paused=True)])
    assert seen(mirror, 0) == ("PRUNED", {1: 0.5})
    mirror.learn([row(0, "RUNNING", [0.5], paused=True)])  # nothing new
    mirror.learn([row(0, "RUNNING", [0.5, 0.6])])  # promoted
    assert seen(mirror, 0)[0] == "RUNNING"
    mirror.learn([row(0, "RUNNING", [0.5, 0.6, 0.7], paused=True)])
    assert seen(mirror, 0) == ("PRUNED", {1: 0.5, 2: 0.6, 3: 0.7})
    mirror.learn([row(0, "PRUNED", [0.5, 0.6, 0.7])])  # the stage is over
    assert seen(mirror, 0)[0] == "PRUNED"
    assert mirror.first_open == 1
    assert mirror.propose(1).keys() == {"lr"}
