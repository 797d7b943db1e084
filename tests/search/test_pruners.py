"""Optuna's pruners from a study file, wrapped ones too."""

import tomllib

import optuna
import pytest

from hpsearch.config import StageConfig, load_settings
from hpsearch.errors import ConfigError
from hpsearch.search.pruners import make_pruner


@pytest.mark.parametrize(
    ("options", "patience", "wrapped"),
    [
        ("", 3, None),
        ('pruner_options = { patience = 5, min_delta = 0.01, wrapped_pruner = "none" }', 5, None),
        ('pruner_options = { wrapped_pruner = "median" }', 3, optuna.pruners.MedianPruner),
        ('pruner_options = { wrapped_pruner = "HyperbandPruner" }', 3, optuna.pruners.HyperbandPruner),
        ('pruner_options.wrapped_pruner = { name = "percentile", percentile = 25.0 }', 3,
         optuna.pruners.PercentilePruner),
        ('pruner_options.wrapped_pruner = { name = "patient", wrapped_pruner = "median" }', 3,
         optuna.pruners.PatientPruner),
    ],
)  # fmt: skip
def test_a_wrapped_pruner_in_a_study_file(options, patience, wrapped):
    stored = tomllib.loads(f'[coarse]\npruner = "patient"\n{options}')
    pruner = make_pruner(load_settings(stored=stored).study.coarse)
    assert isinstance(pruner, optuna.pruners.PatientPruner)
    assert pruner._patience == patience
    assert pruner._min_delta == stored["coarse"].get("pruner_options", {}).get("min_delta", 0.0)
    assert type(pruner._wrapped_pruner) is (wrapped or type(None))


def test_options_of_the_wrapped_one_from_the_command_line():
    sets = ["coarse.pruner_options.patience=2", "coarse.pruner_options.wrapped_pruner=median"]
    settings = load_settings(sets=sets, flags={"coarse.pruner": "patient"}).study.coarse
    assert settings.pruner_options == {"patience": 2, "wrapped_pruner": "median"}
    assert isinstance(make_pruner(settings)._wrapped_pruner, optuna.pruners.MedianPruner)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"patience": 2.5}, ["pruner_options = {'patience': 2.5", "whole number", "Allowed: wrapped_pruner, patience"]),
        ({"patience": -1}, ["pruner_options", "-1"]),
        ({"patience": True}, ["True is not a whole number"]),
        ({"min_delta": "much"}, ["pruner_options", "much"]),
        ({"warmup": 1}, ["warmup", "Allowed: wrapped_pruner, patience, min_delta"]),
        ({"wrapped_pruner": "best"}, ["pruner_options.wrapped_pruner = 'best'", "Allowed: none, hyperband, median"]),
        ({"wrapped_pruner": 3}, ["pruner_options.wrapped_pruner = 3", 'name = "median"']),
        ({"wrapped_pruner": {"n_startup_trials": 3}}, ["pruner_options.wrapped_pruner = {'n_startup_trials': 3}"]),
        ({"wrapped_pruner": {"name": "best"}}, ["pruner_options.wrapped_pruner.name = 'best'"]),
        ({"wrapped_pruner": {"name": "median", "x": 1}}, ["pruner_options.wrapped_pruner = {'x': 1}", "median"]),
    ],
)
def test_wrong_options_are_named(options, words):
    with pytest.raises(ConfigError) as caught:
        make_pruner(StageConfig(pruner="patient", pruner_options=options))
    assert len(str(caught.value).splitlines()) == 2
    for word in words:
        assert word in str(caught.value)
