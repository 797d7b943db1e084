"""What a watcher sees of a study that others work on, look by look."""

import math
import os
import subprocess
import sys
from itertools import pairwise

import optuna
import pytest
import sqlalchemy as sa

from hpsearch.analysis import attributes
from hpsearch.analysis import snapshots as watching
from hpsearch.analysis.diagnosis import diagnose_study
from hpsearch.analysis.snapshots import Watcher
from hpsearch.analysis.study_trials import read_study
from hpsearch.analysis.summary import stage_summary
from hpsearch.config import FloatRange
from hpsearch.results import EpochResult
from hpsearch.stages.listener import standing
from hpsearch.storage import (
    NewTrial,
    Outcome,
    Queue,
    count_exploded,
    create_stage,
    find_study,
    open_database,
    read_epochs,
)
from hpsearch.storage.activity import read_activity, workers_of
from hpsearch.storage.tables import trials
from hpsearch.storage.workers import host

SPACE = {"lr": FloatRange(1e-4, 1.0, log=True)}
STAGE = {
    attributes.STAGE: "coarse",
    attributes.CONFIG: {"coarse": {"epochs": 4}},
    attributes.DATASET: {"classes": 2},
}
EXPLOSION = {attributes.REASON: attributes.EXPLODED, attributes.EPOCH: 1}


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def db(request, tmp_path):
    postgres = request.param == "postgres"
    url = request.getfixturevalue("postgres_databases").new() if postgres else f"sqlite:///{tmp_path}/studies.db"
    database = open_database(url, create=True)
    yield database
    database.close()


class Clock:
    seconds = 0.0

    def __call__(self):
        return self.seconds


class Stage:
    """A stage of trials with rates 1e-4 ... 1, a worker's hands on it, and someone who watches."""

    def __init__(self, db, num_trials, worker="vm-abc/7/x"):
        rates = [10 ** (-4 + 4 * number / (num_trials - 1)) for number in range(num_trials)]
        waiting = [NewTrial({"lr": rate}) for rate in rates]
        self.study = create_stage(db, "coarse", "maximize", STAGE, SPACE, waiting)
        self.db, self.queue, self.clock = db, Queue(db, self.study, worker), Clock()
        self.watcher = Watcher(db, find_study(db, "coarse"), self.clock)

    def look(self, seconds):
        self.clock.seconds += seconds
        return self.watcher.look()

    def record(self, leases, epoch):
        accuracies = [0.5 + 0.1 * epoch + 0.01 * lease.number for lease in leases]
        results = [
            EpochResult(lease.number, epoch, 0.5, 0.5, acc, 0.5, acc, 1e-3, 0.1)
            for lease, acc in zip(leases, accuracies, strict=True)
        ]
        assert self.queue.record(list(zip(leases, results, strict=True))) == []


def test_a_study_from_its_first_trial_to_its_last(db):
    stage = Stage(db, 10)
    snapshot = stage.look(0)
    assert (snapshot.num_trials, snapshot.num_finished, snapshot.counts["WAITING"]) == (10, 0, 10)
    assert snapshot.abandoned
    assert (snapshot.trials_per_minute, snapshot.seconds_left) == (None, None)

    leases = stage.queue.take(5)
    for epoch in (1, 2):
        stage.record(leases, epoch)
    snapshot = stage.look(5)
    assert not snapshot.abandoned
    assert [trial.number for trial in snapshot.running] == [0, 1, 2, 3, 4]
    assert snapshot.running[3].intermediate == pytest.approx({1: 0.63, 2: 0.73})
    assert snapshot.workers == dict.fromkeys(range(5), "vm-abc/7/x")
    assert snapshot.epochs_per_second == 2.0

    exploded, kept = leases[3:], leases[:3]
    stage.queue.finish([Outcome(lease, "PRUNED", 0.0, EXPLOSION, (3, 0.0)) for lease in exploded])
    for epoch in (3, 4):
        stage.record(kept, epoch)
    stage.queue.finish([Outcome(lease, "COMPLETE", 0.9 + 0.01 * lease.number) for lease in kept])
    snapshot = stage.look(5)
    assert (snapshot.num_finished, snapshot.num_exploded, snapshot.running) == (5, 2, ())
    assert [trial.number for trial in snapshot.best] == [2, 1, 0]
    assert snapshot.diagnoses[2].verdict == "healthy"
    assert snapshot.trials_per_minute == 60 * 5 / 10
    assert snapshot.epochs_per_second == (3 * 4 + 2 * 3) / 10
    assert snapshot.seconds_left == pytest.approx(5 * 3.6 / 1.8)  # as many epochs each as those finished had
    assert [share for share in snapshot.exploded_over_lr if share is not None] == [0, 0, 0, 1, 1]

    rest = stage.queue.take(5)
    stage.queue.finish([Outcome(lease, "COMPLETE", 0.99) for lease in rest])
    snapshot = stage.look(5)
    assert snapshot.done
    assert not snapshot.abandoned
    assert snapshot.as_dict()["best"][0]["number"] == 5


