"""Workers that propose at the same time by a Gaussian process do not try the same place."""

import pytest

from hpsearch.config import load_settings
from hpsearch.space.nearness import try_the_same
from hpsearch.stages.planning import plan_coarse
from hpsearch.stages.proposals import Mirror
from hpsearch.storage import NewTrial, Outcome, Queue, create_stage, open_database, read_trials
from hpsearch.worker.held import HeldTrial
from hpsearch.worker.trial_source import MOST_PROPOSALS, NothingResumed, TrialSource

ENDED = 12


class NoWriter:
    def hold(self, leases):
        """Nobody renews them here."""


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
        queue, plan = Queue(self.db, self.study, name), self.plan
        rows = read_trials(self.db, self.study)
        mirror = Mirror("coarse", plan.space, plan.settings, rows)
        propose, num = mirror.propose, 0

        def proposing(number):
            nonlocal num
            num += 1
            proposed = propose(number)
            between()
            return proposed

        mirror.propose = proposing
        source = TrialSource(queue, NoWriter(), NothingResumed(), plan, mirror, lambda call: call())
        (lease,) = queue.take(1)
        held = {lease.number: HeldTrial(lease)}
        source.propose_params(held, held)
        return held[lease.number].lease, num

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


def test_it_does_not_propose_for_ever(stage, monkeypatch):
    monkeypatch.setattr("hpsearch.worker.trial_source.try_the_same", lambda *_: True)
    names = iter("abcdefgh")
    lease, num = stage.worker("one", between=lambda: stage.begin_at_the_end(next(names)))
    assert num == MOST_PROPOSALS
    assert lease.params == read_trials(stage.db, stage.study)[lease.number].params
