"""Values that are to be tried first."""

import pytest

from hpsearch.config import load_settings
from hpsearch.errors import ConfigError
from hpsearch.stages.planning import plan_coarse

SPACES = ["lr=log(1e-4,1)", "reg=log(1e-6,1)"]


def plan(enqueue, spaces=SPACES, **keys):
    settings = {f"coarse.{key}": value for key, value in {"trials": 9, "enqueue": enqueue, **keys}.items()}
    return plan_coarse(load_settings(spaces=spaces, flags=settings))


@pytest.mark.parametrize("sampler", ["random", "qmc", "grid", "tpe"])
def test_they_are_the_first_trials_and_count_in_the_budget(sampler):
    drawn = plan([{"lr": 0.1, "reg": 1e-3}, {"train.lr": 0.2}], sampler=sampler).drawn()
    assert drawn[0] == {"lr": 0.1, "reg": 1e-3}
    assert drawn[1]["lr"] == 0.2
    assert 1e-6 <= drawn[1]["reg"] <= 1
    assert len(drawn) == plan([{}, {}], sampler=sampler).num_trials
    if sampler == "tpe":
        assert drawn[2:] == [None] * 7
    elif sampler == "grid":
        assert drawn[2:] == plan([], sampler=sampler, trials=7).drawn()
    else:
        assert drawn[2:] == plan([], sampler=sampler).drawn()[2:]


def test_what_is_not_said_is_as_random_search_draws_it():
    assert plan([{"lr": 0.1}], sampler="tpe").drawn()[0]["reg"] == plan([]).drawn()[0]["reg"]


def test_a_stage_without_them_is_kept_as_before():
    assert "enqueue" not in plan([]).identity("")["coarse"]
    assert plan([{"lr": 0.1}]).identity("")["coarse"]["enqueue"] == [{"lr": 0.1}]


@pytest.mark.parametrize(
    ("enqueue", "said"),
    [
        ([{"lr": 2.0}], r"coarse.enqueue\[0\]: lr = 2.* is outside its range.\nAllowed: \[1e-04, 1e\+00\]"),
        ([{}, {"momentum": 0.9}], r"coarse.enqueue\[1\]: train.momentum is not searched.\nAllowed: lr, reg"),
        ([{"lrr": 0.1}], "no hyperparameter is called 'lrr'"),
        ([{"lr": 0.1}] * 10, "enqueue has values for 10 trials, and the budget is trials = 9"),
        (["lr"], "enqueue"),
    ],
)
def test_what_cannot_be_tried_is_told(enqueue, said):
    with pytest.raises(ConfigError, match=said):
        plan(enqueue)


def test_more_than_a_budget_in_epochs_has_trials_is_told_by_its_own_name():
    with pytest.raises(ConfigError, match=r"the budget is epochs_budget = 1\.\nAllowed: at most 1, or more epochs"):
        load_settings(flags={"coarse.enqueue": [{"lr": 0.1}] * 2, "coarse.epochs_budget": 1})


def test_what_does_not_apply_beside_the_rest_is_told():
    spaces = [*SPACES, "optimizer=choice(sgd,momentum)", "momentum=uniform(0.5,0.99)"]
    whole = plan([{"optimizer": "momentum", "momentum": 0.9}], spaces).drawn()[0]
    assert whole.keys() == {"lr", "reg", "train.optimizer", "train.momentum"}
    with pytest.raises(ConfigError, match=r"train.momentum is not searched beside the other values"):
        plan([{"optimizer": "sgd", "momentum": 0.9}], spaces)
