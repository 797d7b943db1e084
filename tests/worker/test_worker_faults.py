"""Rows of the fault matrix that a GPU raises; here the error is raised by hand."""

import importlib
import signal
from pathlib import Path

import pytest
import torch

from hpsearch.analysis import attributes
from hpsearch.errors import StorageError
from hpsearch.search.listener import SearchListener
from hpsearch.search.stage_run import run_stage
from hpsearch.stages.planning import plan_coarse
from hpsearch.storage import Queue, StorageAwayError, find_study, read_trials, write_attrs
from hpsearch.training import Pack
from hpsearch.training.images import load_images
from hpsearch.worker.best_weights import load_portrait
from hpsearch.worker.failures import PoisonedDeviceError
from hpsearch.worker.stopping import Stop, Stopped
from hpsearch.worker.trial_source import TrialSource


class Notes(SearchListener):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


def run(db, settings, listener=None):
    plan = plan_coarse(settings)
    return run_stage(db, plan, settings.run, listener=listener, checks=False)


@pytest.fixture
def undisturbed(tmp_path, tiny):
    from hpsearch.storage import open_database

    db = open_database(f"sqlite:///{tmp_path}/undisturbed.db", create=True)
    return [(trial.value, trial.intermediate) for trial in run(db, tiny()).trials]


def test_out_of_memory_in_a_pack_halves_it(db, tiny, monkeypatch, undisturbed):
    original = Pack.run_epoch

    def limited(self):
        if len(self.numbers) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return original(self)

    monkeypatch.setattr(Pack, "run_epoch", limited)
    notes = Notes()
    evidence = run(db, tiny(), notes)
    assert [(trial.value, trial.intermediate) for trial in evidence.trials] == undisturbed
    assert "out of memory: pack 12 -> 6" in notes.notes
    assert "out of memory: pack 6 -> 3" in notes.notes


def test_a_single_trial_that_does_not_fit_fails_and_the_others_go_on(db, tiny, monkeypatch):
    original = Pack.run_epoch

    def limited(self):
        if 5 in self.numbers:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(self)

    monkeypatch.setattr(Pack, "run_epoch", limited)
    trials = run(db, tiny()).trials
    assert [trial.number for trial in trials if trial.state == "FAIL"] == [5]
    assert "out of memory" in trials[5].attrs[attributes.REASON]


def test_a_poisoned_device_gives_the_trials_back_and_fails_them_after_two_processes(db, tiny, monkeypatch):
    def poisoned(self):
        raise RuntimeError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(Pack, "run_epoch", poisoned)
    settings = tiny(run__width=4)
    with pytest.raises(PoisonedDeviceError) as caught:
        run(db, settings)
    assert caught.value.exit_code == 75
    assert {trial.state for trial in read_trials(db, find_study(db, "coarse"))} == {"WAITING"}
    with pytest.raises(PoisonedDeviceError):  # the next process
        run(db, settings)
    states = [trial.state for trial in read_trials(db, find_study(db, "coarse"))]
    assert states == ["FAIL"] * 4 + ["WAITING"] * 8


