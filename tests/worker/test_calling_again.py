"""Workers that share a stage call its leader again: never two of them for the same purpose."""

import pytest

from hpsearch.config import load_settings
from hpsearch.stages.earlier_trials import EarlierTrial
from hpsearch.stages.planning import plan_coarse
from hpsearch.storage import NewTrial, Outcome, Queue, create_stage, open_database, read_trials
from hpsearch.worker.calling_again import CallsAgain
from hpsearch.worker.held import HeldTrial

NUM_TRIALS = 20
FIRST = 14  # the first trial that may be a call
POSTGRES = pytest.param("postgres", marks=[pytest.mark.postgres, pytest.mark.slow])


@pytest.fixture(params=["sqlite", POSTGRES])
def stage(request, tmp_path):
    url = f"sqlite:///{tmp_path}/studies.db"
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_databases").new()
    db = open_database(url, create=True)
    yield Stage(db)
    db.close()


class Stage:
    """Of 20 trials, of which those before the last part are complete: trial 3 is the best, then 2."""

    def __init__(self, db, sampler="tpe", rates=None, values=None):
        flags = {"objective.function": "mine:noisy", "coarse.sampler": sampler, "coarse.trials": NUM_TRIALS}
        self.plan = plan_coarse(load_settings(flags={**flags, "coarse.confirm": 1}, spaces=["rate=log(1e-4,1)"]))
        self.db = db
        self.study = create_stage(db, "coarse", "maximize", {}, {}, [NewTrial() for _ in range(NUM_TRIALS)])
        queue = Queue(db, self.study, "first")
        leases = queue.take(FIRST)
        rates = rates or [0.01 * (1 + lease.number) for lease in leases]
        queue.set_params([(lease, {"rate": rate}) for lease, rate in zip(leases, rates, strict=True)], self.plan.space)
        values = values or [0.1, 0.2, 0.8, 0.9, *(0.3 - number / 100 for number in range(4, FIRST))]
        queue.finish([Outcome(lease, "COMPLETE", value) for lease, value in zip(leases, values, strict=True)])

    def worker(self, name, earlier=(), between=lambda: None):
        """Takes a trial and begins it; `between` is called behind each answer that it gets from the database."""
        queue = Queue(self.db, self.study, name)

        def insist(call):
            answer = call()
            between()
            return answer

        calls = CallsAgain(queue, self.plan, earlier, "maximize", insist, lambda: None)
        (lease,) = queue.take(1)
        trial = HeldTrial(lease)
        calls.begin(trial)
        return queue, trial

    def row(self, number):
        return read_trials(self.db, self.study)[number]


@pytest.mark.parametrize(("sampler", "leaders"), [("tpe", {3}), ("gp", {7, 9})])
def test_before_a_gaussian_process_it_is_called_of_which_all_trials_promise_most(tmp_path, sampler, leaders):
    """Trial 3 has the highest value, and low ones right beside it; around trials 7 and 9 all are high."""
    rates = [0.0010, 0.0011, 0.0012, 0.00115, 0.00105, 0.00125, 0.08, 0.09, 0.11, 0.1, 0.12, 0.095, 0.5, 0.9]
    values = [0.50, 0.52, 0.48, 0.83, 0.51, 0.50, 0.79, 0.81, 0.80, 0.82, 0.79, 0.80, 0.6, 0.4]
    db = open_database(f"sqlite:///{tmp_path}/studies.db", create=True)
    stage = Stage(db, sampler, rates, values)
    stage.worker("one")
    again = stage.row(FIRST).attrs.get("again")
    assert again in leaders
    assert stage.row(FIRST).params == {"rate": rates[again]}
    db.close()


def test_an_earlier_stage_s_trial_may_be_the_one(tmp_path):
    rates = [10 ** (-4 + 2 * number / FIRST) for number in range(FIRST)]
    db = open_database(f"sqlite:///{tmp_path}/studies.db", create=True)
    stage = Stage(db, "gp", rates, [0.1 + 0.02 * number for number in range(FIRST)])
    known = {10**-1.6: 0.50, 10**-1.2: 0.55, 10**-1.1: 0.57, 10**-1.0: 0.56, 10**-0.9: 0.58, 10**-0.4: 0.4, 1.0: None}
    stage.worker("one", [EarlierTrial("before", None, {"rate": rate}, value) for rate, value in known.items()])
    assert stage.row(FIRST).attrs.get("tried in") == "before"
    assert stage.row(FIRST).params["rate"] in list(known)[1:5]
    db.close()


def once(call):
    """The call, the first time that it is asked for."""
    results = []
    return lambda: results or results.append(call())


def test_a_leader_that_another_worker_calls_at_this_moment_is_not_called_twice(stage):
    stage.worker("one", between=once(lambda: stage.worker("two")))
    again = [stage.row(number).attrs.get("again") for number in (14, 15)]
    assert sorted(again, key=str) == [3, None]  # the other one goes on searching
    assert stage.row(again.index(3) + 14).params == stage.row(3).params
    assert stage.row(again.index(None) + 14).params == {}


def test_a_trial_of_an_earlier_stage_is_not_called_twice_either(stage):
    earlier = [EarlierTrial("before", None, {"rate": 0.5}, 0.99)]
    stage.worker("one", earlier, between=once(lambda: stage.worker("two", earlier)))
    tried = [stage.row(number).attrs.get("tried in") for number in (14, 15)]
    assert sorted(tried, key=str) == [None, "before"]
    assert stage.row(tried.index("before") + 14).params == {"rate": 0.5}
    assert "again" not in stage.row(tried.index(None) + 14).attrs


def test_a_call_that_its_worker_gave_back_waits_and_is_not_made_anew(stage):
    queue, trial = stage.worker("one")
    (taken,) = Queue(stage.db, stage.study, "two").take(1)
    queue.release([trial.lease])
    assert (stage.row(14).state, stage.row(14).attrs["again"]) == ("WAITING", 3)
    held = HeldTrial(taken)
    calls = CallsAgain(
        Queue(stage.db, stage.study, "two"), stage.plan, (), "maximize", lambda call: call(), lambda: None
    )
    calls.begin(held)
    assert held.lease.number == 15
    assert "again" not in held.lease.attrs  # the leader's call counts as under way
    (again,) = Queue(stage.db, stage.study, "three").take(1)
    assert (again.number, again.attrs["again"], again.params) == (14, 3, trial.lease.params)


def test_an_answer_that_did_not_arrive_is_given_again(stage):
    """A commit whose connection broke may have arrived: the same question then has the same answer."""
    queue, lease = Queue(stage.db, stage.study, "one"), Queue(stage.db, stage.study, "one").take(1)[0]
    calls = CallsAgain(queue, stage.plan, (), "maximize", lambda call: (call(), call())[1], lambda: None)
    held = HeldTrial(lease)
    calls.begin(held)
    assert held.lease.attrs["again"] == stage.row(14).attrs["again"] == 3
    assert held.lease.params == stage.row(3).params


def test_a_trial_that_went_to_another_worker_is_left_alone(stage):
    queue = Queue(stage.db, stage.study, "one")
    (lease,) = queue.take(1)
    queue.release([lease])
    CallsAgain(queue, stage.plan, (), "maximize", lambda call: call(), lambda: None).begin(held := HeldTrial(lease))
    assert held.lease.params == stage.row(14).params == {}
    assert "again" not in stage.row(14).attrs
