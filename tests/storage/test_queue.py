import itertools
import math
import os
import subprocess
import sys

import pytest
import sqlalchemy as sa
import together

from hpsearch.config import Choice, FloatRange
from hpsearch.results import EpochResult
from hpsearch.storage import (
    ChosenParams,
    NewTrial,
    Outcome,
    Queue,
    create_stage,
    new_worker_id,
    read_epochs,
    read_trials,
)
from hpsearch.storage.tables import hpsearch_leases
from hpsearch.storage.workers import host, is_dead

RANGES = {"lr": FloatRange(1e-5, 1.0, log=True), "hidden": Choice(((50,), (100,)))}


def stage(db, num_trials=4, attrs=None, params=None):
    return create_stage(db, "stage", "maximize", {}, RANGES, [NewTrial(params, attrs or {})] * num_trials)


def epoch(lease, epoch=1, val_acc=0.5):
    return lease, EpochResult(lease.number, epoch, 1.0, 0.9, 0.6, 1.0, val_acc, 1e-3, 0.1)


def numbers(leases):
    return [lease.number for lease in leases]


def run_out(db, leases):
    """As if nobody had renewed these leases for too long."""
    with db.write() as connection:
        ids = [lease.trial_id for lease in leases]
        connection.execute(sa.update(hpsearch_leases).where(hpsearch_leases.c.trial_id.in_(ids)).values(expires_at=1.0))


@pytest.fixture
def study(db):
    return stage(db)


@pytest.fixture
def queue(db, study):
    return Queue(db, study, "first")


@pytest.fixture
def other(db, study):
    return Queue(db, study, "second")


def test_hyperparameters_are_added_one_by_one_under_the_lease(queue, other, db, study):
    [lease] = queue.take(1)
    assert queue.add_params(lease, {"lr": 0.5}, RANGES)
    assert queue.add_params(lease, {"hidden": (100,)}, RANGES)
    assert queue.add_params(lease, {"hidden": (100,)}, RANGES)  # as after a connection that broke
    assert read_trials(db, study)[0].params == {"lr": 0.5, "hidden": (100,)}
    run_out(db, [lease])
    [again] = other.take(1)
    assert (again.number, again.params) == (lease.number, {"lr": 0.5, "hidden": (100,)})
    assert not queue.add_params(lease, {"lr": 0.1}, RANGES)
    assert read_trials(db, study)[0].params["lr"] == 0.5


def test_what_is_left_is_shared_out_evenly(db):
    study = stage(db, num_trials=20)
    first, second = Queue(db, study, "first"), Queue(db, study, "second")
    assert numbers(first.take(6, even_out=4)) == [0, 1, 2, 3, 4, 5]  # alone
    theirs = second.take(6, even_out=4)
    assert len(theirs) == 5  # 20 for two: 10 each, in two packs
    second.record([epoch(lease, number) for lease in theirs for number in (1, 2)])
    # 9 wait and half of the second's 5 is left, 6 each; the first's own are done, though that is not recorded yet.
    assert len(first.take(5, even_out=4)) == 3
    assert len(first.take(4, even_out=4)) == 3  # of 6 that wait
    assert len(first.take(6)) == 3  # all that wait


def test_trials_are_taken_in_order_and_once(queue, other):
    assert numbers(queue.take(2)) == [0, 1]
    assert numbers(other.take(1)) == [2]
    assert numbers(queue.take(0)) == []
    assert numbers(queue.take(9)) == [3]
    assert other.take(9) == []


def test_a_lease_carries_what_the_trial_is(db):
    params = {"lr": 0.1, "hidden": (100,)}
    queue = Queue(db, stage(db, 1, {"structure": "a"}, params), "w")
    (lease,) = queue.take(1)
    assert (lease.attempt, lease.params, lease.attrs) == (1, params, {"structure": "a"})
    (row,) = read_trials(db, queue.study)
    assert (row.state, row.trial_id) == ("RUNNING", lease.trial_id)
    assert row.started is not None


