"""Queues whose trials are asked at rungs: what is reserved, what waits, what is closed; on both databases."""

import time
from functools import partial

import optuna
import pytest
import sqlalchemy as sa
from together import NUM_PROCESSES

from hpsearch.config import FloatRange
from hpsearch.results import EpochResult
from hpsearch.stages.halving import Halving, best_paused, best_stopped
from hpsearch.storage import (
    NewTrial,
    Outcome,
    RungQueue,
    create_stage,
    earlier_attempts,
    find_study,
    is_paused,
    open_database,
    read_trials,
    stop_of,
)

SPACE = {"lr": FloatRange(1e-3, 1.0, log=True)}
RULES = Halving("promote", epochs=9, budget=20)
LEFT_OUT = {"reason": "epochs budget", "epoch": 0}


def make(db, num_trials=20):
    trials = [NewTrial({"lr": 0.1}, {"structure": "a"}) for _ in range(num_trials)]
    return create_stage(db, "coarse", "maximize", {}, SPACE, trials)


@pytest.fixture
def study(db):
    return make(db)


def result(number, epoch, value):
    return EpochResult(number, epoch, 1.0, 1.0, 0.5, 1.0, value, 1e-3, 0.1)


def take(queue, limit, rules=RULES):
    return queue.take_chosen(partial(rules.choose, limit=limit))


def close(queue, rules=RULES):
    keep, complete = partial(best_paused, rules), partial(best_stopped, rules)
    return queue.close(partial(rules.choose, limit=1), keep, "maximize", LEFT_OUT, complete)


def train(queue, leases, epochs, value=lambda number: number / 100):
    queue.record([(lease, result(lease.number, epoch, value(lease.number))) for lease in leases for epoch in epochs])


def pause(queue, leases, epoch):
    queue.pause([(lease, epoch, {"reason": "halving", "epoch": epoch}) for lease in leases])


def by_number(db, study):
    return {trial.number: trial for trial in read_trials(db, study)}


def test_a_promoted_trial_keeps_what_it_recorded_and_its_time_of_start(db, study):
    queue = RungQueue(db, study, "host-a/1/x")
    leases = take(queue, 3)
    assert [(lease.number, stop_of(lease.attrs)) for lease in leases] == [(0, 1), (1, 1), (2, 1)]
    train(queue, leases, [1])
    pause(queue, leases, 1)
    before = by_number(db, study)[2]
    assert is_paused(before.state, before.attrs)
    (lease,) = take(RungQueue(db, study, "host-b/2/y"), 1)
    assert (lease.number, lease.attempt, stop_of(lease.attrs), earlier_attempts(lease.attrs)) == (2, 2, 3, 1)
    after = by_number(db, study)[2]
    assert after.intermediate == {1: 0.02}
    assert after.started == before.started
    assert not is_paused(after.state, after.attrs)


def test_a_worker_that_paused_a_trial_cannot_write_to_it_any_more(db, study):
    queue = RungQueue(db, study, "host-a/1/x")
    (lease,) = take(queue, 1)
    train(queue, [lease], [1])
    pause(queue, [lease], 1)
    pause(queue, [lease], 1)  # a second time changes nothing
    assert queue.record([(lease, result(0, 2, 0.9))]) == [lease]
    assert queue.finish([Outcome(lease, "COMPLETE", 0.9)]) == [lease]
    assert by_number(db, study)[0].intermediate == {1: 0.0}


def test_what_waits_is_nobodys_in_the_plain_way(db, study):
    queue = RungQueue(db, study, "host-a/1/x")
    leases = take(queue, 3)
    train(queue, leases, [1])
    pause(queue, leases, 1)
    assert queue.release_dead() == []
    assert {lease.number for lease in queue.take(40)}.isdisjoint({0, 1, 2})
    assert queue.standing().num_running >= 3


def test_a_reservation_outlives_its_worker(db, study):
    first = RungQueue(db, study, "host-a/1/x", lease_seconds=0.01)
    leases = take(first, 3)
    train(first, leases, [1])
    pause(first, leases, 1)
    (lease,) = take(first, 1)
    assert stop_of(lease.attrs) == 3
    time.sleep(0.05)  # its lease runs out
    second = RungQueue(db, study, "host-b/2/y")
    (again,) = take(second, 1)
    assert (again.number, again.attempt, stop_of(again.attrs), earlier_attempts(again.attrs)) == (2, 3, 3, 1)
    second.release([again])
    (third,) = take(first, 1)
    assert (third.number, third.attempt, stop_of(third.attrs)) == (2, 4, 3)


def test_going_on_reserves_until_the_budget_is_spent(db):
    rules = Halving("stop", epochs=9, budget=5)
    study = make(db, 5)
    queue = RungQueue(db, study, "host-a/1/x")
    leases = take(queue, 3, rules)
    train(queue, leases, [1])
    decided = queue.go_on(leases, partial(rules.go_on, numbers=[0, 1, 2]), "maximize")
    assert decided.until == {2: 3}
    assert set(decided.kept) == {0, 1, 2}
    assert take(queue, 9, rules) == []  # 3 epochs are done, and 2 reserved
    assert queue.go_on(leases[:1], lambda _standing: {0: 9}, "maximize").until == {0: 9}
    queue.release(leases[1:2])
    assert set(queue.go_on(leases, lambda _standing: {}, "maximize").kept) == {0, 2}


