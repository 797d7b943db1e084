"""Workers that propose at the same time by a Gaussian process do not try the same place."""

from itertools import combinations

import pytest

from hpsearch.config import Choice, FloatRange, IntRange, load_settings
from hpsearch.programs.messages import Suggest
from hpsearch.space import range_to_json
from hpsearch.space.nearness import try_the_same
from hpsearch.stages.planning import plan_coarse
from hpsearch.stages.proposals import Mirror
from hpsearch.stages.suggestions import SuggestingMirror
from hpsearch.storage import NewTrial, Outcome, Queue, create_stage, open_database, read_trials
from hpsearch.worker.held import HeldTrial
from hpsearch.worker.suggesting import Suggestions
from hpsearch.worker.trial_source import MOST_PROPOSALS, NothingResumed, TrialSource

ENDED = 12
LEASE = 3600.0  # seconds: nobody renews them here, however slow the machine is


class NoWriter:
    def hold(self, leases):
        """Nothing: they last."""


def interrupted(mirror, method, between):
    """Calls `between` after each proposal of this method; gives the list of the trials that it has proposed for."""
    propose, numbers = getattr(mirror, method), []

    def proposing(number):
        numbers.append(number)
        proposed = propose(number)
        between()
        return proposed

    setattr(mirror, method, proposing)
    return numbers


class Stage:
    """Over one rate, of which more is better: the best place is the upper end."""

    def __init__(self, folder):
        flags = {"objective.function": "mine:f", "coarse.sampler": "gp", "coarse.trials": 20}
        self.plan = plan_coarse(load_settings(flags=flags, spaces=["rate=uniform(0,1)"]))
        self.db = open_database(f"sqlite:///{folder}/studies.db", create=True)
        self.study = create_stage(self.db, "coarse", "maximize", {}, {}, [NewTrial() for _ in range(20)])
        queue = Queue(self.db, self.study, "first")
        leases = queue.take(ENDED)
        rates = [0.05 * lease.number for lease in leases]
        queue.set_params([(lease, {"rate": rate}) for lease, rate in zip(leases, rates, strict=True)], self.plan.space)
        queue.finish([Outcome(lease, "COMPLETE", rate) for lease, rate in zip(leases, rates, strict=True)])

    def worker(self, name, between=lambda: None):
        """Takes a trial and proposes for it; `between` is called while it does so. Returns the trial, and how often."""
        (lease,), numbers = self.pack(name, 1, between)
        return lease, len(numbers)

    def pack(self, name, width, between=lambda: None):
        """The same with as many trials as a pack has; returns them, and the number of each that was proposed for."""
        queue, plan = Queue(self.db, self.study, name, LEASE), self.plan
        rows = read_trials(self.db, self.study)
        mirror = Mirror("coarse", plan.space, plan.settings, rows)
        numbers = interrupted(mirror, "propose", between)
        source = TrialSource(queue, NoWriter(), NothingResumed(), plan, mirror, lambda call: call())
        held = {lease.number: HeldTrial(lease) for lease in queue.take(width)}
        source.propose_params(held, held)
        return [trial.lease for trial in held.values()], numbers

    def begin_at_the_end(self, name):
        """Another worker begins at the best place."""
        queue = Queue(self.db, self.study, name)
        leases = queue.take(1)
        queue.set_params([(lease, {"rate": 1.0}) for lease in leases], self.plan.space)


@pytest.fixture
def stage(tmp_path):
    made = Stage(tmp_path)
    yield made
    made.db.close()


def once(call):
    results = []
    return lambda: results or results.append(call())


def test_who_comes_second_proposes_another_place(stage):
    other = []
    lease, num = stage.worker("one", between=once(lambda: other.append(stage.worker("two"))))
    [(first, tries)] = other
    assert (num, tries) == (2, 1)
    assert not try_the_same(stage.plan.space, lease.params, first.params)
    rows = read_trials(stage.db, stage.study)
    assert rows[lease.number].params == lease.params
    assert rows[first.number].params == first.params


def test_alone_it_proposes_once(stage):
    lease, num = stage.worker("one")
    assert num == 1
    assert lease.params == read_trials(stage.db, stage.study)[lease.number].params


def test_two_packs_that_begin_together_try_no_place_twice(stage):
    other = []
    mine, proposed_for = stage.pack("one", 3, between=once(lambda: other.append(stage.pack("two", 3))))
    [(theirs, proposed_for_there)] = other
    assert proposed_for == [12, 12, 13, 14]  # once more for the first one, but not as its pack tries places of its own
    assert proposed_for_there == [15, 16, 17]
    for one, two in combinations([*mine, *theirs], 2):
        assert not try_the_same(stage.plan.space, one.params, two.params)
    rows = read_trials(stage.db, stage.study)
    assert all(rows[lease.number].params == lease.params for lease in [*mine, *theirs])


