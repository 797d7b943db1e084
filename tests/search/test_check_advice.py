"""What a check advises is possible with the net at hand, and not what is set already."""

import re
from dataclasses import replace
from itertools import islice, product

import pytest
import torch

from hpsearch.config import StudyConfig
from hpsearch.search.checks.advice import activation_advice, either, more_capacity, rate_advice
from hpsearch.search.checks.gates import check_initial_cost
from hpsearch.search.checks.overfit import check_overfit
from hpsearch.search.checks.study import activation_finding
from hpsearch.training.activations import Activations, LayerActivations, activations
from hpsearch.training.images import load_images

KEYS = {  # of [model], that each net uses, besides name, init and init_scale
    "linear": set(),
    "mlp": {"hidden", "activation", "norm"},
    "lenet": {"activation"},
    "convnet": {"hidden", "activation", "norm", "channels", "convs"},
    "vgg": {"hidden", "activation", "norm", "depth"},
    "resnet": {"depth", "norm"},
    "mynets:small": set(),
}
VERDICTS = ("dead", "collapsing", "growing", "saturated", "dead units")


def config(**keys):
    sections = {"model": {}, "data": {}, "train": {}}
    for path, value in keys.items():
        section, key = path.split("__")
        sections[section][key] = value
    return StudyConfig(**sections)


def advised(text):
    """(section, key, value) of each `section.key` or `section.key = value` in an advice."""
    return re.findall(r"(model|train|data)\.(\w+)(?: = ([\w:.-]+))?", text)


def check_possible(text, study):
    assert text
    for section, key, value in advised(text):
        if section == "model":
            own = ":" in study.model.name
            assert key in KEYS[study.model.name] | {"name"} | (set() if own else {"init", "init_scale"}), text
        if value:
            now = getattr(getattr(study, section), key)
            assert value != str(now).lower(), text
            study.with_params({f"{section}.{key}": {"true": True}.get(value, value)})


@pytest.mark.parametrize("name", KEYS)
def test_each_advice_can_be_followed(name):
    inits = ("he", "xavier", "lecun", "small:0.01", "small:1e-4", "lecun98", "orthogonal", "lsuv", "he-uniform")
    variations = product(inits, (1e-3, 1.0, 20.0), ("relu", "tanh", "none"), (False, True), ("none", "channel"))
    for init, scale, activation, batch_norm, normalize in islice(variations, 0, None, 5):  # all pairs of values
        study = config(
            model__name=name,
            model__init=init,
            model__init_scale=scale,
            model__activation=activation,
            model__batch_norm=batch_norm,
            data__normalize=normalize,
            train__optimizer="adam" if batch_norm else "momentum",
        )
        for verdict in VERDICTS:
            check_possible(activation_advice(verdict, study), study)
        check_possible(rate_advice([(1e-6, "explodes")], study), study)
        check_possible(rate_advice([(1e-6, "barely moves"), (1e-1, "overshoots")], study), study)
    assert activation_advice("healthy", config()) == ""


@pytest.mark.parametrize(
    ("verdict", "keys", "advice"),
    [
        ("collapsing", {"model__init": "small:0.01"}, "model.init = he or model.norm = batch"),
        (
            "collapsing",
            {"model__hidden": (9, 9)},
            "model.norm = batch, fewer layers (model.hidden) or model.init_sc",
        ),
        ("collapsing", {"model__name": "lenet"}, ": model.init_scale = 2"),
        ("collapsing", {"model__init": "he", "model__init_scale": 0.1}, "model.init_scale = 1 or model.norm"),
        ("collapsing", {"model__init": "he", "model__hidden": (9, 9)}, "fewer layers (model.hidden)"),
        ("collapsing", {"model__activation": "tanh", "model__init": "small:0.01"}, "model.init = xavier"),
        ("dead", {"model__init": "he", "model__init_scale": 1e-3, "model__batch_norm": True}, ": model.init_scale = 1"),
        ("growing", {"model__init": "small:0.05"}, "model.init = he or model.norm = batch"),
        ("growing", {"model__init": "xavier"}, "model.init_scale = 0.5"),  # he would be larger still
        ("saturated", {"model__activation": "tanh", "model__init": "he"}, "model.init = xavier"),
        ("collapsing", {"model__activation": "none", "model__init": "lecun98"}, "model.init = xavier"),
        ("collapsing", {"model__activation": "elu", "model__init": "xavier-uniform"}, "model.init = he"),
        ("collapsing", {"model__activation": "leaky_relu", "model__init": "he-uniform"}, ": model.norm = batch"),
        ("collapsing", {"model__init": "orthogonal"}, ": model.norm = batch"),
        ("growing", {"model__name": "resnet", "model__norm": "none", "model__init": "lsuv"}, ": model.norm = batch or"),
        ("saturated", {"model__activation": "tanh", "model__init": "xavier"}, "model.activation = relu"),
        ("dead units", {"data__normalize": "none"}, "data.normalize = channel, model.norm = batch or model.act"),
        ("dead units", {"model__name": "resnet"}, "a low lr"),
    ],
)
def test_the_next_thing_is_said_where_the_first_is_set(verdict, keys, advice):
    assert advice in activation_advice(verdict, config(**keys))


