"""Any order of calls by several workers, with silences and deaths in between, ends with every trial finished once."""

import shutil
import tempfile
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from hpsearch.results import EpochResult
from hpsearch.storage import NewTrial, Outcome, Queue, create_stage, open_database, read_epochs, read_trials
from hpsearch.storage.tables import FINISHED, hpsearch_leases

NUM_TRIALS = 5
WORKERS = ("a", "b", "c")
workers = st.sampled_from(WORKERS)


class QueueStates(RuleBasedStateMachine):
    template = None

    @initialize(structures=st.lists(st.sampled_from(["x", "y"]), min_size=NUM_TRIALS, max_size=NUM_TRIALS))
    def start(self, structures):
        self.folder = Path(tempfile.mkdtemp())
        shutil.copy(self.template, self.folder / "studies.db")
        self.db = open_database(f"sqlite:///{self.folder}/studies.db")
        trials = [NewTrial(None, {"structure": kind}) for kind in structures]
        self.study = create_stage(self.db, "s", "maximize", {}, {}, trials)
        self.queues = {name: Queue(self.db, self.study, name) for name in WORKERS}
        self.believed = {name: [] for name in WORKERS}  # leases that a worker thinks it holds, also lost ones
        self.holder = {}  # number -> (worker, attempt): who may write
        self.expired = set()
        self.attempts = dict.fromkeys(range(NUM_TRIALS), 0)
        self.won = {}  # number -> (worker, attempt, value)

    def holds(self, worker, lease):
        return self.holder.get(lease.number) == (worker, lease.attempt)

    @rule(worker=workers, limit=st.integers(1, 3))
    def take(self, worker, limit):
        free = {i for i in range(NUM_TRIALS) if i not in self.won and (i not in self.holder or i in self.expired)}
        leases = self.queues[worker].take(limit)
        taken = [lease.number for lease in leases]
        assert set(taken) <= free
        assert bool(taken) == bool(free)
        assert not free or taken[0] == min(free)
        assert len({lease.attrs["structure"] for lease in leases}) <= 1
        for lease in leases:
            self.attempts[lease.number] += 1
            assert lease.attempt == self.attempts[lease.number]
            self.holder[lease.number] = (worker, lease.attempt)
            self.expired.discard(lease.number)
        self.believed[worker] += leases

    @rule(worker=workers, epoch=st.integers(1, 3))
    def record(self, worker, epoch):
        leases = self.believed[worker]
        results = [(x, EpochResult(x.number, epoch, 1.0, 1.0, 0.5, 1.0, x.attempt / 100, 0.0, 0.1)) for x in leases]
        assert self.queues[worker].record(results) == [x for x in leases if not self.holds(worker, x)]
        self.expired -= {x.number for x in leases if self.holds(worker, x)}

    @rule(worker=workers)
    def renew(self, worker):
        held = [x for x in self.believed[worker] if self.holds(worker, x)]
        assert self.queues[worker].renew(self.believed[worker]) == held
        self.expired -= {x.number for x in held}

    @rule(worker=workers, state=st.sampled_from(FINISHED), count=st.integers(1, 3))
    def finish(self, worker, state, count):
        leases = self.believed[worker][:count]
        outcomes = [Outcome(x, state, x.attempt / 10 if state == "COMPLETE" else None) for x in leases]
        lost = self.queues[worker].finish(outcomes)
        for x in leases:
            if self.holds(worker, x):
                self.won[x.number] = (worker, x.attempt, state)
                del self.holder[x.number]
            assert (x in lost) == (self.won.get(x.number, ())[:2] != (worker, x.attempt))

    @rule(worker=workers)
    def release(self, worker):
        self.queues[worker].release(self.believed[worker])
        for x in self.believed[worker]:
            if self.holds(worker, x):
                del self.holder[x.number]
                self.expired.discard(x.number)

    @rule(worker=workers)
    def die(self, worker):
        self.believed[worker] = []

    @rule(worker=workers)
    def fall_silent(self, worker):
        with self.db.write() as connection:
            connection.execute(
                sa.update(hpsearch_leases)
                .where(hpsearch_leases.c.worker == worker, hpsearch_leases.c.expires_at.is_not(None))
                .values(expires_at=1.0)
            )
        self.expired |= {number for number, (name, _) in self.holder.items() if name == worker}

    @invariant()
    def the_database_agrees(self):
        if not hasattr(self, "db"):
            return
        rows = read_trials(self.db, self.study)
        assert [row.number for row in rows] == list(range(NUM_TRIALS))
        for row in rows:
            if row.number in self.won:
                _, attempt, state = self.won[row.number]
                assert row.state == state
                assert row.value == (attempt / 10 if state == "COMPLETE" else None)
            else:
                assert row.state == ("RUNNING" if row.number in self.holder else "WAITING")
            attempts = {round(value * 100) for value in row.intermediate.values()}
            assert attempts <= {self.attempts[row.number]}  # of the last attempt alone
        epochs = read_epochs(self.db, self.study)
        assert {n: [e.epoch for e in found] for n, found in epochs.items()} == {
            row.number: list(row.intermediate) for row in rows if row.intermediate
        }
        standing = self.queues["a"].standing()
        assert (standing.num_finished, standing.num_running) == (len(self.won), len(self.holder))
        assert standing.num_waiting == NUM_TRIALS - len(self.won) - len(self.holder)

    def teardown(self):
        if not hasattr(self, "db"):
            return
        for _ in range(NUM_TRIALS):  # one good worker ends the study, whatever happened
            if len(self.won) == NUM_TRIALS:
                break
            for name in WORKERS:
                self.fall_silent(name)
            self.take("a", 3)
            self.finish("a", "COMPLETE", 10**6)
        assert set(self.won) == set(range(NUM_TRIALS))
        self.the_database_agrees()
        self.db.close()
        shutil.rmtree(self.folder)


@pytest.mark.timeout(120)
# Each example has its own database, and each step three looks at it: a few in each run, more among the slow tests.
@pytest.mark.parametrize("num_examples", [6, pytest.param(30, marks=pytest.mark.slow)])
def test_the_queue_in_any_order(sqlite_template, num_examples):
    QueueStates.template = sqlite_template
    run_state_machine_as_test(
        QueueStates,
        settings=settings(
            max_examples=num_examples, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