def test_it_does_not_propose_for_ever(stage, monkeypatch):
    monkeypatch.setattr("hpsearch.worker.trial_source.try_the_same", lambda *_: True)
    names = iter("abcdefgh")
    lease, num = stage.worker("one", between=lambda: stage.begin_at_the_end(next(names)))
    assert num == MOST_PROPOSALS
    assert lease.params == read_trials(stage.db, stage.study)[lease.number].params


KIND, RATE, DEPTH = Choice(((1,), (1, 2))), FloatRange(0.0, 1.0), IntRange(1, 9)


class AskingStage:
    """Of an Optuna objective that asks for a kind, a rate, of which more is better, and of one kind for a depth."""

    def __init__(self, folder, ended=ENDED):
        flags = {"objective.function": "mine:f", "objective.form": "optuna", "coarse.sampler": "gp"}
        self.plan = plan_coarse(load_settings(flags={**flags, "coarse.trials": 20}))
        self.db = open_database(f"sqlite:///{folder}/studies.db", create=True)
        self.study = create_stage(self.db, "coarse", "maximize", {}, {}, [NewTrial() for _ in range(20)])
        queue = Queue(self.db, self.study, "first")
        for lease in queue.take(ended):
            params = {"kind": KIND.values[lease.number % 2], "rate": 0.05 * lease.number}
            queue.add_params(lease, params, {"kind": KIND, "rate": RATE})
            if lease.number % 2:
                queue.add_params(lease, {"depth": 1 + lease.number % 9}, {"depth": DEPTH})
            queue.finish([Outcome(lease, "COMPLETE", 0.05 * lease.number)])

    def begin(self, name, between=lambda: None):
        """A worker's next trial, begun; `between` is called at each proposal. Also how many of these there were."""
        queue = Queue(self.db, self.study, name, LEASE)
        mirror = SuggestingMirror("coarse", self.plan.settings, read_trials(self.db, self.study))
        numbers = interrupted(mirror, "propose_together", between)
        suggestions = Suggestions(queue, self.plan, mirror, lambda call: call())
        (lease,) = queue.take(1)
        trial = HeldTrial(lease)
        suggestions.begin(trial)
        return suggestions, trial, len(numbers)

    def asked(self, suggestions, trial):
        """What the code gets, which asks for all."""
        calls = {"kind": KIND, "rate": RATE}
        for name, range_ in calls.items():
            assert suggestions.answer(trial, Suggest(name, range_to_json(range_))).wrong == ""
        return trial.lease.params


@pytest.fixture
def asking(tmp_path):
    made = AskingStage(tmp_path)
    yield made
    made.db.close()


SPACE = {"kind": KIND, "rate": RATE}


def test_who_comes_second_proposes_another_place_for_an_objective_that_asks(asking):
    """Though the code of neither has asked for anything yet."""
    other = []
    *mine, num = asking.begin("one", between=once(lambda: other.append(asking.begin("two"))))
    [(*theirs, tries)] = other
    assert (num, tries) == (2, 1)
    assert not try_the_same(SPACE, asking.asked(*mine), asking.asked(*theirs))


def test_what_one_that_runs_is_about_to_ask_for_is_known_to_who_begins_later(asking):
    first = asking.begin("one")
    second = asking.begin("two")
    assert (first[2], second[2]) == (1, 1)
    assert not try_the_same(SPACE, asking.asked(*second[:2]), asking.asked(*first[:2]))


def test_another_attempt_gets_what_was_proposed_and_is_asked_for_only_then(asking):
    suggestions, trial, _ = asking.begin("one")
    proposed = dict(trial.lease.attrs["proposed"])
    assert proposed.keys() == {"kind", "rate"}
    suggestions.answer(trial, Suggest("kind", range_to_json(KIND)))
    Queue(asking.db, asking.study, "one").release([trial.lease])
    again, taken, num = asking.begin("two")
    assert (taken.lease.number, num) == (trial.lease.number, 0)
    assert asking.asked(again, taken) == {"kind": tuple(proposed["kind"]), "rate": proposed["rate"]}


def test_what_the_call_leaves_no_room_for_is_proposed_by_itself(asking):
    suggestions, trial, _ = asking.begin("one")
    narrow = FloatRange(0.0, 0.1)
    assert trial.lease.attrs["proposed"]["rate"] > 0.1
    assert 0 <= suggestions.answer(trial, Suggest("rate", range_to_json(narrow))).chosen <= 0.1


def test_nothing_is_proposed_together_before_enough_trials_have_ended(tmp_path):
    stage = AskingStage(tmp_path, ended=3)
    suggestions, trial, num = stage.begin("one")
    stage.asked(suggestions, trial)
    stage.db.close()
    assert (num, "proposed" in trial.lease.attrs) == (1, False)