def test_the_finding_of_a_net_that_blows_up(tiny):
    settings = tiny(model__hidden=(200,) * 5, model__init="small:0.3")
    x_BCHW = torch.randn(40, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    found = activation_finding([activations(settings.study.model, 0, x_BCHW, 3)], settings.study)
    assert found.outcome == "note"
    assert found.text.startswith("activations of small:0.3 growing, std ")
    assert "model.init = he" in found.advice


def test_dead_units_are_named_with_their_layer(tiny):
    settings = tiny(model__hidden=(50, 50), data__normalize="none")
    x_BCHW = torch.rand(40, 1, 4, 4, generator=torch.Generator().manual_seed(0)) + 20
    found = activation_finding([activations(settings.study.model, 0, x_BCHW, 3)], settings.study)
    assert found.outcome == "note"
    assert re.search(r"4\d%|5\d% of the units of fc_act\d are 0 for every image", found.text)
    assert "data.normalize = channel" in found.advice


def test_healthy_and_dead_units_are_one_verdict(tiny):
    layers = (LayerActivations("fc_act1", 0.4, 0.8, 0.0, dead=0.25), LayerActivations("fc_act2", 0.4, 0.7, 0.0))
    found = activation_finding([Activations("he", "healthy", layers)], tiny().study)
    dead = "healthy but for dead units (25% of fc_act1 are 0 for every image)"
    assert found.text == f"activations of he {dead}, std 0.8 to 0.7 in 2 layers"
    assert found.outcome == "ok"


def test_the_gates_advise_what_is_possible(tiny):
    """Wrong on purpose: inputs a thousand times too large, and one image for all classes."""
    for keys in ({"model__name": "linear"}, {"model__hidden": (9,)}):
        settings = tiny(**keys)
        data = load_images(settings.study, settings.run)
        wild = replace(data, x_train_NCHW=data.train_images() * 1e3)
        alike = replace(data, x_train_NCHW=torch.ones_like(data.train_images()))
        initial, _ = check_initial_cost(settings.study, wild)
        overfit = check_overfit(settings.study, alike)
        assert (initial.outcome, overfit.outcome) == ("failed", "failed")
        check_possible(initial.advice, settings.study)
        check_possible(overfit.advice, settings.study)
        assert "data.normalize" not in initial.advice  # it is channel already
        assert "model.init = small:0.01" in initial.advice


def test_options_are_three_at_most_and_none_stands_twice():
    assert either("a") == "a"
    assert either("a", "", "b", "a") == "a or b"
    assert either("a", "b", "c", "d") == "a, b or c"


def deeper(name, depth):
    return more_capacity(config(model__name=name, model__depth=depth).model)


def test_the_deepest_net_has_no_deeper_one():
    assert [deeper("resnet", depth) for depth in (152, 56)] == ["", ""]
    assert "model.depth = 34" in deeper("resnet", 18)
    assert "model.depth = 32" in deeper("resnet", 20)
    assert "model.depth = 19" in deeper("vgg", 16)
