"""What a choice does not use is neither drawn nor proposed, and samplers learn all the same."""

import pytest

from hpsearch.config import StageConfig, load_settings
from hpsearch.config.conditions import conditions_of
from hpsearch.errors import ConfigError
from hpsearch.space import draw_random
from hpsearch.space.shifted_grid import draw_shifted_grid
from hpsearch.stages.drawn import drawn_params, num_trials
from hpsearch.stages.proposals import Mirror
from hpsearch.storage import TrialRow

CONFIG = load_settings(
    spaces=["optimizer=choice(sgd,momentum,adamw)", "momentum=uniform(0.5,0.8)", "weight_decay=log(1e-6,1)", "reg=none"]
).study
SPACE, CONDITIONS = CONFIG.space, conditions_of(CONFIG)
USED = {
    "sgd": {"lr", "train.optimizer"},
    "momentum": {"lr", "train.optimizer", "train.momentum"},
    "adamw": {"lr", "train.optimizer", "train.momentum", "train.weight_decay"},
}


def waiting(number):
    return [TrialRow(trial_id=i, number=i, state="WAITING") for i in range(number)]


def value_of(params):
    """Best with adamw and a momentum of 0.7."""
    if "train.momentum" not in params:
        return 0.2
    return {"momentum": 0.4, "adamw": 0.8}[params["train.optimizer"]] - abs(params["train.momentum"] - 0.7)


@pytest.mark.parametrize("sampler", ["random", "qmc", "grid"])
def test_a_trial_is_drawn_what_it_uses(sampler):
    drawn = drawn_params(SPACE, StageConfig(trials=60, sampler=sampler), CONDITIONS)
    assert {params["train.optimizer"] for params in drawn} == set(USED)
    for params in drawn:
        assert set(params) == USED[params["train.optimizer"]]
        assert list(params) == [name for name in SPACE if name in params]


def test_what_a_trial_has_is_what_it_would_have_without_conditions():
    everything = draw_random(SPACE, 40, seed=3)
    for params, whole in zip(draw_random(SPACE, 40, 3, CONDITIONS), everything, strict=True):
        assert params == {name: whole[name] for name in params}


@pytest.mark.parametrize("draw", [drawn_params, draw_shifted_grid])
@pytest.mark.parametrize("budget", [3, 10, 60, 200])
def test_a_grid_has_no_point_twice_and_fits_the_budget(draw, budget):
    settings = StageConfig(trials=budget, sampler="grid")
    if draw is drawn_params:
        points = drawn_params(SPACE, settings, CONDITIONS)
    else:
        points = draw_shifted_grid(SPACE, budget, 0, CONDITIONS)
    assert len({repr(point) for point in points}) == len(points) == num_trials(SPACE, settings, CONDITIONS)
    assert budget / 2 < len(points) <= budget
    # One more on the axis that has the fewest would not fit; of all 3 x n x n x n points, far fewer would.
    assert {point["train.optimizer"] for point in points} == set(USED)


def test_a_grid_counts_what_applies():
    """Three optimizers with two of the four values of momentum: 2 points with sgd, 4 with each of the others."""
    axes = load_settings(
        spaces=["optimizer=choice(sgd,momentum,adam)", "momentum=choice(0.8,0.9)", "lr=choice(0.1,0.2)", "reg=none"]
    ).study
    settings = StageConfig(trials=10, sampler="grid")
    assert len(drawn_params(axes.space, settings, conditions_of(axes))) == 10
    with pytest.raises(ConfigError, match=r"9 is too few for a grid.* have 10 combinations"):
        drawn_params(axes.space, StageConfig(trials=9, sampler="grid"), conditions_of(axes))


@pytest.mark.slow
@pytest.mark.parametrize(("sampler", "num"), [("tpe", 40), ("gp", 24), ("cmaes", 20)])
def test_a_sampler_proposes_what_a_trial_uses_and_learns_from_it(sampler, num):
    settings = StageConfig(trials=num, sampler=sampler, seed=1)
    mirror = Mirror("s", SPACE, settings, waiting(num), conditions=CONDITIONS)
    proposed = []
    for number in range(num):
        params = mirror.propose(number)
        assert set(params) == USED[params["train.optimizer"]]
        proposed.append(params)
        mirror.report(number, 1, value_of(params))
        mirror.finish(number, value_of(params))
    if sampler == "cmaes":  # leaves choices to chance
        return
    late = [params for params in proposed[num // 2 :] if params["train.optimizer"] == "adamw"]
    assert len(late) >= 3
    near = [params for params in late if abs(params["train.momentum"] - 0.7) < 0.06]
    assert len(near) > len(late) / 2


@pytest.mark.parametrize("sampler", ["gp", "cmaes"])
def test_to_a_sampler_of_one_dimension_all_trials_have_all_values(sampler):
    """In its mirror alone; momentum is 0.9 in the study file, outside of its range, whose nearest value is 0.8."""
    settings = StageConfig(trials=4, sampler=sampler)
    rows = [TrialRow(0, 0, "COMPLETE", 0.5, params={"lr": 0.1, "train.optimizer": "sgd"}), *waiting(4)[1:]]
    mirror = Mirror("s", SPACE, settings, rows, conditions=CONDITIONS)
    for number in range(1, 4):
        params = mirror.propose(number)
        own = mirror.study.trials[number].params
        assert own.keys() == SPACE.keys()
        assert params.items() <= own.items()
    taken = mirror.study.trials[0].params
    assert (taken["train.momentum"], taken["train.weight_decay"]) == (0.8, 1e-6)


def test_in_an_unconditional_space_proposals_are_as_they_were():
    def propose(**options):
        mirror = Mirror("s", SPACE, StageConfig(trials=15, sampler="tpe"), waiting(15), **options)
        proposed = []
        for number in range(15):
            proposed.append(mirror.propose(number))
            mirror.finish(number, proposed[-1]["lr"])
        return proposed

    assert all(params.keys() == SPACE.keys() for params in propose())
