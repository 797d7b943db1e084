import math
from itertools import pairwise

import pytest
import torch

from hpsearch.config import ModelConfig
from hpsearch.training.activations import LayerActivations, activations, compare_inits, judge, spread

X = torch.randn(64, 1, 8, 8, generator=torch.Generator().manual_seed(0))
DEEP = ModelConfig(hidden=(100,) * 8)


def deep(**keys):
    return activations(DEEP.model_copy(update=keys), 0, X, 10)


def test_mean_and_std_of_a_layer_are_those_of_its_outputs():
    found = deep(init="he")
    assert [layer.layer for layer in found.layers] == [f"fc_act{index}" for index in range(1, 9)]
    # ReLU of a normal variable of std sqrt(2): mean 1/sqrt(pi), second moment 1 (He et al. 2015)
    assert found.layers[0].mean == pytest.approx(1 / math.sqrt(math.pi), rel=0.1)
    assert found.layers[0].std == pytest.approx(math.sqrt(1 - 1 / math.pi), rel=0.1)


def test_he_keeps_the_signal_of_a_deep_relu_net_and_small_weights_lose_it():
    he, small = deep(init="he"), deep(init="small:0.05")
    assert (he.verdict, small.verdict) == ("healthy", "collapsing")
    assert deep(init="small:1e-12").verdict == "dead"
    assert deep(init="he", init_scale=1e-3).verdict == "dead"
    assert deep(init="he", init_scale=20.0).verdict == "growing"  # 20^8 times as large in the end


def test_tanh_at_small_weights_collapses_as_the_lectures_show():
    """CS231n, lecture 6: ten layers of 500, inputs of mean 0 and std 1, weights of std 0.01."""
    x = torch.randn(1000, 1, 20, 25, generator=torch.Generator().manual_seed(0))
    lecture = ModelConfig(hidden=(500,) * 10, activation="tanh", init="small:0.01")
    found = activations(lecture, 0, x, 10)
    assert [layer.std for layer in found.layers[:3]] == pytest.approx([0.213, 0.048, 0.011], abs=6e-4)
    assert found.verdict == "dead"  # 3e-7 in the last layer
    shallow = lecture.model_copy(update={"hidden": (500,) * 3})
    assert activations(shallow, 0, x, 10).verdict == "collapsing"


def test_weights_that_are_too_large_blow_a_relu_net_up():
    """CS231n's 6 x 4096 with weights of std 0.05, by its law: each layer multiplies the std by sqrt(n / 2) * std."""
    x = torch.randn(64, 1, 16, 32, generator=torch.Generator().manual_seed(0))
    factor = math.sqrt(4096 / 2) * 0.05
    wide = ModelConfig(hidden=(512,) * 6, init=f"small:{factor / math.sqrt(512 / 2)}")
    found = activations(wide, 0, x, 10)
    stds = [layer.std for layer in found.layers]
    assert [later / earlier for earlier, later in pairwise(stds)] == pytest.approx([factor] * 5, rel=0.2)
    assert found.verdict == "growing"
    assert activations(wide.model_copy(update={"init": "he"}), 0, x, 10).verdict == "healthy"


def test_a_normalization_may_scale_small_inputs_up():
    small = 1e-3 * X
    assert activations(DEEP.model_copy(update={"batch_norm": True}), 0, small, 10).verdict == "healthy"
    large = DEEP.model_copy(update={"hidden": (100,), "init": "small:5.0"})
    assert activations(large, 0, X, 10).verdict == "growing"  # one layer, 30 times the input


def test_units_that_are_0_for_every_image_are_counted():
    centred, shifted = (activations(ModelConfig(hidden=(100, 100)), 0, x, 10) for x in (X, X + 10))
    assert max(layer.dead for layer in centred.layers) < 0.05
    assert centred.verdict == "healthy"
    assert 0.4 < shifted.layers[0].dead < 0.6  # the sign of a unit is that of its weights' sum
    assert shifted.verdict == "dead units"
    smooth = activations(ModelConfig(hidden=(100, 100), activation="gelu"), 0, X + 10, 10)
    assert max(layer.dead for layer in smooth.layers) == 0


def test_a_channel_is_dead_where_it_is_0_at_every_place():
    found = activations(ModelConfig(name="convnet", channels=(64,), hidden=(20,)), 0, X + 30, 10)
    assert found.layers[0].dead * 64 == pytest.approx(round(found.layers[0].dead * 64))
    assert 0.1 < found.layers[0].dead < 0.5


