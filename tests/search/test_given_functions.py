"""Objectives that Python gives as functions, and values to try first."""

import optuna
import pytest

import hpsearch
from hpsearch.config import IntRange
from hpsearch.config.schema import RunConfig
from hpsearch.errors import ConfigError, StorageError
from hpsearch.programs import given
from hpsearch.stages.code_changes import changed_code

SPACE = {"x": "uniform(0, 1)"}


@pytest.fixture(autouse=True)
def _alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_lambda_is_called_in_a_fork_with_what_it_has_closed_over(tmp_path):
    scale, calls = 10.0, []
    stage = hpsearch.coarse(
        objective=lambda params, report: calls.append(1) or params["x"] * scale,
        space=SPACE,
        trials=6,
        enqueue=[{"x": 0.125}],
        metric="score",
    )
    assert [trial.value for trial in stage.trials] == [10 * trial.params["x"] for trial in stage.trials]
    assert stage.trials[0].params == {"x": 0.125}
    assert stage.trials[0].attrs["enqueued"] == {"x": 0.125}
    assert [trial.attrs.get("enqueued") for trial in stage.trials[1:]] == [None] * 5
    assert (stage.best.value, stage.evidence.metric.name) == (max(t.value for t in stage.trials), "score")
    assert not calls  # another process
    assert [verdict.param for verdict in stage.boundary()] == ["x"]


@pytest.mark.slow
def test_an_optuna_objective_is_searched_from_coarse_to_fine():
    def objective(trial):
        x = trial.suggest_float("x", -5, 5)
        trial.report(x, 0)
        if x > 4:
            raise optuna.TrialPruned
        return (x - 2) ** 2 + trial.suggest_int("n", 1, 4)

    stage = hpsearch.coarse(optuna_objective=objective, direction="minimize", trials=14, name="wide")
    assert {trial.state for trial in stage.trials} <= {"COMPLETE", "PRUNED"}
    assert stage.config.objective.form == "optuna"
    fine = hpsearch.fine("wide", optuna_objective=objective, trials=6, enqueue=[{"n": 1}], sampler="random")
    low, high = fine.config.space["x"].low, fine.config.space["x"].high
    assert high - low < 10
    assert all(low <= trial.params["x"] <= high for trial in fine.trials)
    assert fine.trials[0].params["n"] == 1
    again = hpsearch.fine("wide", optuna_objective=objective, trials=6, enqueue=[{"n": 1}], sampler="random")
    assert [trial.params for trial in again.trials] == [trial.params for trial in fine.trials]


def test_a_plain_optuna_study_is_gone_on_with_in_its_own_direction():
    def objective(trial):
        return (trial.suggest_float("x", -5, 5) - 2) ** 2

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    optuna.create_study(study_name="theirs", storage="sqlite:///theirs.db").optimize(objective, n_trials=12)
    fine = hpsearch.fine("theirs", optuna_objective=objective, trials=4, storage="sqlite:///theirs.db")
    assert fine.evidence.direction == "minimize"
    assert all(-5 < trial.params["x"] < 5 for trial in fine.trials)


def test_code_that_fails_fails_its_trials_and_a_fork_that_dies_is_made_again():
    import os

    def objective(params, report):
        if params["x"] > 0.7:
            os._exit(3)
        if params["x"] < 0.3:
            raise ValueError("too small")
        return params["x"]

    stage = hpsearch.coarse(objective=objective, space=SPACE, trials=12)
    for trial in stage.trials:
        x = trial.params["x"]
        reason = trial.attrs.get("reason")
        assert reason == (
            "its process ended with exit code 3" if x > 0.7 else "ValueError: too small" if x < 0.3 else None
        )
    assert len({trial.state for trial in stage.trials}) == 2