def test_the_time_left_falls_with_the_clock_and_moves_a_little_when_a_pack_ends_its_epoch(db):
    """Looks every five seconds; four trials train at a time, and all of them end an epoch every 20 s."""
    stage, told = Stage(db, 16), []
    stage.look(0)
    for _ in range(4):
        leases = stage.queue.take(4)
        for epoch in (1, 2, 3, 4):
            told += [stage.look(5).seconds_left for _ in range(4)]
            stage.record(leases, epoch)
        stage.queue.finish([Outcome(lease, "COMPLETE", 0.9) for lease in leases])
    known = [left for left in told if left is not None]
    assert len(known) > 40
    assert max(abs(after - before) for before, after in pairwise(known)) < 15
    for number, left in enumerate(told):
        if left is not None and number > 24:
            assert left == pytest.approx(320 - 5 * number, abs=0.3 * 320)


def test_a_trial_has_one_verdict_whoever_asks(db):
    """The page of a watcher looks at the best trials alone; low is measured by the best of all."""
    stage = Stage(db, 12)
    leases = stage.queue.take(12)
    for epoch in (1, 2):
        stage.record(leases, epoch)
    stage.queue.finish([Outcome(lease, "COMPLETE", 0.7 + 0.01 * lease.number) for lease in leases])
    snapshot = stage.look(1)
    evidence = read_study(db, "coarse")
    everywhere = diagnose_study(evidence.study, evidence.trials, read_epochs(db, evidence.study))
    assert len(snapshot.diagnoses) == len(snapshot.best) == 10
    assert {number: everywhere[number] for number in snapshot.diagnoses} == snapshot.diagnoses
    assert {each.verdict for each in snapshot.diagnoses.values()} == {"underfitting", "healthy"}


def test_explosions_are_counted_apart_from_what_a_pruner_stopped(db):
    stage = Stage(db, 8)
    exploded, pruned, failed, complete = stage.queue.take(4)
    outcomes = [
        Outcome(exploded, "PRUNED", 0.0, EXPLOSION, (1, 0.0)),
        Outcome(pruned, "PRUNED", 0.4, {attributes.REASON: "median"}, (1, 0.4)),
        Outcome(failed, "FAIL", None, {attributes.REASON: "ValueError: no"}),
        Outcome(complete, "COMPLETE", 0.5),
    ]
    stage.queue.finish(outcomes)
    stage.queue.take(1)
    snapshot = stage.look(1)
    assert (snapshot.num_pruned, snapshot.num_exploded, snapshot.num_finished) == (1, 1, 4)
    evidence = read_study(db, "coarse")
    summary, started = stage_summary(evidence), standing("coarse", evidence.trials, 4)
    assert (summary.num_pruned, summary.num_exploded, summary.num_complete, summary.counts["FAIL"]) == (1, 1, 1, 1)
    assert (started.num_pruned, started.num_exploded, started.num_finished) == (1, 1, 4)
    marked = count_exploded(db, attributes.REASON, attributes.EXPLODED)
    assert marked == {evidence.study.study_id: {"PRUNED": 1}}
    assert (summary.as_dict()["pruned"], snapshot.as_dict()["pruned"]) == (1, 1)


