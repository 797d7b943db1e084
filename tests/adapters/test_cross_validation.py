"""cross_validated: what it sets, reports and returns, against scikit-learn's own cross-validation."""

import math
import pickle

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from hpsearch.adapters.sklearn import cross_validated
from hpsearch.config import usercode
from hpsearch.errors import HpsearchError
from hpsearch.programs.calling import TrialEnded, call, refuse_other_forms
from hpsearch.programs.messages import Task

X, Y = load_iris(return_X_y=True)
PIPELINE = make_pipeline(StandardScaler(), LogisticRegression())
objective = cross_validated(PIPELINE, X, Y, scoring="f1_macro")


class Spoilt(ClassifierMixin, BaseEstimator):
    def __init__(self, rate=1.0):
        self.rate = rate

    def fit(self, x, y):
        if self.rate > 1:
            raise RuntimeError("it diverged")
        self.classes_ = np.unique(y)
        return self

    def predict(self, x):
        return np.full(len(x), self.classes_[0])


def run(function, params, folder, report=lambda value, epoch: None, seed=0):
    return call("mine:objective", function, Task(0, params, seed=seed, checkpoint=str(folder)), report)


def test_the_value_is_that_of_scikit_learn_reported_fold_by_fold(tmp_path, ending):
    refuse_other_forms("mine:objective", objective)
    report = ending()
    value = run(objective, {"logisticregression__C": 0.01}, tmp_path, report)
    scores = cross_val_score(make_pipeline(StandardScaler(), LogisticRegression(C=0.01)), X, Y, scoring="f1_macro")
    assert report.heard == [(k, pytest.approx(scores[:k].mean())) for k in range(1, 6)]
    assert value == pytest.approx(scores.mean())
    assert PIPELINE["logisticregression"].C == 1.0  # the user's own stays as it was


def test_a_trial_that_is_to_end_ends_and_goes_on_behind_the_folds_that_it_had(tmp_path, ending):
    first, second = ending(2, TrialEnded("the trial is to end: stopped")), ending()
    with pytest.raises(TrialEnded):
        run(objective, {}, tmp_path, first)
    assert run(objective, {}, tmp_path, second) == run(objective, {}, tmp_path / "..")
    assert [epoch for epoch, _ in first.heard + second.heard] == [1, 2, 3, 4, 5]


def test_the_seed_is_each_random_state_unless_that_is_searched(tmp_path):
    forest = cross_validated(make_pipeline(StandardScaler(), RandomForestClassifier(3)), X, Y, cv=3)
    folders = [tmp_path / name for name in "abcd"]
    for folder in folders:
        folder.mkdir()
    fixed = {"randomforestclassifier__random_state": 0}
    values = [run(forest, {}, folders[0], seed=0), run(forest, {}, folders[1], seed=8)]
    values += [run(forest, fixed, folders[2], seed=8), run(forest, {}, folders[3], seed=8)]
    assert values[0] == values[2] != values[1] == values[3]


def test_all_trials_see_the_same_folds_even_of_a_splitter_that_is_random():
    one, other = (cross_validated(PIPELINE, X, Y, cv=KFold(3, shuffle=True)) for _ in range(2))
    for (train, test), (its_train, its_test) in zip(one.folds, other.folds, strict=True):
        np.testing.assert_array_equal(train, its_train)
        np.testing.assert_array_equal(test, its_test)


def test_what_raises_fails_the_trial_or_counts_as_the_user_says(tmp_path, capsys, ending):
    with pytest.raises(RuntimeError, match="it diverged"):
        run(cross_validated(Spoilt(), X, Y), {"rate": 2.0}, tmp_path)
    report = ending()
    lenient = cross_validated(Spoilt(), X, Y, cv=2, error_score=math.nan)
    assert math.isnan(run(lenient, {"rate": 2.0}, tmp_path, report))
    assert all(math.isnan(value) for _, value in report.heard)
    assert "it diverged" in capsys.readouterr().err


def test_a_parameter_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match="Invalid parameter 'gamma'"):
        run(objective, {"logisticregression__gamma": 1.0}, tmp_path)


def test_it_can_be_pickled_and_belongs_to_the_module_that_made_it():
    assert usercode._defines(__name__, objective)  # as --trust has it
    again = pickle.loads(pickle.dumps(objective))
    assert again.scoring == "f1_macro"
    assert again.__module__ == __name__


def test_nets_of_skorch_take_seed_and_parameters_of_their_parts(tmp_path, example):
    objective = example("skorch")["objective"]
    folders = [tmp_path / name for name in "abc"]
    for folder in folders:
        folder.mkdir()
    params = {"lr": 0.1, "module__width": 8, "optimizer__weight_decay": 1e-4}
    values = [run(objective, params, folder, seed=seed) for folder, seed in zip(folders, (0, 0, 8), strict=True)]
    assert values[0] == values[1] != values[2]


@pytest.mark.parametrize("library", ["lightning", "transformers"])
def test_a_library_that_is_missing_is_named_with_its_extra(library, monkeypatch):
    import importlib
    import sys

    for name in [name for name in sys.modules if name.partition(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, f"hpsearch.adapters.{library}", raising=False)

    class Nowhere:
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] == library:
                raise ModuleNotFoundError(f"No module named {name!r}", name=library)

    monkeypatch.setattr(sys, "meta_path", [Nowhere(), *sys.meta_path])
    with pytest.raises(HpsearchError) as raised:
        importlib.import_module(f"hpsearch.adapters.{library}")
    assert str(raised.value).splitlines() == [
        f"hpsearch.adapters.{library} needs the package {library}.",
        f'Install it with: pip install "hpsearch[{library}]"',
    ]
