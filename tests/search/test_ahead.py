"""The next pack is got ready while one trains; whatever happens meanwhile, no trial is lost and no number changes."""

import threading
import time
from dataclasses import replace

import pytest
import torch

from hpsearch.errors import StorageError
from hpsearch.search import ahead, pack_run
from hpsearch.search.ahead import Ahead, has_noise, may_create
from hpsearch.search.failures import PoisonedDeviceError
from hpsearch.search.images import load_data
from hpsearch.search.plan import plan_coarse
from hpsearch.search.session import run_stage
from hpsearch.search.stages import open_stage
from hpsearch.search.writer import Writer
from hpsearch.storage import Outcome, Queue, StorageAwayError, find_study, open_database, read_trials
from hpsearch.training import Pack, structure_key
from hpsearch.training.checkpoints import Checkpoints

CALM = ["lr=log(1e-3,1e-2)", "reg=log(1e-5,1e-3)"]
TEST_SECONDS = 600.0  # after which something that should happen does not


def run(db, settings):
    plan = plan_coarse(settings)
    return run_stage(db, plan, settings.run, load_data(plan.trial_config, settings.run))


def outcome_of(evidence):
    return [(trial.state, trial.params, trial.value, trial.intermediate) for trial in evidence.trials]


def wait_for(condition):
    deadline = time.monotonic() + TEST_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def states(db):
    return [trial.state for trial in read_trials(db, find_study(db, "coarse"))]


@pytest.fixture
def settings(tiny):
    """Twelve trials of two epochs in packs of four; none explodes."""
    return tiny(run__width=4, space=CALM)


@pytest.fixture
def undisturbed(tmp_path, settings, monkeypatch):
    """What the same search brings where nothing is got ready."""
    with monkeypatch.context() as patch:
        patch.setattr(Queue, "take_ahead", lambda self, limit: [])
        return outcome_of(run(open_database(f"sqlite:///{tmp_path}/other.db", create=True), settings))


@pytest.fixture
def in_last_epoch(monkeypatch):
    """`in_last_epoch(call)` calls it with the pack, in the thread that trains, before its last epoch ends."""
    original = Pack.run_epoch

    def install(call):
        def run_epoch(self):
            report = original(self)
            if self.epoch == self.num_epochs:
                call(self)
            return report

        monkeypatch.setattr(Pack, "run_epoch", run_epoch)

    return install


@pytest.fixture
def makers(monkeypatch):
    """The threads in which packs are made, by the numbers of their trials; as on a device that allows it."""
    made = {}

    class Watched(Pack):
        def __init__(self, config, data, specs, **options):
            super().__init__(config, data, specs, **options)
            made[self.numbers] = threading.current_thread().name

    monkeypatch.setattr(pack_run, "Pack", Watched)
    monkeypatch.setattr(ahead, "may_create", lambda device, engine: True)
    return made


@pytest.fixture
def looks(monkeypatch):
    """The numbers of the trials that each look ahead has brought so far."""
    found, original = [], Queue.take_ahead

    def take_ahead(self, limit):
        leases = original(self, limit)
        found.append([lease.number for lease in leases])
        return leases

    monkeypatch.setattr(Queue, "take_ahead", take_ahead)
    return found


def test_trials_of_the_next_pack_are_taken_while_one_trains(db, settings, in_last_epoch, undisturbed, looks):
    seen = []

    def slow(pack):
        wait_for(lambda: len(looks) > len(seen))
        seen.append((pack.numbers, states(db)[max(pack.numbers) + 1 :].count("RUNNING")))

    in_last_epoch(slow)
    evidence = run(db, settings)
    assert seen == [((0, 1, 2, 3), 4), ((4, 5, 6, 7), 0), ((8, 9, 10, 11), 0)]  # the last ones may be another's
    assert outcome_of(evidence) == undisturbed


