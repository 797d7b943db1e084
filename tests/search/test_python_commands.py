"""`hpsearch.check`, `compare`, `ensemble` and `studies` as a notebook uses them."""

import pytest

import hpsearch
from hpsearch.errors import ConfigError, RefusedError, StorageError, StudyNotFoundError

STUDY = {
    "data": {
        "source": "synthetic",
        "synthetic": {"shape": [1, 4, 4], "classes": 3, "train": 90, "test": 9, "noise": 0.5},
    },
    "model": {"hidden": [6]},
    "train": {"batch_size": 20, "epochs": 2},
    "coarse": {"trials": 6, "epochs": 2},
    "run": {"device": "cpu", "threads": 1, "keep": "all"},
}


@pytest.fixture(autouse=True)
def _alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_search_takes_its_rates_from_a_check():
    found = hpsearch.check(STUDY, steps=20)
    assert found.report.ok
    assert {finding.name for finding in found.report.findings} >= {"initial loss", "overfit", "learning rate"}
    assert found.fresh
    assert not hpsearch.check(STUDY, steps=20).fresh
    stage = hpsearch.coarse(source="check", trials=2, sets={"run.device": "cpu", "run.threads": 1}, skip_checks=True)
    measured = found.report["learning rate"].measured
    assert stage.config.space["lr"].low <= measured["low"]
    assert stage.config.space["lr"].high == measured["high"]
    assert stage.config.model.hidden == (6,)  # of the check
    assert stage.summary()["from"] == "check"
    with pytest.raises(StudyNotFoundError, match="nowhere"):
        hpsearch.coarse(source="nowhere")


def test_a_check_that_fails_is_returned_and_not_kept():
    dead = {**STUDY, "model": {"hidden": [20, 20, 20], "init": "small:1e-12"}}
    found = hpsearch.check(dead, steps=20)
    assert not found.report.ok
    assert found.study is None
    with pytest.raises(StorageError, match="no studies yet"):
        hpsearch.studies()
    with pytest.raises(ConfigError, match=r"hpsearch\.check trains a net"):
        hpsearch.check({"objective": {"function": "train:objective"}, "space": {"x": {"uniform": [0, 1]}}})


def test_samplers_are_compared_over_a_function():
    found = hpsearch.compare(
        objective=lambda params, report: params["x"],
        direction="minimize",
        space={"x": "uniform(0, 1)"},
        samplers=("random", "tpe"),
        repeats=2,
        trials=4,
        metric="cost",
    )
    assert found.samplers == ("random", "tpe")
    assert found.num_trials == 4
    assert (found.metric.name, found.metric.direction) == ("cost", "minimize")
    assert sum(found.wins.values()) == 2
    trials = hpsearch.load("compare/tpe/1").trials
    assert found.finals["tpe"][1] == min(trial.value for trial in trials)
    assert [study.study for study in hpsearch.studies()] == [
        f"compare/{sampler}/{repeat}" for repeat in (0, 1) for sampler in ("random", "tpe")
    ]


def test_the_best_nets_are_averaged_and_written(tmp_path):
    space = {"lr": "log(1e-2, 0.3)", "reg": "none"}
    hpsearch.coarse(STUDY, space=space, skip_checks=True)
    found = hpsearch.ensemble("coarse", top=3, kept=True, sets={"run.device": "cpu"}, weights="net")
    assert len(found.chosen) == 3
    assert found.val.single == found.best.value
    assert (tmp_path / "net" / "predict.py").is_file()
    with pytest.raises(ConfigError, match="is there already"):
        hpsearch.ensemble("coarse", top=2, weights="net")
    with pytest.raises(RefusedError):
        hpsearch.ensemble("coarse", top=2, seeds=2, kept=True, sets={"run.device": "cpu"})


def test_studies_are_listed_as_status_lists_them():
    hpsearch.coarse(objective=lambda params, report: params["x"], space={"x": "uniform(0, 1)"}, trials=3, name="a")
    best = hpsearch.fine("a", objective=lambda params, report: params["x"], trials=2, name="b").best
    [wide, narrow] = hpsearch.studies()
    assert (wide.study, wide.stage, wide.source, wide.trials, wide.finished) == ("a", "coarse", None, 3, 3)
    assert (narrow.study, narrow.source, narrow.best) == ("b", "a", best.value)
    assert narrow.as_dict()["from"] == "a"
