"""data.folds: a stage whose trials train on all folds, through stops, pruners, workers, the rerun and the test."""

import json

import numpy as np
import pytest

from hpsearch.analysis.folds import folds_text, spread
from hpsearch.analysis.records import stage_record
from hpsearch.analysis.summary import stage_summary
from hpsearch.analysis.trial_records import trial_record
from hpsearch.cli.ensemble import _Told, print_ensemble
from hpsearch.cli.output import print_stage
from hpsearch.errors import ConfigError
from hpsearch.results import TrialSpec
from hpsearch.search.ensemble import make_ensemble
from hpsearch.search.ensemble_answers import EnsembleListener
from hpsearch.search.final_measurement import final_test
from hpsearch.search.listener import SearchListener
from hpsearch.search.rerun import rerun
from hpsearch.search.stage_run import preview_stage, run_stage
from hpsearch.stages.fine_planning import plan_fine
from hpsearch.stages.planning import plan_coarse
from hpsearch.storage import read_epochs
from hpsearch.training import Pack
from hpsearch.training.images import load_images
from hpsearch.worker.stopping import Stop, Stopped

NUM_FOLDS = 3
FOLDED = {
    "data__folds": NUM_FOLDS,
    "data__synthetic__noise": 3.0,
    "coarse__trials": 6,
    "coarse__epochs": 3,
    "space": ["lr=log(1e-3,1e-1)", "reg=log(1e-4,1e-2)"],
}


def search(db, settings, name="coarse", **options):
    return run_stage(db, plan_coarse(settings, name), settings.run, checks=False, **options)


@pytest.fixture
def settings(tiny):
    return tiny(**FOLDED)


def test_a_value_is_the_mean_over_the_folds_of_the_best_epoch(db, settings):
    evidence = search(db, settings)
    assert len(evidence.trials) == 6
    epochs = read_epochs(db, evidence.study)
    data = load_images(settings.study.for_stage("coarse"), settings.run)
    assert len(data.folds) == NUM_FOLDS
    assert stage_record(evidence.study).images.num_val == 90 == data.num_val
    complete = [trial for trial in evidence.trials if trial.state == "COMPLETE"]
    assert complete
    for trial in complete:
        record = trial_record(trial)
        assert trial.value == pytest.approx(np.mean(record.folds))
        assert spread(trial) == pytest.approx(np.std(record.folds, ddof=1))
        assert trial.value == max(trial.intermediate.values()) == trial.intermediate[record.best_epoch]
        assert trial.intermediate == {result.epoch: result.val_acc for result in epochs[trial.number]}
    # Each fold as a training of its own gives the numbers whose mean that is.
    trial, config = complete[0], plan_coarse(settings).trial_config.with_params(complete[0].params)
    curves = []
    for fold in data.folds:
        pack = Pack(config, fold, [TrialSpec(0)])
        curves.append([pack.run_epoch().results[0].val_acc for _ in range(3)])
    assert list(trial.intermediate.values()) == pytest.approx(np.mean(curves, axis=0).tolist())
    assert trial_record(trial).folds == pytest.approx([curve[trial_record(trial).best_epoch - 1] for curve in curves])


def test_what_is_said_of_the_folds(db, settings, capsys):
    evidence = search(db, settings)
    folds = trial_record(evidence.best).folds
    print_stage(stage_summary(evidence), None)
    assert f"folds    {folds_text(evidence.best)}" in capsys.readouterr().out
    assert folds_text(evidence.best).startswith(f"3 folds: {', '.join(f'{value:.4f}' for value in folds)}, std ")
    assert json.loads(json.dumps(evidence.best.attrs))["folds"] == list(folds)