def test_the_next_pack_is_made_while_one_trains(db, settings, in_last_epoch, makers, undisturbed):
    in_last_epoch(lambda pack: wait_for(lambda: pack.numbers[0] != 0 or (4, 5, 6, 7) in makers))
    evidence = run(db, settings)
    assert makers == {(0, 1, 2, 3): "MainThread", (4, 5, 6, 7): "hpsearch-ahead", (8, 9, 10, 11): "MainThread"}
    assert outcome_of(evidence) == undisturbed


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("what else there is")])
def test_a_pack_that_cannot_be_made_ahead_is_made_afterwards(db, tiny, makers, in_last_epoch, monkeypatch, error):
    tried = []
    in_last_epoch(lambda pack: wait_for(lambda: tried or pack.numbers[0] != 0))

    def fails(*arguments, **_options):
        tried.append(arguments)
        raise error

    monkeypatch.setattr(ahead, "create_pack", fails)
    evidence = run(db, tiny(run__width=3, space=CALM))
    assert {trial.state for trial in evidence.trials} <= {"COMPLETE", "PRUNED"}
    assert set(makers.values()) == {"MainThread"}
    assert max(map(len, makers)) == 3  # not halved
    assert len(tried) == (1 if isinstance(error, torch.OutOfMemoryError) else 2)


@pytest.mark.parametrize(
    ("other", "noisy"),
    [
        ({}, False),
        ({"model__batch_norm": True}, False),
        ({"model__dropout": 0.1}, True),
        ({"space": ["model.dropout=uniform(0, 0.5)"]}, True),
    ],
)
def test_nothing_is_made_beside_a_training_that_draws_random_numbers(tiny, other, noisy):
    assert has_noise(plan_coarse(tiny(**other))) == noisy


def test_a_noisy_pack_is_made_by_the_thread_that_trains(db, tiny, makers, in_last_epoch):
    in_last_epoch(lambda pack: wait_for(lambda: pack.numbers[0] != 0 or states(db).count("RUNNING") == 8))
    run(db, tiny(run__width=4, model__dropout=0.3, space=CALM))
    assert set(makers.values()) == {"MainThread"}


def test_a_cpu_makes_no_pack_beside_another():
    assert not may_create(torch.device("cpu"), "loop")
    assert may_create(torch.device("mps"), "loop")


@pytest.mark.parametrize(
    ("ending", "seen"),
    [
        (KeyboardInterrupt(), KeyboardInterrupt),
        (RuntimeError("device-side assert triggered"), PoisonedDeviceError),
        (StorageError("the disk is full.\nMake room."), StorageError),
    ],
)
def test_whatever_ends_the_worker_what_was_taken_ahead_waits_again(
    db, settings, in_last_epoch, undisturbed, ending, seen
):
    endings = [ending]

    def interrupt(pack):
        if endings:
            wait_for(lambda: states(db).count("RUNNING") == 8)
            raise endings.pop()

    in_last_epoch(interrupt)
    with pytest.raises(seen):
        run(db, settings)
    assert set(states(db)) == {"WAITING"}
    queue = Queue(db, find_study(db, "coarse"), "somebody/1/x")
    leases = queue.take(12)
    assert [lease.attempt for lease in leases] == [2] * 4 + [1] * 8  # to be taken ahead is no attempt
    queue.release(leases, untouched=True)
    assert outcome_of(run(db, settings)) == undisturbed


def test_at_the_end_of_a_stage_the_other_worker_finds_what_is_left(db, settings, in_last_epoch, looks):
    """Twelve trials, four in each one's hands: the last four go to whoever is ready first."""
    others = {}

    def other_is_faster(pack):
        if pack.numbers[0] != 0:
            return
        wait_for(lambda: looks == [[]])  # it has looked, and left them
        queue = others["queue"]
        assert not queue.finish([Outcome(lease, "COMPLETE", 0.5) for lease in others["leases"]])
        others["leases"] = queue.take(4)

    original = Queue.take

    def take(self, limit, even_out=None):
        leases = original(self, limit)
        if leases and not others:
            others["queue"] = Queue(db, self.study, "somebody/1/x")
            others["leases"] = original(others["queue"], 4)
        return leases

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Queue, "take", take)
        in_last_epoch(other_is_faster)

        class Finishes(threading.Thread):
            def run(self):
                wait_for(lambda: [lease.number for lease in others.get("leases", [])] == [8, 9, 10, 11])
                others["queue"].finish([Outcome(lease, "COMPLETE", 0.6) for lease in others["leases"]])

        other = Finishes()
        other.start()
        evidence = run(db, settings)
        other.join(TEST_SECONDS)
    assert [trial.value for trial in evidence.trials[8:]] == [0.6] * 4
    assert evidence.num_finished == 12


