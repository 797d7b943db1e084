import math

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
    assert deep(init="he", init_scale=20.0).verdict == "saturated"  # 20^8 times as large in the end


@pytest.mark.parametrize(("activation", "init"), [("tanh", "small:1.0"), ("sigmoid", "small:2.0")])
def test_large_weights_saturate_bounded_activations(activation, init):
    saturated = deep(activation=activation, init=init)
    assert saturated.verdict == "saturated"
    assert saturated.layers[-1].at_ends > 0.5
    assert deep(activation=activation, init="xavier").layers[-1].at_ends < 0.1


@pytest.mark.parametrize("model", ["linear", "mlp", "lenet", "convnet", "resnet"])
def test_nets_by_their_defaults_are_healthy_with_he(model):
    assert activations(ModelConfig(name=model), 0, X, 10).verdict == "healthy"


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


def layers(*stds, at_ends=0.0):
    return [LayerActivations(f"act{index}", 0.0, std, at_ends) for index, std in enumerate(stds)]


@pytest.mark.parametrize(
    ("hidden", "verdict"),
    [
        (layers(), "healthy"),
        (layers(0.8, 0.5), "healthy"),
        (layers(0.005), "healthy"),  # one small layer fades nowhere
        (layers(0.8, 0.07), "collapsing"),
        (layers(0.8, 9e-7), "dead"),
        (layers(0.0, 0.0), "dead"),
        (layers(101.0, 1.0), "saturated"),
        (layers(0.8, math.inf), "saturated"),
        (layers(math.nan, math.nan), "saturated"),
        (layers(0.8, 0.8, at_ends=0.5), "saturated"),
        (layers(0.8, 0.8, at_ends=0.4), "healthy"),
    ],
)
def test_the_rule(hidden, verdict):
    assert judge(hidden, 1.0) == verdict


def test_what_is_the_same_for_every_image_is_no_signal():
    constant = torch.arange(12.0).view(1, 3, 2, 2).expand(5, 3, 2, 2)
    assert spread(constant) == 0
    assert spread(X) == pytest.approx(1, rel=0.05)