def test_checkpoints_that_cannot_be_written_cost_no_results(db, tiny, monkeypatch, undisturbed):
    def full(path, *arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hpsearch.training.checkpoints.replacing", full)
    notes = Notes()
    evidence = run(db, tiny(run__checkpoint_seconds=0.0), notes)
    assert [(trial.value, trial.intermediate) for trial in evidence.trials] == undisturbed
    assert any("No space left" in note and "bytes" in note for note in notes.notes)


def test_a_damaged_checkpoint_is_passed_over(db, tiny, undisturbed):
    settings = tiny(run__checkpoint_seconds=0.0)

    class Once(SearchListener):
        def epoch_finished(self, num_trials):
            raise KeyboardInterrupt

    plan = plan_coarse(settings)
    data = load_images(plan.trial_config, settings.run)
    with pytest.raises(KeyboardInterrupt):
        run_stage(db, plan, settings.run, images=data, listener=Once(), checks=False)
    for path in Path("studies").rglob("*.safetensors"):
        path.write_bytes(b"cut off")
    evidence = run(db, settings)
    assert [(trial.value, trial.intermediate) for trial in evidence.trials] == undisturbed


class Outage:
    """The first calls of a function find the database away."""

    def __init__(self, monkeypatch, where, num_calls):
        module, name = where.rsplit(".", 1)
        self.original = getattr(importlib.import_module(module), name)
        self.left = num_calls
        monkeypatch.setattr(where, self)

    def __call__(self, *arguments, **options):
        if self.left:
            self.left -= 1
            raise StorageAwayError("the database does not answer.\nReason: a test.")
        return self.original(*arguments, **options)


def test_an_outage_while_the_best_is_kept_fails_no_trial(db, tiny, monkeypatch):
    outage = Outage(monkeypatch, "hpsearch.worker.kept_weights.announce_portrait", 3)
    notes = Notes()
    evidence = run(db, tiny(), notes)
    assert outage.left == 0
    assert {trial.state for trial in evidence.trials} <= {"COMPLETE", "PRUNED"}
    assert load_portrait(find_study(db, "coarse")).number == evidence.best.number
    assert any("database away" in note for note in notes.notes)


def test_an_outage_while_hyperparameters_are_proposed_is_waited_for(db, tiny, monkeypatch):
    settings = tiny(coarse__sampler="tpe", run__width=4)
    original, calls = Queue.set_params, []

    def set_params(self, *arguments):
        calls.append(arguments)
        if len(calls) in (1, 2):
            raise StorageAwayError("the database does not answer.\nReason: a test.")
        return original(self, *arguments)

    monkeypatch.setattr(Queue, "set_params", set_params)
    notes = Notes()
    evidence = run(db, settings, notes)
    assert len(calls) > 2
    assert all(trial.params for trial in evidence.trials)
    assert any("waiting" in note for note in notes.notes)


@pytest.mark.slow
def test_a_stop_is_obeyed_while_the_last_results_wait_for_the_database(db, tiny, monkeypatch):
    monkeypatch.setattr("hpsearch.worker.worker.QUICK_PATIENCE", 0.2)
    monkeypatch.setattr("hpsearch.worker.writer.CLOSE_SECONDS", 0.2)
    stop, take = Stop(), TrialSource.take_trials

    def away(self, outcomes):
        raise StorageAwayError("no room to write studies.db.\nFree on that disk: 0 bytes.")

    def take_trials(self, held, width):
        take(self, held, width)
        if not held:  # all are trained, and their ends are not written
            stop.request(signal.SIGTERM)

    monkeypatch.setattr(Queue, "finish", away)
    monkeypatch.setattr(TrialSource, "take_trials", take_trials)
    settings = tiny()
    with pytest.raises(StorageError, match="still away; results wait in") as caught:
        run_stage(db, plan_coarse(settings), settings.run, checks=False, stop=stop)
    assert isinstance(caught.value.__context__, Stopped)


@pytest.mark.parametrize("early", [False, True])
def test_a_stop_that_is_asked_for_before_the_first_worker_begins_is_obeyed(db, tiny, monkeypatch, early):
    """Between the two lie seconds of imports; what was asked before the command began is no matter of its."""
    from hpsearch.search import stage_run

    settings, keep = tiny(), stage_run._keep_start

    def keep_start(db_, study, settled):
        kept = keep(db_, study, settled)
        write_attrs(db_, kept, {attributes.STOP: db_.read_now() - (3600.0 if early else 0.0)})
        return kept

    monkeypatch.setattr("hpsearch.search.stage_run._keep_start", keep_start)
    if early:
        evidence = run_stage(db, plan_coarse(settings), settings.run, checks=False)
        assert evidence.num_finished == len(evidence.trials)
        return
    with pytest.raises(Stopped):
        run_stage(db, plan_coarse(settings), settings.run, checks=False)
