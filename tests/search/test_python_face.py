"""`hpsearch.coarse`, `fine`, `load` and `Objective` as a notebook uses them."""

import subprocess
import sys

import optuna
import pytest

import hpsearch
from hpsearch.analysis import attributes
from hpsearch.config import FloatRange, usercode
from hpsearch.errors import ConfigError, RefusedError, StudyNotFoundError
from hpsearch.search.listener import SearchListener
from hpsearch.storage import find_study, open_database, write_attrs

STUDY = {
    "data": {
        "source": "synthetic",
        "synthetic": {"shape": [1, 4, 4], "classes": 3, "train": 90, "test": 9, "noise": 0.5},
    },
    "model": {"hidden": [6]},
    "train": {"batch_size": 20, "epochs": 2},
    "coarse": {"trials": 8, "epochs": 2},
    "fine": {"trials": 4, "epochs": 3},
    "run": {"device": "cpu", "threads": 1},
}


def test_coarse_fine_and_load(tmp_path):
    storage = f"sqlite:///{tmp_path}/studies.db"
    coarse = hpsearch.coarse(STUDY, storage=storage, trials=10, space={"reg": {"log": [1e-6, 1e-3]}})
    assert len(coarse.trials) == 10
    assert coarse.best is not None
    assert coarse.config is not None
    assert coarse.config.space["reg"] == FloatRange(1e-6, 1e-3, log=True)
    assert [point.val_acc for point in coarse.curves(coarse.best.number)] == list(coarse.best.intermediate.values())

    fine = hpsearch.fine("coarse", storage=storage, sets={"run.threads": 1, "run.device": "cpu"})
    assert fine.name == "fine"
    assert len(fine.trials) == 4
    assert fine.config is not None
    assert fine.config.train.batch_size == 20

    again = hpsearch.load("fine", storage=storage)
    assert again.trials == fine.trials
    assert {verdict.param for verdict in again.boundary()} == {"lr", "reg"}
    assert again.optuna_study().best_value == fine.best.value
    assert again.summary()["from"] == "coarse"
    with pytest.raises(StudyNotFoundError, match="nowhere"):
        hpsearch.load("nowhere", storage=storage)


def test_what_the_database_names_is_not_trusted_and_what_a_dict_names_is(tmp_path, monkeypatch):
    monkeypatch.setattr(usercode, "_trusted", set())
    storage = f"sqlite:///{tmp_path}/studies.db"
    hpsearch.coarse(STUDY, storage=storage, trials=3, skip_checks=True)
    db = open_database(storage)
    study = find_study(db, "coarse")
    config = study.attrs[attributes.CONFIG]
    write_attrs(db, study, {attributes.CONFIG: {**config, "model": {**config["model"], "name": "os:system"}}})
    with pytest.raises(RefusedError, match="the code 'os:system' is named by the database"):
        hpsearch.fine("coarse", storage=storage)
    assert usercode.trusted() == ""
    with pytest.raises(ConfigError, match="there is no module 'nowhere_at_all'"):
        hpsearch.fine("coarse", {**STUDY, "model": {"name": "nowhere_at_all:net"}}, storage=storage)


def test_what_does_nothing_is_noted(tmp_path):
    class Notes(SearchListener):
        def note(self, text):
            notes.append(text)

    notes = []
    study = {**STUDY, "model": {"hidden": [6], "depth": 34}}
    hpsearch.coarse(study, storage=f"sqlite:///{tmp_path}/studies.db", trials=2, skip_checks=True, listener=Notes())
    assert notes[0] == "model.depth is not used by mlp; resnet and vgg use it"


def test_coarse_is_refused_for_a_net_that_cannot_learn(tmp_path):
    dead = {**STUDY, "model": {"hidden": [20, 20, 20], "init": "small:1e-12"}}
    storage = f"sqlite:///{tmp_path}/studies.db"
    with pytest.raises(RefusedError, match="the check 'regularization' failed"):
        hpsearch.coarse(dead, storage=storage, trials=2)
    assert len(hpsearch.coarse(dead, storage=storage, trials=2, skip_checks=True).trials) == 2


def test_the_objective_is_an_ordinary_one():
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(hpsearch.Objective(STUDY), n_trials=4)
    complete = study.get_trials(states=[optuna.trial.TrialState.COMPLETE])
    assert complete
    for trial in complete:
        assert trial.params.keys() == {"lr", "reg"}
        assert trial.value == max(trial.intermediate_values.values())
        assert list(trial.intermediate_values) == [1, 2]


def test_the_objective_prunes_explosions_with_epoch_and_step():
    study = optuna.create_study(direction="maximize")
    study.optimize(hpsearch.Objective({**STUDY, "space": {"lr": {"log": [1e6, 1e8]}}}), n_trials=2)
    for trial in study.trials:
        assert trial.state == optuna.trial.TrialState.PRUNED
        assert trial.user_attrs["reason"] == "exploded"
        assert trial.user_attrs["epoch"] == 1
        assert trial.user_attrs["step"] >= 1


def test_the_objective_listens_to_the_pruner_of_its_study():
    class Always(optuna.pruners.BasePruner):
        def prune(self, study, trial):
            return True

    study = optuna.create_study(direction="maximize", pruner=Always())
    study.optimize(hpsearch.Objective({**STUDY, "space": {"lr": {"log": [1e-3, 1e-2]}}}), n_trials=1)
    assert study.trials[0].state == optuna.trial.TrialState.PRUNED
    assert list(study.trials[0].intermediate_values) == [1]


def test_an_objective_and_a_stage_give_the_same_numbers(tmp_path):
    """The trainer core is one, alone or in a pack."""
    config = {**STUDY, "train": {**STUDY["train"], "precision": "float64"}}
    stage = hpsearch.coarse(config, storage=f"sqlite:///{tmp_path}/studies.db", trials=3)
    study = optuna.create_study(direction="maximize")
    for trial in stage.trials:
        study.enqueue_trial(trial.params)
    study.optimize(hpsearch.Objective(config), n_trials=3)
    assert [trial.intermediate_values for trial in study.trials] == [trial.intermediate for trial in stage.trials]


def test_a_wrong_config_is_named_before_any_trial():
    with pytest.raises(ConfigError, match=r"train\.lrr"):
        hpsearch.Objective({"train": {"lrr": 1}})
    with pytest.raises(AttributeError, match="nothing"):
        hpsearch.nothing  # noqa: B018


def test_importing_hpsearch_is_cheap():
    code = "import hpsearch, sys; print([m for m in ('torch', 'optuna', 'sqlalchemy', 'pydantic') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