def test_speed_is_that_of_the_last_minute(db):
    stage = Stage(db, 40)
    stage.look(0)
    for _ in range(10):
        stage.queue.finish([Outcome(lease, "COMPLETE", 0.5) for lease in stage.queue.take(2)])
        stage.look(10)
    assert stage.look(0).trials_per_minute == 12
    for _ in range(6):
        stage.look(10)
    assert stage.look(0).trials_per_minute == 0


def test_only_what_changed_is_read(db, monkeypatch):
    stage = Stage(db, 200)
    for _ in range(3):
        stage.queue.finish([Outcome(lease, "COMPLETE", 0.5) for lease in stage.queue.take(50)])
        stage.look(1)
    num_read = 0

    def counting(*arguments, read=watching.read_trials, **options):
        nonlocal num_read
        rows = read(*arguments, **options)
        num_read += len(rows)
        return rows

    monkeypatch.setattr(watching, "read_trials", counting)
    stage.look(1)
    assert num_read == 0
    leases = stage.queue.take(10)
    stage.look(1)
    assert num_read == 10
    stage.queue.finish([Outcome(lease, "COMPLETE", 0.5) for lease in leases])
    assert stage.look(1).num_finished == 160
    assert num_read == 20


def test_a_look_waits_for_no_writer_and_a_writer_for_no_look(db):
    stage = Stage(db, 4)
    leases = stage.queue.take(4)
    with db.write() as connection:  # an open transaction that has written
        connection.execute(sa.update(trials).values(datetime_start=None))
        assert stage.look(1).counts["RUNNING"] == 4
    with db.read() as connection:  # as long as a look could ever be
        connection.execute(sa.select(trials)).all()
        stage.record(leases, 1)
    assert len(stage.look(1).running[0].intermediate) == 1


def test_a_silent_worker_is_noticed(db):
    stage = Stage(db, 4)
    stage.queue.lease_seconds = -1.0
    stage.queue.take(2)
    assert stage.look(1).abandoned
    stage.queue.lease_seconds = 60.0
    stage.queue.take(1)
    assert not stage.look(1).abandoned


def test_a_worker_whose_process_is_gone_is_dead_at_once(db):
    """Whatever its lease still says, and though nobody has asked its parent's kernel how it ended."""
    child = subprocess.Popen([sys.executable, "-c", "pass"], stdin=subprocess.DEVNULL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it has ended and is not reaped
    worker = f"{host()}/{child.pid}/x"
    stage = Stage(db, 4, worker)
    stage.queue.take(2)
    snapshot = stage.look(1)
    assert snapshot.abandoned
    assert snapshot.dead == {worker}
    [activity] = workers_of(read_activity(db, stage.study))
    assert activity.seconds_left > 0
    assert activity.as_dict()["dead"] is True
    child.wait()
    assert stage.look(1).abandoned


def test_trials_of_another_program(tmp_path):
    url = f"sqlite:///{tmp_path}/optuna.db"
    study = optuna.create_study(study_name="theirs", storage=url, direction="minimize")
    study.optimize(lambda trial: trial.suggest_float("x", -1, 1) ** 2, n_trials=5)
    study.ask()
    db = open_database(url)
    snapshot = Watcher(db, find_study(db, "theirs")).look()
    assert (snapshot.num_finished, snapshot.counts["RUNNING"], snapshot.done) == (5, 1, False)
    assert snapshot.best[0].number == study.best_trial.number
    assert (snapshot.diagnoses, snapshot.workers, snapshot.num_epochs) == ({}, {}, None)
    db.close()


def test_an_infinitely_bad_value_is_an_explosion_whoever_recorded_it(tmp_path):
    url = f"sqlite:///{tmp_path}/optuna.db"
    for name, direction, bad in (("low", "minimize", math.inf), ("high", "maximize", -math.inf)):
        study = optuna.create_study(study_name=name, storage=url, direction=direction)
        study.optimize(lambda trial, bad=bad: [1.0, bad, -bad, 2.0][trial.number % 4], n_trials=8)
    db = open_database(url)
    found = count_exploded(db, attributes.REASON, attributes.EXPLODED)
    for name in ("low", "high"):
        evidence = read_study(db, name)
        assert found[evidence.study.study_id] == {"COMPLETE": 2}
        assert (evidence.num_exploded, evidence.num_pruned) == (2, 0)
        assert Watcher(db, evidence.study).look().num_pruned == 0
    db.close()
