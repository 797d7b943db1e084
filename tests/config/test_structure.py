"""Trials of one structure train together, whatever their vector hyperparameters are."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpsearch.config import StudyConfig
from hpsearch.errors import ConfigError
from hpsearch.results import TrialSpec
from hpsearch.training import group, structure_key

CONFIG = StudyConfig()
PARAMS = st.fixed_dictionaries(
    {},
    optional={
        "lr": st.floats(1e-6, 1.0),
        "reg": st.floats(0.0, 1e5),
        "model.hidden": st.sampled_from([(50,), (100,), (50, 50)]),
        "train.optimizer": st.sampled_from(["momentum", "adam"]),
    },
)


def structure_of(params):
    return params.get("model.hidden", (50,)), params.get("train.optimizer", "momentum")


@settings(deadline=None, max_examples=30)
@given(st.lists(PARAMS, max_size=6))
def test_groups_are_the_structures(all_params):
    specs = [TrialSpec(number, params) for number, params in enumerate(all_params)]
    groups = group(CONFIG, specs)
    assert sorted(spec.number for _, members in groups for spec in members) == list(range(len(specs)))
    for config, members in groups:
        assert {structure_of(spec.params) for spec in members} == {(config.model.hidden, config.train.optimizer)}
        assert (config.train.lr, config.train.reg) == (CONFIG.train.lr, CONFIG.train.reg)
    assert len(groups) == len({structure_of(params) for params in all_params})
    firsts = [members[0].number for _, members in groups]
    assert firsts == sorted(firsts)


def test_keys_do_not_depend_on_how_a_trial_says_it():
    assert structure_key(CONFIG, {"lr": 1e-3}) == structure_key(CONFIG, {"train.reg": 1.0})
    assert structure_key(CONFIG, {"model.hidden": [50]}) == structure_key(CONFIG, {})
    assert structure_key(CONFIG, {"hidden": (60,)}) == structure_key(CONFIG, {"model.hidden": [60]})
    assert structure_key(CONFIG, {"model.hidden": [60]}) != structure_key(CONFIG, {})


def test_a_bad_structure_is_an_error():
    with pytest.raises(ConfigError, match=r"train\.optimizer"):
        group(CONFIG, [TrialSpec(0, {"train.optimizer": "adadelta"})])
