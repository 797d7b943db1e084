"""Ranges of another program's study, of whose parameters nothing is known but where they were searched."""

import optuna
from optuna.distributions import FloatDistribution, IntDistribution

STORAGE = ("--storage", "sqlite:///optuna.db")


def test_narrowing_stays_with_what_a_foreign_parameter_can_be(hpsearch):
    study = optuna.create_study(
        study_name="theirs", storage=f"sqlite:///{hpsearch.folder}/optuna.db", direction="maximize"
    )
    searched = {
        "num_layers": IntDistribution(1, 6),
        "momentum_factor": FloatDistribution(0.0, 0.99),
        "learning_rate": FloatDistribution(1e-5, 1.0, log=True),
        "temperature": FloatDistribution(0.5, 2.0),
    }
    for i in range(4):  # the best has the lowest, or the highest, of each
        params = {
            "num_layers": 1 + i,
            "momentum_factor": 0.99 - 0.1 * i,
            "learning_rate": 1e-5 * (1 + i),
            "temperature": 0.5 + 0.1 * i,
        }
        trial = optuna.trial.create_trial(params=params, distributions=searched, value=1 - i / 10)
        study.add_trial(trial)
    rows = {row["param"]: row for row in hpsearch.json("boundary", "theirs", *STORAGE)["parameters"]}
    assert rows["num_layers"]["proposed"] == [1, 4]
    assert rows["num_layers"]["reason"].endswith("on the lower boundary: no lower value is natural for it")
    low, high = rows["momentum_factor"]["proposed"]
    assert 0 <= low < 0.79 < 0.99 < high < 1
    low, high = rows["learning_rate"]["proposed"]
    assert 1e-6 <= low * 1.000001 < 1e-5 < high  # a decade, not half of the five
    low, high = rows["temperature"]["proposed"]
    assert 0 < low < 0.5 < high < 2
    plan = hpsearch.json("fine", "--from", "theirs", *STORAGE, "--dry-run")
    assert {row["param"]: row["new"] for row in plan["ranges"]} == {
        param: row["proposed"] for param, row in rows.items()
    }