def test_other_studies_are_left_alone(db, queue):
    create_stage(db, "another", "maximize", {}, {}, [NewTrial()] * 3)
    assert len(queue.take(99)) == 4
    assert queue.standing().num_waiting == 0


def test_a_pack_has_one_structure(db):
    kinds = ["a", "b", "a", None, "b", None, "a"]
    trials = [NewTrial(None, {"structure": kind} if kind else {}) for kind in kinds]
    queue = Queue(db, create_stage(db, "mixed", "maximize", {}, {}, trials), "w")
    assert numbers(queue.take(2)) == [0, 2]
    assert numbers(queue.take(9)) == [1, 4]
    assert numbers(queue.take(9)) == [3, 5]
    assert numbers(queue.take(9)) == [6]


def test_params_drawn_at_taking_stay_with_the_trial(db, queue, other):
    first, second = queue.take(2)
    run_out(db, [second])
    (stolen,) = other.take(1)
    drawn = {"lr": 0.25, "hidden": (50,)}
    held = queue.set_params([(first, drawn), (second, drawn)], RANGES)
    assert held == [first]
    assert held[0].params == drawn
    assert queue.set_params([(first, {"lr": 0.5})], RANGES)[0].params == {"lr": 0.5}
    assert queue.set_params([], RANGES) == []
    queue.release([first])
    (again,) = queue.take(1)
    assert (again.number, again.attempt, again.params) == (0, 2, {"lr": 0.5})
    assert stolen.params == {}
    assert read_trials(db, queue.study)[0].ranges == {"lr": RANGES["lr"]}


@pytest.mark.slow
def test_workers_choose_params_one_after_the_other(url, db, processes):
    study = create_stage(db, "chosen", "maximize", {}, {}, [NewTrial() for _ in range(36)])
    given = sorted(pair for pairs in processes(together.choose_all, url, "chosen") for pair in pairs)
    assert given == [(float(number), number) for number in range(36)]
    assert sorted(row.params["x"] for row in read_trials(db, study)) == [float(number) for number in range(36)]


def test_params_are_chosen_for_a_trial_that_is_held_and_has_none(db, queue, other):
    (lease,), chosen = queue.take(1), ChosenParams({"lr": 0.5}, RANGES, {"why": "so"})
    assert queue.choose_params(lease, lambda rows: None) is None
    assert queue.choose_params(lease, lambda rows: chosen if len(rows) == 3 else None).params == {"lr": 0.5}
    kept = queue.choose_params(lease, lambda rows: ChosenParams({"lr": 0.1}, RANGES, {"other": 1}))
    assert (kept.params, kept.attrs) == ({"lr": 0.5}, {"why": "so"})
    (lost,) = queue.take(1)
    run_out(db, [lost])
    other.take(1)
    assert queue.choose_params(lost, lambda rows: chosen) is None
    assert read_trials(db, queue.study)[lost.number].params == {}


def test_a_lease_that_ran_out_goes_to_the_next_worker_who_starts_over(db, queue, other):
    lost, kept = queue.take(2)
    queue.record([epoch(lost), epoch(kept)])
    run_out(db, [lost])
    assert queue.standing().seconds_to_expiry == 0
    (lease,) = other.take(1)
    assert (lease.number, lease.attempt) == (0, 2)
    assert list(read_epochs(db, queue.study)) == [1]
    assert [row.intermediate for row in read_trials(db, queue.study)][:2] == [{}, {1: 0.5}]


def test_a_late_worker_changes_nothing(db, queue, other):
    late, held = queue.take(2)
    run_out(db, [late])
    (lease,) = other.take(1)
    other.record([epoch(lease, 1, 0.9)])
    assert queue.renew([late, held]) == [held]
    assert queue.record([epoch(late, 1, 0.1), epoch(late, 2, 0.1), epoch(held, 1, 0.4)]) == [late, late]
    queue.release([late])
    assert queue.finish([Outcome(late, "COMPLETE", 0.1, {"by": "late"}), Outcome(held, "COMPLETE", 0.4)]) == [late]
    rows = read_trials(db, queue.study)
    assert (rows[0].state, rows[0].value, rows[0].attrs, rows[0].intermediate) == ("RUNNING", None, {}, {1: 0.9})
    assert (rows[1].state, rows[1].value) == ("COMPLETE", 0.4)
    assert other.finish([Outcome(lease, "COMPLETE", 0.9)]) == []
    assert queue.finish([Outcome(late, "COMPLETE", 0.1)]) == [late]
    assert read_trials(db, queue.study)[0].value == 0.9