@pytest.mark.parametrize(("activation", "init"), [("tanh", "small:1.0"), ("sigmoid", "small:2.0")])
def test_large_weights_saturate_bounded_activations(activation, init):
    saturated = deep(activation=activation, init=init)
    assert saturated.verdict == "saturated"
    assert saturated.layers[-1].at_ends > 0.5
    assert deep(activation=activation, init="xavier").layers[-1].at_ends < 0.1


@pytest.mark.parametrize("model", ["linear", "mlp", "lenet", "convnet", "resnet"])
def test_nets_by_their_defaults_are_healthy_with_he(model):
    assert activations(ModelConfig(name=model), 0, X, 10).verdict == "healthy"


def test_nets_of_other_kinds_are_healthy_where_their_weights_fit():
    small = {"name": "resnet", "depth": 20, "norm": "none"}
    for keys in (
        {"init": "lsuv", "hidden": (100,) * 8},
        {"init": "orthogonal", "hidden": (100,) * 8, "activation": "leaky_relu"},
        {"init": "xavier", "hidden": (100,) * 8, "activation": "none"},
        {"name": "convnet", "norm": "group", "activation": "silu", "pool": "average"},
        {**small, "init": "fixup"},
    ):
        found = activations(ModelConfig(**keys), 0, X, 10)
        assert (found.verdict, len(found.layers) > 2) == ("healthy", True), keys


def test_layers_without_an_activation_are_seen_too():
    found = activations(ModelConfig(hidden=(100,) * 8, activation="none", init="lecun98"), 0, X, 10)
    assert [layer.layer for layer in found.layers] == [f"fc_act{index}" for index in range(1, 9)]
    ratios = [later.std / earlier.std for earlier, later in pairwise(found.layers)]
    assert ratios == pytest.approx([3**-0.5] * 7, rel=0.15)  # a third of the variance is left by each
    assert found.verdict == "collapsing"


def test_batch_normalization_makes_the_scale_of_the_weights_irrelevant():
    plain, scaled = (deep(batch_norm=True, init="he", init_scale=scale) for scale in (1.0, 100.0))
    assert scaled.verdict == "healthy"
    assert scaled.layers[-1].std == pytest.approx(plain.layers[-1].std, rel=1e-2)


def test_the_chosen_initialization_comes_first_and_none_stands_twice():
    assert [each.init for each in compare_inits(DEEP, 0, X, 10)] == ["he", "small:0.01", "lecun", "xavier"]
    small = DEEP.model_copy(update={"init": "small:1e-4", "init_scale": 100.0})
    compared = compare_inits(small, 0, X, 10)
    assert [each.init for each in compared] == ["small:1e-4", "small:0.01", "lecun", "xavier", "he"]
    assert compared[0].layers[0].std == pytest.approx(compared[1].layers[0].std, rel=1e-4)  # 1e-4 x 100


def test_a_layer_called_twice_is_seen_twice():
    names = [layer.layer for layer in activations(ModelConfig(name="resnet"), 0, X[:8], 10).layers]
    assert len(names) == len(set(names)) == 17
    assert "layer1.0.relu#2" in names


def layers(*stds, at_ends=0.0, dead=0.0):
    return [LayerActivations(f"act{index}", 0.0, std, at_ends, dead) for index, std in enumerate(stds)]


@pytest.mark.parametrize(
    ("hidden", "verdict"),
    [
        (layers(), "healthy"),
        (layers(0.8, 0.5), "healthy"),
        (layers(0.005), "healthy"),  # one small layer fades nowhere
        (layers(0.8, 0.07), "collapsing"),
        (layers(0.8, 9e-7), "dead"),
        (layers(0.0, 0.0), "dead"),
        (layers(9.9, 9.9), "healthy"),
        (layers(10.1, 1.0), "growing"),  # of the input
        (layers(0.05, 0.3, 0.6), "growing"),  # of the first layer
        (layers(0.05, 0.3, 0.4), "healthy"),
        (layers(0.8, math.inf), "growing"),
        (layers(math.nan, math.nan), "growing"),
        (layers(0.8, 0.8, at_ends=0.5), "saturated"),
        (layers(0.8, 0.8, at_ends=0.4), "healthy"),
        (layers(0.8, 0.8, dead=0.4), "dead units"),
        (layers(0.8, 0.8, dead=0.39), "healthy"),
        (layers(0.8, 0.07, dead=0.5), "collapsing"),
    ],
)
def test_the_rule(hidden, verdict):
    assert judge(hidden, 1.0) == verdict


def test_what_is_the_same_for_every_image_is_no_signal():
    constant = torch.arange(12.0).view(1, 3, 2, 2).expand(5, 3, 2, 2)
    assert spread(constant) == 0
    assert spread(X) == pytest.approx(1, rel=0.05)
