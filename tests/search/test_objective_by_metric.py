"""hpsearch.Objective and what trains a stored trial again, where another metric than the accuracy counts."""

import math

import optuna
import pytest
from noisy_search import EPOCHS, noisy, run

import hpsearch
from hpsearch.analysis import attributes
from hpsearch.analysis.study_trials import read_study
from hpsearch.search.final_measurement import final_test
from hpsearch.search.rerun import rerun
from hpsearch.storage import read_epochs

BY_LOSS = {"train__metric": "loss", "train__patience": 2, "train__epochs": EPOCHS}


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    from hpsearch.storage import open_database

    folder = tmp_path_factory.mktemp("searched")
    db = open_database(f"sqlite:///{folder}/studies.db", create=True)
    settings = noisy(**BY_LOSS, run__artifact_dir=str(folder))
    run(db, settings)
    yield db, settings
    db.close()


def test_an_objective_gives_the_values_of_the_stage(searched):
    db, settings = searched
    evidence = read_study(db, "coarse")
    objective = hpsearch.Objective(settings.study, run=settings.run)
    assert objective.direction == evidence.direction == "minimize"
    study = optuna.create_study(direction=objective.direction, pruner=optuna.pruners.NopPruner())
    for trial in evidence.trials:
        study.enqueue_trial(trial.params)
    study.optimize(objective, n_trials=len(evidence.trials))
    for trial, own in zip(evidence.trials, study.trials, strict=True):
        assert own.state.name == trial.state
        if trial.state == "COMPLETE":
            assert own.value == pytest.approx(trial.value, rel=1e-9)
            for name in (attributes.BEST_EPOCH, attributes.LAST_VALUE, attributes.LAST_SCORE, attributes.BEST_ACC):
                assert own.user_attrs[name] == pytest.approx(trial.attrs[name])
        else:  # no better than its cost was beyond
            last = max(own.intermediate_values)
            assert own.intermediate_values[last] == pytest.approx(3 * math.log(3))
            assert trial.intermediate[last] == pytest.approx(3 * math.log(3))
    assert study.best_trial.number == evidence.best.number


def test_patience_waits_for_a_lower_loss_and_the_lowest_is_the_value(searched):
    db, _ = searched
    evidence = read_study(db, "coarse")
    epochs = read_epochs(db, evidence.study)
    early = [t for t in evidence.trials if t.attrs.get(attributes.REASON) == attributes.STOPPED_EARLY]
    assert early
    for trial in evidence.trials:
        if trial.state == "COMPLETE":
            losses = [epoch.val_loss for epoch in epochs[trial.number]]
            assert trial.value == min(losses)
            assert trial.attrs[attributes.MEASURES]["loss"] == pytest.approx(trial.value)
            best = epochs[trial.number][trial.attrs[attributes.BEST_EPOCH] - 1]
            assert trial.attrs[attributes.MEASURES]["accuracy"] == pytest.approx(best.val_acc)


def test_a_trial_trained_again_follows_its_curve_and_is_measured_at_its_lowest_loss(searched):
    db, settings = searched
    best = read_study(db, "coarse").best
    again = rerun(db, settings.run, "coarse", best.number, num_seeds=2)
    assert again.comparison.match in ("exact", "rounding")
    assert "val_score" in again.comparison.differences
    assert again.values[0] == pytest.approx(best.value, rel=1e-6)
    assert again.best_gap >= 0
    result = final_test(db, settings.run, "coarse")
    assert result.number == best.number
    assert result.measured_epochs == (best.attrs[attributes.BEST_EPOCH],)
    assert result.mean_score == pytest.approx(result.measures["loss"])
    assert result.std_score is None
