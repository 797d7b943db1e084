"""Rungs and budgets in epochs under SIGKILL: the same epochs are spent, and each trial's values are its own."""

import os
import signal

import pytest
from fleet_at_work import Fleet
from test_crash_points import on_storages, will_crash

BUDGET = 90
HALVED = ("--epochs", "9", "--epochs-budget", str(BUDGET))
POINTS = {
    "chosen, not leased": ("hpsearch.storage.choosing", "_write_rungs", "before", 6),
    "new trials leased": ("hpsearch.storage.choosing", "RungQueue.take_chosen", "after", 2),
    "a rung recorded, nothing decided": ("hpsearch.storage.queue", "Queue.record", "after", 4),
    "a checkpoint about to be written at a rung": ("hpsearch.training.checkpoints", "Checkpoints.save", "before", 5),
    "checkpoints written, not paused": ("hpsearch.storage.choosing", "RungQueue.pause", "before", 3),
    "inside the transaction that pauses": ("hpsearch.storage.choosing", "_write_rungs", "before", 9),
    "paused": ("hpsearch.storage.choosing", "RungQueue.pause", "after", 3),
    "promoted, checkpoint not read": ("hpsearch.training.checkpoints", "Checkpoints.load", "before", 1),
    "promoted, an epoch on": ("hpsearch.training.checkpoints", "Checkpoints.load", "after", 4),
    "about to be closed": ("hpsearch.storage.choosing", "RungQueue._end", "before", 1),
    "inside the transaction that closes": ("hpsearch.storage.choosing", "RungQueue._end", "after", 1),
    "closed": ("hpsearch.storage.choosing", "RungQueue.close", "after", 1),
}
STOP_POINTS = {
    "a rung recorded, nothing decided": ("hpsearch.storage.choosing", "RungQueue.go_on", "before", 2),
    "decided, nothing done": ("hpsearch.storage.choosing", "RungQueue.go_on", "after", 3),
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The values of each trial, by number, where all of them go through all epochs undisturbed."""
    folder = tmp_path_factory.mktemp("plain")
    fleet = Fleet(folder, f"sqlite:///{folder}/studies.db")
    fleet.finish(fleet.coarse("--epochs", "9", "--trials", str(BUDGET // 2), "--set", "run.engine=loop"))
    return {number: values for number, _, _, values in fleet.values()}


def start(fleet, form, *arguments, **environment):
    return fleet.coarse(*HALVED, "--halving", form, "--set", "run.engine=loop", *arguments, **environment)


def assert_spent_and_equal(fleet, plain):
    trials = fleet.trials()
    assert sum(len(trial.intermediate) for trial in trials) == BUDGET
    assert {trial.state for trial in trials} <= {"COMPLETE", "PRUNED"}
    assert [trial.number for trial in trials] == list(range(len(trials)))
    for number, _, _, values in fleet.values():
        if number in plain:
            assert values == plain[number][: len(values)]
    assert any(len(trial.intermediate) == 9 for trial in trials)
    assert max(t.value for t in trials if t.state == "COMPLETE") == max(t.value for t in trials)
    assert len({number for number, *_ in fleet.leases()}) == len(fleet.leases())


def crash_at(fleet, form, point):
    environment, marker = will_crash(fleet, point)
    fleet.finish(start(fleet, form, **environment), code=-9)
    assert marker.exists()
    fleet.finish(start(fleet, form))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fleet", "point"), on_storages(POINTS, ("chosen, not leased", "inside", "paused")), indirect=["fleet"]
)
def test_sigkill_where_trials_are_promoted(fleet, plain, point):
    crash_at(fleet, "promote", POINTS[point])
    assert_spent_and_equal(fleet, plain)


@pytest.mark.slow
@pytest.mark.parametrize(("fleet", "point"), on_storages(STOP_POINTS, ("decided",)), indirect=["fleet"])
def test_sigkill_where_trials_are_stopped(fleet, plain, point):
    crash_at(fleet, "stop", STOP_POINTS[point])
    assert_spent_and_equal(fleet, plain)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["stop", "promote"])
def test_sigkill_of_one_worker_of_two_in_mid_epoch(fleet, plain, form):
    process = start(fleet, form, "--workers", "2", **fleet.held(after=1))
    first = fleet.a_running_worker()
    os.kill(first, signal.SIGKILL)
    os.kill(fleet.a_running_worker(other_than=[first]), signal.SIGKILL)
    fleet.go()
    fleet.finish(process)
    assert_spent_and_equal(fleet, plain)