def test_an_ensemble_says_of_which_fold_its_nets_are(db, tiny, capsys):
    settings = tiny(**{**FOLDED, "coarse__trials": 2})
    evidence = search(db, settings)
    told = _Told(quiet=False)
    found = make_ensemble(
        db, settings.run, ["coarse"], top=2, listener=EnsembleListener(None, told.to_train, told.trained)
    )
    print_ensemble(found)
    shown = capsys.readouterr()
    assert "these are the nets of the first of 3 folds, on its validation images" in shown.out
    for member in found.members:
        number = member.member.wanted.stored.trial.number
        trial = next(trial for trial in evidence.trials if trial.number == number)
        assert member.value == pytest.approx(trial_record(trial).folds[0])
        if number != evidence.best.number:  # whose weights are kept
            assert f"trial {number} of coarse: val_acc {trial.value:.4f}, the mean over 3 folds" in shown.err


def test_a_stage_that_was_stopped_goes_on_with_the_same_numbers(db, tiny, settings, monkeypatch):
    whole = search(db, settings, "whole")
    stop = Stop()

    class Stopping(SearchListener):
        def epoch_finished(self, num_trials):
            stop.request()

    with pytest.raises(Stopped):
        search(db, settings, "parts", stop=stop, listener=Stopping())
    notes = []

    class Hearing(SearchListener):
        def note(self, text):
            notes.append(text)

    parts = search(db, settings, "parts", listener=Hearing())
    assert any("epoch 2" in note for note in notes), notes
    for one, other in zip(whole.trials, parts.trials, strict=True):
        assert one.state == other.state
        assert one.intermediate == pytest.approx(other.intermediate)
        if one.state == "COMPLETE":
            assert trial_record(one).folds == pytest.approx(trial_record(other).folds)


def test_pruners_and_patience_see_means(db, tiny):
    settings = tiny(
        **FOLDED | {"coarse__epochs": 6, "coarse__trials": 8}, coarse__pruner="median", train__patience=2,
        coarse__pruner_options={"n_startup_trials": 2, "n_warmup_steps": 1}, run__width=2,
    )  # fmt: skip
    evidence = search(db, settings)
    reasons = {trial_record(trial).reason for trial in evidence.trials}
    assert reasons & {"median", "stopped early"}
    assert len(evidence.trials) == 8
    for trial in evidence.trials:
        if trial.state == "COMPLETE":
            assert trial.value == pytest.approx(np.mean(trial_record(trial).folds))


@pytest.mark.slow
def test_two_workers_find_what_one_finds(db, tiny, tmp_path):
    url = f"sqlite:///{db.path}"
    one = search(db, tiny(**FOLDED), "one")
    two = tiny(**FOLDED, run__workers=2, run__storage=url, run__artifact_dir=str(tmp_path / "artifacts"))
    for mine, other in zip(search(db, two, "two").trials, one.trials, strict=True):
        assert mine.intermediate == pytest.approx(other.intermediate)


def test_a_rerun_follows_the_curve(db, settings):
    evidence = search(db, settings)
    found = rerun(db, settings.run, "coarse", evidence.best.number, num_seeds=2)
    assert found.comparison.match in ("exact", "rounding")
    assert found.trainings[0].value == pytest.approx(evidence.best.value)


def test_the_final_test_trains_on_all_training_images(db, settings):
    evidence = search(db, settings)
    result = final_test(db, settings.run, "coarse")
    assert result.train_on_val
    assert result.num_train == 90
    assert result.trained_epochs == (trial_record(evidence.best).best_epoch,)


def test_fine_goes_on_with_the_folds(db, settings):
    evidence = search(db, settings)
    plan = plan_fine(evidence, settings)
    assert plan.config.data.folds == NUM_FOLDS
    assert preview_stage(plan_coarse(settings), settings.run).num_trials == 6


def test_folds_are_no_hyperparameter(tiny):
    with pytest.raises(ConfigError, match=r"data.folds"):
        tiny(space=["data.folds=int(2,5)"])
    with pytest.raises(ConfigError, match=r"data.folds = 1 is not allowed"):
        tiny(data__folds=1)
    without = tiny(data__folds="none").study
    assert without.data.folds is None
    assert "folds" not in without.plain()["data"]