@pytest.mark.parametrize(("num_waiting", "taken"), [(8, 0), (9, 4)])
def test_trials_are_taken_ahead_where_more_wait_than_all_workers_take_next(db, tiny, num_waiting, taken):
    queue, other = (Queue(db, make_stage(db, tiny(coarse__trials=8 + num_waiting)), f"w{i}/1/x") for i in range(2))
    queue.take(4)
    other.take(4)
    assert [lease.number for lease in queue.take_ahead(4)] == list(range(8, 8 + taken))


def test_a_worker_that_died_does_not_count(db, tiny):
    study = make_stage(db, tiny(coarse__trials=13))
    Queue(db, study, "dead/1/x", lease_seconds=-1.0).take(4)
    queue = Queue(db, study, "w/1/x")
    queue.take(4)  # those of the dead one
    assert len(queue.take_ahead(4)) == 4


def test_a_storage_that_is_away_is_no_error_of_looking_ahead(db, settings, monkeypatch, undisturbed):
    def away(self, limit):
        raise StorageAwayError("the database does not answer.\nReason: a test.")

    monkeypatch.setattr(Queue, "take_ahead", away)
    assert outcome_of(run(db, settings)) == undisturbed


def test_a_sampler_that_learns_proposes_as_if_nothing_were_taken_ahead(
    db, tiny, tmp_path, monkeypatch, in_last_epoch, looks
):
    settings = tiny(run__width=4, coarse__sampler="tpe", coarse__trials=28, space=CALM)
    with monkeypatch.context() as patch:
        patch.setattr(Queue, "take_ahead", lambda self, limit: [])
        before = outcome_of(run(open_database(f"sqlite:///{tmp_path}/other.db", create=True), settings))
    in_last_epoch(lambda pack: wait_for(lambda: looks))
    evidence = run(db, settings)
    assert any(looks)
    assert outcome_of(evidence) == before


def make_stage(db, settings):
    plan = plan_coarse(settings)
    return open_stage(db, plan, load_data(plan.trial_config, settings.run), structure_key)


@pytest.fixture
def one(db, settings, tmp_path):
    """An `Ahead` by itself, whose worker has the first four of twelve trials in its hands."""
    queue = Queue(db, make_stage(db, settings), "w/1/x", lease_seconds=1.0)
    queue.take(4)
    writer = Writer(queue, tmp_path / "spool", lambda text: None)
    plan = plan_coarse(settings)
    images = {plan.trial_config.data: load_data(plan.trial_config, settings.run)}
    made = Ahead(queue, writer, Checkpoints(tmp_path / "checkpoints", "x"), plan, images, "auto")
    made.queue = queue
    made.present = Pack(plan.trial_config, images[plan.trial_config.data], [pack_run.TrialSpec(0, {})])
    yield made
    made.close()
    writer.close()


def test_leases_taken_ahead_are_renewed(one):
    one.begin(4, 0.0, one.present)
    wait_for(lambda: one.queue.standing().num_running == 8)
    [*leases] = one.collect().leases
    other = Queue(one.queue.db, one.queue.study, "other/1/x")
    first = other.take(4)
    assert [lease.number for lease in first] == [8, 9, 10, 11]
    wait_for(lambda: len(other.take(4)) == 4)  # those of the worker that renews nothing itself have run out
    assert one.queue.renew(leases) == leases  # these have not, nor do they later
    assert other.take(4) == []


def test_nothing_is_taken_long_before_a_pack_ends(one):
    one.begin(4, 1000.0, one.present)
    assert one.queue.standing().num_running == 4
    assert one.collect().leases == []  # at once
    assert one.queue.standing().num_running == 4


def test_a_lease_lost_ahead_is_not_trained(one):
    one.begin(4, 0.0, one.present)
    wait_for(lambda: one.queue.standing().num_running == 8)
    lost = replace(read_lease(one.queue, 5), attempt=1)
    one.lose(replace(lost, attempt=7))  # of another attempt
    one.lose(lost)
    ready = one.collect()
    assert [lease.number for lease in ready.leases] == list(ready.held) == [4, 6, 7]


def read_lease(queue, number):
    from hpsearch.storage import Lease

    [trial_id] = [trial.trial_id for trial in read_trials(queue.db, queue.study) if trial.number == number]
    return Lease(trial_id, number, 0)
