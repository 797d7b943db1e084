"""A Gaussian process that learns lines across the axes, as Optuna asks it."""

import math
import tomllib
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from hpsearch.stages.linked_sampler import LinkedGPSampler

SPACE = {
    "lr": FloatDistribution(1e-5, 1.0, log=True),
    "batch": IntDistribution(4, 4096, log=True),
    "reg": FloatDistribution(1e-6, 1.0, log=True),
    "decay": FloatDistribution(0.0, 1.0),
}


def ridges(params):
    """As much as lr / batch, and reg and decay, go together: along lines that no axis follows."""
    lr, batch, reg = (math.log10(params[name]) for name in ("lr", "batch", "reg"))
    off = ((lr - batch + 4.5) / 0.5) ** 2 + ((reg / 6 + params["decay"]) / 0.2) ** 2 + ((lr + 2.5) / 3) ** 2
    return 0.3 + 0.6 * math.exp(-off)


def learned(sampler, num=60, value=ridges, space=SPACE, direction="maximize", seed=0):
    """A study whose first trials were drawn at random."""
    sign = 1 if direction == "maximize" else -1
    rng = np.random.default_rng(seed)
    study = optuna.create_study(direction=direction, sampler=optuna.samplers.RandomSampler(seed=seed))
    for _ in range(num):
        trial = study.ask(space)
        study.tell(trial, sign * (value(trial.params) + rng.normal(0, 0.01)))
    study.sampler = sampler
    return study


@pytest.mark.slow
def test_it_finds_more_on_ridges_than_a_process_of_the_axes():
    found = {}
    for sampler in (LinkedGPSampler(1), optuna.samplers.GPSampler(seed=1)):
        study = learned(sampler, num=60)
        for _ in range(4):
            trial = study.ask(SPACE)
            study.tell(trial, ridges(trial.params))
        found[type(sampler)] = [ridges(trial.params) for trial in study.trials[60:]]
    of_lines, of_axes = found.values()
    assert max(of_lines) > 0.8
    assert np.mean(of_lines) > np.mean(of_axes) + 0.1


@pytest.mark.slow
def test_less_is_better_where_the_study_says_so():
    proposed = [learned(LinkedGPSampler(3), direction=way).ask(SPACE).params for way in ("maximize", "minimize")]
    assert proposed[0] == pytest.approx(proposed[1])


def test_without_lines_it_proposes_what_its_parent_does():
    def bowl(params):
        return math.exp(-((math.log10(params["lr"]) + 3) ** 2) - (params["decay"] - 0.3) ** 2)

    assert learned(LinkedGPSampler(3), value=bowl).ask(SPACE).params == (
        learned(optuna.samplers.GPSampler(seed=3), value=bowl).ask(SPACE).params
    )


@pytest.mark.slow
def test_what_is_searched_may_become_less():
    """As where a trial of code of the form of Optuna's objectives asked for fewer values than all before it."""
    study = learned(LinkedGPSampler(3))
    study.tell(study.ask(SPACE), 0.5)
    fewer = {name: SPACE[name] for name in ("lr", "batch", "reg")}
    study.tell(study.ask(fewer), 0.5)
    assert study.ask(fewer).params.keys() == fewer.keys()


def test_what_runs_is_not_proposed_again():
    study = learned(LinkedGPSampler(3))
    trials = [study.ask(SPACE).params for _ in range(3)]
    places = np.array([[math.log10(each["lr"]) / 5, math.log10(each["batch"]) / 3, each["decay"]] for each in trials])
    apart = [np.abs(a - b).max() for at, a in enumerate(places) for b in places[:at]]
    assert min(apart) > 0.01


def test_choices_and_what_has_one_value_alone_are_proposed_too():
    space = {
        **SPACE,
        "optimizer": CategoricalDistribution(["sgd", "adam"]),
        "only": CategoricalDistribution([1]),
        "depth": IntDistribution(3, 3),
    }

    def of_adam(params):
        return ridges(params) - (0.0 if params["optimizer"] == "adam" else 0.2)

    study = learned(LinkedGPSampler(3), value=of_adam, space=space)
    params = study.ask(space).params
    assert list(params) == list(space)
    assert (params["optimizer"], params["only"], params["depth"]) == ("adam", 1, 3)
    assert isinstance(params["batch"], int)


@pytest.mark.slow
def test_its_proposals_are_those_of_its_seed():
    asked = [[study.ask(SPACE).params for _ in range(2)] for study in (learned(LinkedGPSampler(5)) for _ in range(2))]
    assert asked[0] == asked[1]


@pytest.mark.parametrize("num", [0, 1, 5])
def test_few_trials_are_enough_to_ask(num):
    assert learned(LinkedGPSampler(1), num=num).ask(SPACE).params.keys() == SPACE.keys()


def test_values_that_are_all_alike_teach_nothing():
    study = optuna.create_study(direction="maximize", sampler=LinkedGPSampler(0))
    for _ in range(11):
        study.tell(study.ask(SPACE), 0.5)
    assert study.ask(SPACE).params.keys() == SPACE.keys()


def test_no_place_is_proposed_that_was_tried():
    """As a process wants it that takes for noise what a hyperparameter does which not all trials have."""
    space = {"x": FloatDistribution(0, 1), "kind": CategoricalDistribution(["a", "b"])}
    sampler = LinkedGPSampler(3)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for number in range(12):
        params = {"x": number / 20, "kind": "ab"[number % 2]}
        study.add_trial(optuna.trial.create_trial(params=params, distributions=space, value=number % 5 / 5))
    best = study.best_trial.params
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(optuna.samplers.GPSampler, "sample_relative", lambda *_: dict(best))
        assert study.ask(space).params != best
        patch.setattr(optuna.samplers.GPSampler, "sample_relative", lambda *_: {**best, "x": 0.77})
        assert study.ask(space).params == {**best, "x": 0.77}


def test_what_optuna_wants_for_it_is_installed_with_hpsearch():
    """Without greenlet each user's first proposal is a warning that the next ones are slow."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert any(each.startswith("greenlet") for each in project["dependencies"])