def test_run_goes_from_coarse_to_the_last_fine_stage_over_a_function():
    procedure = hpsearch.run(
        objective=lambda params, report: 1 - (params["x"] - 0.8) ** 2 - params["n"] / 100,
        space={
            "x": optuna.distributions.FloatDistribution(0, 0.9),
            "n": optuna.distributions.IntDistribution(1, 5),
            "kind": {"choice": ["a", "b"]},
        },
        metric="score",
        enqueue=[{"x": 0.25}],
        sets={"coarse.trials": 10, "fine.trials": 5, "fine.sampler": "random"},
        max_stages=3,
    )
    coarse, fine, *_ = procedure.stages
    assert [stage.name for stage in procedure.stages][:2] == ["coarse", "fine"]
    assert coarse.trials[0].params["x"] == 0.25
    assert coarse.config.space["n"] == IntRange(1, 5)
    assert coarse.config.space["kind"].values == ("a", "b")
    first, then = coarse.config.space["x"], fine.config.space["x"]
    assert then.high - then.low < first.high - first.low
    assert procedure.best.value == max(trial.value for stage in procedure.stages for trial in stage.trials)
    assert procedure.best_stage.evidence.metric.name == "score"
    assert procedure.ending.reason


@pytest.mark.slow
def test_run_moves_past_the_end_on_which_the_best_lies():
    def objective(trial):
        return -abs(trial.suggest_float("x", -10, 10) - 1)

    procedure = hpsearch.run(
        optuna_objective=objective,
        space={"x": "uniform(-4, 0)"},
        direction="maximize",
        enqueue=[{"x": -0.01}],
        sets={"coarse.trials": 8, "fine.trials": 6},
        max_stages=2,
    )
    assert procedure.stages[0].boundary()[0].verdict == "upper"
    assert procedure.stages[1].config.space["x"].high > 0
    assert procedure.best.params["x"] > max(trial.params["x"] for trial in procedure.stages[0].trials)


def test_a_function_in_the_place_of_a_study_file_is_refused_by_name():
    def objective(params, report):
        return 1.0

    for command in (hpsearch.coarse, hpsearch.run, hpsearch.compare):
        with pytest.raises(ConfigError, match="objective is a function, and no study file") as error:
            command(objective)
        assert "objective=FUNCTION" in str(error.value)


def test_a_distribution_with_a_step_is_refused_by_name():
    stepped = optuna.distributions.IntDistribution(2, 10, step=2)
    with pytest.raises(ConfigError, match=r"space.n has step=2"):
        hpsearch.coarse(objective=lambda params, report: 1.0, space={"n": stepped})


def test_what_only_this_process_has_is_for_one_worker():
    with pytest.raises(ConfigError, match=r"lambda_ is a function of this process alone, which 2 workers"):
        hpsearch.coarse(objective=lambda params, report: 1.0, space=SPACE, sets={"run.workers": 2})
    with pytest.raises(ConfigError, match=r"Allowed: one worker; or a function of a module, as from train import"):
        hpsearch.run(objective=lambda params, report: 1.0, space=SPACE, sets={"run.workers": 2})
    with pytest.raises(StorageError, match="no studies yet"):
        hpsearch.studies()
    with pytest.raises(ConfigError, match=r"objective\(trial\)"):
        hpsearch.coarse(optuna_objective=lambda: 1.0)
    with pytest.raises(ConfigError, match="two ways"):
        hpsearch.coarse(optuna_objective=len, objective=len)
    with pytest.raises(ConfigError, match=r"an objective of 7 cannot be called"):
        hpsearch.coarse(objective=7)


def test_what_can_be_imported_goes_by_its_name():
    assert given.give(RunConfig) == "hpsearch.config.schema.run:RunConfig"
    assert given.given("hpsearch.config.schema.run:RunConfig") is None


def test_another_function_of_the_same_name_is_noticed():
    first = hpsearch.coarse(objective=lambda params, report: 1.0, space=SPACE, trials=1)
    assert not changed_code(first.evidence.study)
    name = given.give(lambda params, report: 2.0)
    assert list(changed_code(first.evidence.study)) == [name]


def test_values_to_try_first_are_for_nets_too():
    stage = hpsearch.coarse(
        {"data": {"source": "synthetic"}, "model": {"name": "linear"}},
        trials=3,
        epochs=1,
        enqueue=[{"lr": 0.01}, {"lr": 0.02, "reg": 1e-3}],
        skip_checks=True,
        sets={"coarse.sampler": "tpe"},
    )
    assert stage.trials[0].params["lr"] == 0.01
    assert stage.trials[1].params == {"lr": 0.02, "reg": 1e-3}
    assert [trial.state for trial in stage.trials] == ["COMPLETE"] * 3
