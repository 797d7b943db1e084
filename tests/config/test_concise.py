"""The best trial as a study file: how it was trained, and the search that would have gone on."""

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpsearch.config import load_settings
from hpsearch.config.concise import as_trained, concise
from hpsearch.config.template import as_toml

PARAMS = {"lr": 0.5, "reg": 0.25}
DOCUMENTS = [
    {},
    {
        "model": {"name": "convnet", "channels": [8], "batch_norm": True},
        "data": {"source": "faces", "augment": ["hflip", "rotate:5"]},
    },
    {"model": {"name": "resnet", "depth": 34}, "train": {"optimizer": "adamw", "weight_decay": 0.1}},
    {"data": {"source": "synthetic", "synthetic": {"noise": 2.0}, "limit": 90}, "train": {"lr_schedule": "cosine"}},
    {"data": {"source": "folder:photos", "size": 64}, "model": {"name": "lenet"}, "fine": {"pruner": "median"}},
    {
        "space": {
            "lr": {"log": [1e-3, 1]},
            "train.optimizer": {"choice": ["sgd", "adam"]},
            "beta2": {"uniform": [0.5, 0.9]},
        },
        "coarse": {
            "set": {"train.lr_decay": 0.5, "data.augment": "crop:1"},
            "pruner_options": {'a"b.c': [1, 2.5, "x"]},
        },
        "fine": {"trials": 7, "set": {"train.lr_decay": 0.25}},
    },
    {"coarse": {"epochs": 3}, "fine": {"set": {"lr_decay": 0.5, "model.hidden": [7]}}},
]


def read(tables):
    return load_settings(document=tomllib.loads(as_toml(tables)))


@pytest.mark.parametrize("document", DOCUMENTS)
@pytest.mark.parametrize("kind", [None, "coarse", "fine"])
def test_what_is_left_out_is_as_by_default_or_does_nothing(document, kind):
    config = load_settings(document=document).study
    settings = read(concise(config, kind))
    assert settings.study == config
    assert settings.notes == ()


@pytest.mark.parametrize("document", DOCUMENTS)
@pytest.mark.parametrize(("kind", "other"), [("coarse", "fine"), ("fine", "coarse")])
def test_it_says_how_the_trial_was_trained_and_the_other_stage_stays_the_same(document, kind, other):
    config = load_settings(document=document).study
    trained = read(concise(as_trained(config, kind, PARAMS), kind)).study
    then = config.for_stage(kind).with_params(PARAMS)
    assert (trained.data, trained.model, trained.train) == (then.data, then.model, then.train)
    assert trained.train.epochs == config.stage(kind).epochs
    assert trained.space == config.space
    assert trained.for_stage(kind).train == then.train
    assert trained.stage(kind) == config.stage(kind).model_copy(update={"set": {}})
    before, after = config.for_stage(other).with_params(PARAMS), trained.for_stage(other)
    assert (after.data, after.model, after.train) == (before.data, before.model, before.train)


def test_only_what_concerns_the_search_is_said():
    said = concise(load_settings(document={"model": {"name": "linear"}, "train": {"optimizer": "sgd"}}).study, "coarse")
    assert said["model"].keys() == {"name", "dropout", "init", "init_scale"}
    assert not {"momentum", "beta2", "weight_decay", "lr_step"} & said["train"].keys()
    assert said["train"]["lr_decay"] == 0.95
    assert not {"options", "synthetic", "size"} & said["data"].keys()
    assert said.keys() == {"data", "model", "train", "space", "coarse"}


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.lists(st.floats(allow_nan=False))))
def test_any_table_is_read_back(table):
    assert tomllib.loads(as_toml({"x": table})) == {"x": table}


def test_what_is_not_set_is_left_out():
    assert tomllib.loads(as_toml({"x": {"a": None, "b": {"c": None, "d": 1}}})) == {"x": {"b": {"d": 1}}}