def test_closing_ends_what_waits_and_drops_what_never_began(db):
    rules = Halving("promote", epochs=9, budget=4)
    study = make(db, 4)
    queue = RungQueue(db, study, "host-a/1/x")
    leases = take(queue, 2, rules)
    assert not close(queue, rules).is_over
    train(queue, leases, [1])
    pause(queue, leases, 1)
    assert not close(queue, rules).is_over  # two epochs are left
    rest = take(queue, 1, rules)
    train(queue, rest, [1])
    pause(queue, rest, 1)
    (promoted,) = take(queue, 1, rules)
    assert (promoted.number, stop_of(promoted.attrs)) == (2, 2)
    train(queue, [promoted], [2])
    pause(queue, [promoted], 2)
    closing = close(queue, rules)
    (last,) = closing.last  # none is complete, so the best one is ended by its worker
    assert not closing.is_over
    assert last.number == 2
    assert not close(queue, rules).is_over
    queue.finish([Outcome(last, "COMPLETE", 0.02)])
    closing = close(queue, rules)
    assert closing.is_over
    assert list(closing.ended) == [0, 1]
    ended = by_number(db, study)
    assert {number: trial.state for number, trial in ended.items()} == {0: "PRUNED", 1: "PRUNED", 2: "COMPLETE"}
    assert ended[1].value == 0.01
    assert ended[1].attrs["reason"] == "halving"
    assert ended[1].completed is not None
    assert close(queue, rules).is_over
    with db.read() as connection:
        for table in ("trial_params", "trial_user_attributes"):
            left = sa.text(f"SELECT COUNT(*) FROM {table} WHERE trial_id NOT IN (SELECT trial_id FROM trials)")
            assert connection.scalar(left) == 0


def test_a_stage_that_is_over_without_a_complete_trial_has_the_best_that_was_stopped(db):
    study = make(db, 3)
    queue, rules = RungQueue(db, study, "host-a/1/x"), Halving("stop", epochs=9)
    leases = take(queue, 3, rules)
    values = [0.3, 0.2, 0.1]
    train(queue, leases, [1], lambda number: values[number])
    reasons = ["exploded", "halving", "halving"]
    ends = [
        Outcome(lease, "PRUNED", values[lease.number], {"reason": reason})
        for lease, reason in zip(leases, reasons, strict=True)
    ]
    queue.finish(ends[:2])
    assert not close(queue, rules).is_over
    assert by_number(db, study)[1].state == "PRUNED"
    queue.finish(ends[2:])
    for _ in range(2):  # another worker closes it, too
        assert close(queue, rules).is_over
        ended = by_number(db, study)
        assert {number: trial.state for number, trial in ended.items()} == {0: "PRUNED", 1: "COMPLETE", 2: "PRUNED"}
        assert (ended[1].value, ended[1].attrs["reason"]) == (0.2, "halving")


def test_numbers_have_no_gaps_where_trials_of_another_structure_were_never_begun(db):
    rules = Halving("none", epochs=4, budget=8)
    trials = [NewTrial({"lr": 0.1}, {"structure": structure}) for structure in "abbabbab"]
    study = create_stage(db, "coarse", "maximize", {}, SPACE, trials)
    queue = RungQueue(db, study, "host-a/1/x")
    leases = take(queue, 2, rules)
    assert [lease.number for lease in leases] == [0, 3]
    train(queue, leases, [1, 2, 3, 4])
    queue.finish([Outcome(lease, "COMPLETE", 0.5) for lease in leases])
    assert close(queue, rules).is_over
    ended = by_number(db, study)
    assert [(number, trial.state, trial.attrs.get("reason")) for number, trial in ended.items()] == [
        (0, "COMPLETE", None),
        (1, "PRUNED", "epochs budget"),
        (2, "PRUNED", "epochs budget"),
        (3, "COMPLETE", None),
    ]
    assert ended[1].started is not None
    asked = optuna.load_study(study_name="coarse", storage=db.optuna_storage()).ask()
    assert asked.number == 4


def take_pause_and_end(url, worker):
    """A worker that trains with the rules until nothing is left; how many epochs it trained."""
    db = open_database(url)
    study = find_study(db, "coarse")
    queue = RungQueue(db, study, f"host-{worker}-{time.time_ns()}/1/x", lease_seconds=600)
    num = 0
    while True:
        leases = take(queue, 2, MANY)
        for lease in leases:
            done = len(by_number(db, study)[lease.number].intermediate)
            until = stop_of(lease.attrs)
            train(queue, [lease], range(done + 1, until + 1), lambda number: number % 7 / 7)
            num += until - done
            if until == MANY.epochs:
                queue.finish([Outcome(lease, "COMPLETE", lease.number % 7 / 7)])
            else:
                pause(queue, [lease], until)
        if not leases:
            closing = close(queue, MANY)
            queue.finish([Outcome(lease, "COMPLETE", 0.5) for lease in closing.last])
            if closing.is_over:
                db.close()
                return num


MANY = Halving("promote", epochs=9, budget=60)


@pytest.mark.slow
def test_workers_that_choose_at_once_spend_the_budget_once(db, url, processes):
    study = make(db, MANY.budget)
    spent = processes(take_pause_and_end, url, "w")
    assert len(spent) == NUM_PROCESSES
    assert sum(spent) == MANY.budget
    trials = read_trials(db, study)
    assert sum(len(trial.intermediate) for trial in trials) == MANY.budget
    assert {trial.state for trial in trials} == {"COMPLETE", "PRUNED"}
