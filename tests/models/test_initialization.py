import math

import pytest
import torch
from torch import nn

from hpsearch.config import ModelConfig
from hpsearch.errors import ConfigError
from hpsearch.models import build, initialize


@pytest.mark.parametrize(
    ("init", "fc_std", "conv_std"),
    [
        ("small:1e-4", 1e-4, 1e-4),
        ("lecun", math.sqrt(1 / 400), math.sqrt(1 / 90)),
        ("xavier", math.sqrt(2 / 700), math.sqrt(2 / (90 + 1800))),
        ("he", math.sqrt(2 / 400), math.sqrt(2 / 90)),
    ],
)
def test_width_of_the_normal_distribution(init, fc_std, conv_std):
    net = nn.Sequential(nn.Linear(400, 300), nn.Conv2d(10, 200, 3))
    initialize(net, init, seed=0)
    for layer, std in zip(net, (fc_std, conv_std), strict=True):
        assert layer.weight.std().item() == pytest.approx(std, rel=0.02)
        assert layer.weight.mean().item() == pytest.approx(0, abs=0.02 * std)
        z = layer.weight.flatten() / std
        assert (z**4).mean().item() == pytest.approx(3, rel=0.1)  # a normal distribution's kurtosis
        assert not layer.bias.any()


def test_norm_layers_start_as_the_identity():
    layers = [nn.BatchNorm2d(3), nn.LayerNorm(4), nn.GroupNorm(1, 3)]
    for layer in layers:
        nn.init.normal_(layer.weight)
        nn.init.normal_(layer.bias)
    layers[0](torch.randn(5, 3, 2, 2))
    initialize(nn.Sequential(*layers), "he", seed=0)
    for layer in layers:
        assert (layer.weight == 1).all()
        assert not layer.bias.any()
    assert not layers[0].running_mean.any()
    assert (layers[0].running_var == 1).all()
    assert layers[0].num_batches_tracked == 0


def test_the_seed_decides_in_every_precision_and_for_every_dropout():
    def weights(dtype=torch.float64, seed=0, dropout=0.0):
        net = build(ModelConfig(name="lenet", dropout=dropout), (1, 8, 8), 3).to(dtype)
        initialize(net, "he", seed)
        return net.state_dict()

    torch.manual_seed(1)
    first = weights()
    torch.manual_seed(2)
    for name, tensor in weights().items():
        assert torch.equal(tensor, first[name])
        assert torch.equal(weights(torch.float32)[name], tensor.float())
        assert torch.equal(weights(dropout=0.5)[name], tensor)
    assert not torch.equal(weights(seed=1)["fc1.weight"], first["fc1.weight"])


@pytest.mark.parametrize("init", ["kaiming", "small", "he:2"])
def test_an_unknown_name_is_an_error(init):
    with pytest.raises(ConfigError, match="Allowed: small:STD"):
        initialize(nn.Linear(2, 2), init, seed=0)