def test_the_same_worker_is_late_for_its_own_first_attempt(db, queue):
    (first,) = queue.take(1)
    run_out(db, [first])
    (second,) = queue.take(1)
    assert (second.number, second.attempt) == (0, 2)
    assert queue.renew([first, second]) == [second]
    assert queue.finish([Outcome(first, "COMPLETE", 0.1), Outcome(second, "COMPLETE", 0.2)]) == [first]
    assert read_trials(db, queue.study)[0].value == 0.2


def test_a_lease_that_ran_out_is_kept_while_nobody_wants_it(db, queue, other):
    leases = queue.take(2)
    run_out(db, leases)
    assert queue.renew(leases[:1]) == leases[:1]
    assert queue.record([epoch(leases[1])]) == []
    assert numbers(other.take(9)) == [2, 3]


def test_renewing_and_recording_move_the_expiry(db, study):
    queue = Queue(db, study, "w", lease_seconds=100.0)
    (lease,) = queue.take(1)
    assert 90 < queue.standing().seconds_to_expiry <= 100
    run_out(db, [lease])
    queue.renew([lease])
    assert 90 < queue.standing().seconds_to_expiry <= 100
    run_out(db, [lease])
    queue.record([epoch(lease)])
    assert 90 < queue.standing().seconds_to_expiry <= 100


def test_recording_again_replaces(db, queue):
    (lease,) = queue.take(1)
    queue.record([epoch(lease, 1, 0.3), epoch(lease, 2, 0.4)])
    assert queue.record([epoch(lease, 2, math.nan)]) == []
    assert queue.record([]) == []
    assert [result.epoch for result in read_epochs(db, queue.study)[0]] == [1, 2]
    values = read_trials(db, queue.study)[0].intermediate
    assert values[1] == 0.3
    assert math.isnan(values[2])


def test_finishing_twice_counts_once(db, queue):
    (lease,) = queue.take(1)
    assert queue.finish([Outcome(lease, "COMPLETE", 0.5, {"best_epoch": 3})]) == []
    before = read_trials(db, queue.study)[0]
    assert queue.finish([Outcome(lease, "FAIL", None, {"best_epoch": 4})]) == []
    assert queue.finish([]) == []
    assert read_trials(db, queue.study)[0] == before
    assert queue.renew([lease]) == []
    assert queue.record([epoch(lease)]) == [lease]
    queue.release([lease])
    assert read_trials(db, queue.study)[0] == before
    with db.read() as connection:
        winner = connection.execute(sa.select(hpsearch_leases)).one()
    assert (winner.worker, winner.attempt, winner.expires_at) == ("first", 1, None)


def test_outcomes_are_finite():
    lease = object()
    for state, value in [("COMPLETE", None), ("COMPLETE", math.nan), ("PRUNED", math.inf)]:
        with pytest.raises(AssertionError):
            Outcome(lease, state, value)
    assert Outcome(lease, "PRUNED").value is None


def test_released_trials_wait_at_once_and_start_over(db, queue, other):
    leases = queue.take(2)
    queue.record([epoch(lease) for lease in leases])
    queue.release(leases[:1])
    queue.release([])
    row = read_trials(db, queue.study)[0]
    assert (row.state, row.started, row.intermediate) == ("WAITING", None, {})
    assert list(read_epochs(db, queue.study)) == [1]
    assert queue.record([epoch(leases[0])]) == [leases[0]]
    (again,) = other.take(1)
    assert (again.number, again.attempt) == (0, 2)


