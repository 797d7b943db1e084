"""Training with given values: each seed is what plain training gives, whoever trains it and whatever interrupts it."""

import dataclasses

import pytest
from plain_training import PlainTrial

import hpsearch
from hpsearch.analysis.summary import stage_summary
from hpsearch.errors import ConfigError
from hpsearch.search.checks.findings import CheckReport
from hpsearch.search.listener import SearchListener
from hpsearch.search.rerun import rerun
from hpsearch.search.training_run import preview_training, run_training
from hpsearch.stages.training_plan import SEED, plan_training
from hpsearch.storage import read_epochs
from hpsearch.training.images import load_images
from hpsearch.worker.stopping import Stop, Stopped

VALUES = {"train.lr": 0.1, "train.epochs": 4, "train.seed": 3, "train.precision": "float64", "model.dropout": 0.2}


def settings_of(tiny, **other):
    return tiny(**{**VALUES, **other, "space": ["lr=none"]})


def trained(db, settings, num_seeds=1, **options):
    evidence = run_training(db, plan_training(settings.study, "train", num_seeds), settings.run, **options)
    return evidence, read_epochs(db, evidence.study)


class Recorder(SearchListener):
    follows_epochs = True

    def __init__(self):
        self.epochs, self.earlier, self.reports = [], [], []

    def measured(self, results, *, earlier=False):
        (self.earlier if earlier else self.epochs).extend(results)

    def checked(self, report: CheckReport):
        self.reports.append(report)


def test_each_seed_is_ordinary_training_with_that_seed(db, tiny):
    settings = settings_of(tiny, **{"model.dropout": 0.0})
    recorder = Recorder()
    evidence, epochs = trained(db, settings, 3, listener=recorder)
    assert [trial.params for trial in evidence.trials] == [{SEED: 3}, {SEED: 4}, {SEED: 5}]
    assert recorder.epochs == [result for number in range(3) for result in epochs[number]]
    data = load_images(settings.study, settings.run)
    for trial in evidence.trials:
        plain = PlainTrial(settings.study.with_params(trial.params), data)
        plain.run(4)
        for result, reference in zip(epochs[trial.number], plain.epochs, strict=True):
            assert dataclasses.astuple(result)[2:9] == pytest.approx(tuple(reference), rel=1e-9)
        assert trial.value == max(result.val_acc for result in epochs[trial.number])
    first_costs = {epochs[number][0].cost for number in range(3)}
    assert len(first_costs) == 3


def test_a_rerun_follows_each_seed_with_its_own_noise_exactly(db, tiny):
    settings = settings_of(tiny)
    evidence, _ = trained(db, settings, 2)
    for trial in evidence.trials:
        again = rerun(db, settings.run, "train", trial.number, num_seeds=2)
        assert again.comparison.match == "exact"
        assert [training.seed for training in again.trainings] == [trial.params[SEED], trial.params[SEED] + 1]
        assert again.best_gap is None  # between seeds it would say nothing
    other = rerun(db, settings.run, "train", 0, num_seeds=2).trainings[1]
    assert other.value == evidence.trials[1].value


def test_it_goes_on_after_a_stop_and_more_seeds_join(db, tiny, tmp_path):
    class Stopping(Recorder):
        def epoch_finished(self, num_trials):
            if len(self.epochs) == 6:  # in the middle of the second seed
                stop.request()

    settings, stop = settings_of(tiny), Stop()
    with pytest.raises(Stopped):
        trained(db, settings, 2, listener=Stopping(), stop=stop)
    recorder = Recorder()
    evidence, epochs = trained(db, settings, 2, listener=recorder)
    assert [(r.number, r.epoch) for r in recorder.earlier] == [(1, 1), (1, 2)]
    assert [(r.number, r.epoch) for r in recorder.epochs] == [(1, 3), (1, 4)]
    assert recorder.reports == []  # the study was there already
    more, all_epochs = trained(db, settings, 3)
    assert more.trials[:2] == evidence.trials
    whole = hpsearch.train(settings.study, seeds=3, storage=f"sqlite:///{tmp_path}/whole.db", sets={"run.threads": 1})
    assert {n: whole.curves(n) for n in range(3)} == all_epochs
    assert {n: epochs[n] for n in range(2)} == {n: all_epochs[n] for n in range(2)}


def test_several_workers_train_the_same_and_are_followed_epoch_by_epoch(db, tiny):
    settings, recorder = settings_of(tiny, **{"run.workers": 2, "run.storage": f"sqlite:///{db.path}"}), Recorder()
    _, epochs = trained(db, settings, 2, listener=recorder)
    alone = hpsearch.train(settings.study, seeds=2, storage="sqlite:///alone.db", sets={"run.threads": 1})
    assert epochs == {n: alone.curves(n) for n in range(2)}
    assert {(r.number, r.epoch) for r in recorder.epochs} == {(n, e) for n in range(2) for e in range(1, 5)}


def test_an_unhealthy_beginning_is_said_and_trained_anyway(db, tiny):
    recorder = Recorder()
    evidence, _ = trained(db, settings_of(tiny, **{"model.init_scale": 30.0, "model.dropout": 0.0}), listener=recorder)
    (report,) = recorder.reports
    assert report["initial loss"].outcome == "note"
    assert "model.init" in report["initial loss"].advice
    assert len(evidence.trials) == 1
    assert stage_summary(evidence).num_finished == 1


def test_one_run_is_no_work_for_several_workers(tiny):
    settings = tiny(**{"train.epochs": 10**9})  # large enough for a worker on each core
    for num_seeds in (1, 2):
        settled = preview_training(plan_training(settings.study, "train", num_seeds), settings.run)
        assert len(settled.devices) <= num_seeds
        assert settled.num_packs == num_seeds


def test_the_face_in_python(tmp_path):
    study = {
        "data": {"source": "synthetic", "synthetic": {"shape": [1, 4, 4], "classes": 3, "train": 90, "test": 9}},
        "model": {"hidden": [6]},
        "run": {"device": "cpu", "threads": 1},
    }
    storage = f"sqlite:///{tmp_path}/studies.db"
    stage = hpsearch.train(study, seeds=2, storage=storage, epochs=2, sets={"train.lr": 0.1})
    assert stage.name == "train"
    assert [len(stage.curves(number)) for number in (0, 1)] == [2, 2]
    assert stage.config.train.lr == 0.1
    assert stage.boundary() == []
    assert hpsearch.load("train", storage=storage).trials == stage.trials
    with pytest.raises(ConfigError, match="seeds = 0"):
        hpsearch.train(study, seeds=0, storage=storage)