def test_a_trial_of_another_program_is_not_taken(db, queue):
    (lease,) = queue.take(1)
    queue.release([lease])
    with db.write() as connection:  # one was begun by us before, one never
        connection.exec_driver_sql("UPDATE trials SET state = 'RUNNING' WHERE number < 2")
    assert numbers(queue.take(9)) == [2, 3]
    assert queue.standing().num_running == 4
    assert queue.renew([lease]) == []  # nor does the lease that was given back count again


def test_a_trial_that_another_program_finished_is_lost(db, queue):
    (lease,) = queue.take(1)
    with db.write() as connection:
        connection.exec_driver_sql("UPDATE trials SET state = 'FAIL' WHERE number = 0")
    assert queue.renew([lease]) == []
    assert queue.record([epoch(lease)]) == [lease]
    assert queue.finish([Outcome(lease, "COMPLETE", 0.5)]) == [lease]
    assert read_trials(db, queue.study)[0].state == "FAIL"


def test_standing(db, queue):
    assert queue.standing() == type(queue.standing())(4, 0, 0, None)
    first, second = queue.take(2)
    queue.finish([Outcome(first, "PRUNED")])
    standing = queue.standing()
    assert (standing.num_waiting, standing.num_running, standing.num_finished) == (2, 1, 1)
    assert 10 < standing.seconds_to_expiry <= 15
    queue.finish([Outcome(second, "FAIL")])
    assert queue.standing().seconds_to_expiry is None


def test_a_dead_workers_trials_wait_at_once(db, study, queue):
    dead_pid = subprocess.Popen([sys.executable, "-c", ""])
    dead_pid.wait(timeout=600)
    dead = Queue(db, study, f"{host()}/{dead_pid.pid}/abc")
    alive = Queue(db, study, new_worker_id())
    elsewhere = Queue(db, study, f"another-host/{dead_pid.pid}/abc")
    taken = [worker.take(1)[0] for worker in (dead, alive)]
    assert not queue.runs_elsewhere()
    elsewhere.take(1)
    assert queue.runs_elsewhere()
    assert dead.record([epoch(taken[0])]) == []
    assert queue.release_dead() == [0]
    assert queue.release_dead() == []
    assert [row.state for row in read_trials(db, study)] == ["WAITING", "RUNNING", "RUNNING", "WAITING"]
    assert read_trials(db, study)[0].intermediate == {}
    assert queue.take(1)[0].attempt == 2


def test_workers_have_names_of_their_own():
    ids = {new_worker_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(name.split("/")[:2] == [host(), str(os.getpid())] for name in ids)
    assert not is_dead(new_worker_id())
    assert not is_dead("")
    assert not is_dead(f"{host()}/nonsense")
    assert not is_dead(f"{host()}/1/abc")  # lives, and is not ours to signal unless we are root


def test_the_budget_is_exact_with_many_processes(url, db, processes):
    num, limit = (60, 1) if db.is_sqlite else (200, 7)
    study = stage(db, num)
    done = processes(together.work, url, "stage", num, limit, 60.0)
    assert sorted(itertools.chain(*done)) == list(range(num))
    rows = read_trials(db, study)
    assert [(row.number, row.state, row.value) for row in rows] == [(i, "COMPLETE", i / num) for i in range(num)]
    with db.read() as connection:
        assert set(connection.execute(sa.select(hpsearch_leases.c.attempt)).scalars()) == {1}


def test_processes_that_steal_from_each_other_finish_each_trial_once(url, db, processes):
    study = stage(db, 60)
    gone = Queue(db, study, "gone")
    run_out(db, gone.take(60))
    done = processes(together.work, url, "stage", 60, 5, 0.002)  # shorter than the work, so they lose some
    assert sorted(itertools.chain(*done)) == list(range(60))
    assert {row.state for row in read_trials(db, study)} == {"COMPLETE"}
    with db.read() as connection:
        assert min(connection.execute(sa.select(hpsearch_leases.c.attempt)).scalars()) >= 2
