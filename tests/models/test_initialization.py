import math

import pytest
import torch
from torch import nn

from hpsearch.config import ModelConfig
from hpsearch.errors import ConfigError
from hpsearch.models import NOISY, build, build_initialized, initialize


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
    with pytest.raises(ConfigError, match=r"Allowed: .*small:STD"):
        initialize(nn.Linear(2, 2), init, seed=0)


@pytest.mark.parametrize(
    ("init", "fc_std", "conv_std"),
    [
        ("lecun98", math.sqrt(1 / 1200), math.sqrt(1 / 270)),
        ("he-uniform", math.sqrt(2 / 400), math.sqrt(2 / 90)),
        ("xavier-uniform", math.sqrt(2 / 700), math.sqrt(2 / (90 + 1800))),
        ("he-out", math.sqrt(2 / 300), math.sqrt(2 / 1800)),
        ("he-avg", math.sqrt(4 / 700), math.sqrt(4 / (90 + 1800))),
    ],
)
def test_width_of_other_distributions(init, fc_std, conv_std):
    net = nn.Sequential(nn.Linear(400, 300), nn.Conv2d(10, 200, 3))
    initialize(net, init, seed=0)
    for layer, std in zip(net, (fc_std, conv_std), strict=True):
        assert layer.weight.std().item() == pytest.approx(std, rel=0.02)
        if init.endswith("-uniform"):
            assert layer.weight.abs().max().item() == pytest.approx(math.sqrt(3) * std, rel=0.001)


@pytest.mark.parametrize(
    ("activation", "gain"), [("relu", math.sqrt(2)), ("tanh", 5 / 3), ("none", 1.0), ("gelu", 1.0)]
)
def test_orthogonal_weights_have_the_gain_of_the_activation(activation, gain):
    net = nn.Sequential(nn.Linear(40, 30), nn.Linear(30, 60), nn.Conv2d(3, 8, 3)).double()
    initialize(net, "orthogonal", seed=0, activation=activation)
    wide, tall, conv = (layer.weight.flatten(1) for layer in net)
    for square in (wide @ wide.T, tall.T @ tall, conv @ conv.T):
        torch.testing.assert_close(square, gain**2 * torch.eye(len(square), dtype=torch.float64))


def test_he_of_a_leaky_relu_has_its_gain():
    plain, leaky = (nn.Linear(9, 9).double() for _ in range(2))
    initialize(plain, "he", seed=0)
    initialize(leaky, "he", seed=0, activation="leaky_relu")
    gains = (nn.init.calculate_gain("leaky_relu", 0.01), nn.init.calculate_gain("relu"))
    torch.testing.assert_close(leaky.weight / plain.weight, torch.full((9, 9), gains[0] / gains[1]).double())


def test_biases_are_drawn_after_all_weights():
    config = ModelConfig(name="convnet", channels=(300,), hidden=(200,), norm="layer")
    plain = build_initialized(config, (1, 8, 8), 3, 0)
    drawn = build_initialized(config.model_copy(update={"init_bias": 0.2}), (1, 8, 8), 3, 0)
    assert drawn.fc1.bias.std().item() == pytest.approx(0.2, rel=0.15)
    assert drawn.conv1_1.bias.std().item() == pytest.approx(0.2, rel=0.15)
    assert not any(bias.any() for bias in (plain.fc1.bias, drawn.norm1_1.bias, drawn.fc_norm1.bias))
    for name, weight in plain.named_parameters():
        assert name.endswith("bias") or torch.equal(weight, drawn.get_parameter(name))


@pytest.mark.parametrize(
    "config",
    [
        ModelConfig(hidden=(50, 40, 30), init="lsuv", activation="tanh", dropout=0.5),
        ModelConfig(name="convnet", init="lsuv", norm="batch", dropconnect=0.3),
        ModelConfig(name="resnet", depth=8, init="lsuv", norm="none", stochastic_depth=0.5),
    ],
    ids=lambda config: config.name,
)
def test_lsuv_gives_each_layer_unit_variance(config):
    x_BCHW = 7 * torch.randn(200, 1, 8, 8, generator=torch.Generator().manual_seed(0)) + 3
    chance = torch.get_rng_state()
    net, again = (build_initialized(config, (1, 8, 8), 5, 0, x) for x in (x_BCHW, x_BCHW[:100].double()))
    assert torch.equal(torch.get_rng_state(), chance)
    assert all(torch.equal(p, q) for p, q in zip(net.state_dict().values(), again.state_dict().values(), strict=True))
    stds = []
    for layer in net.modules():
        if isinstance(layer, NOISY):
            layer.eval()
        if isinstance(layer, nn.Linear | nn.Conv2d):
            layer.register_forward_hook(lambda _layer, _inputs, output: stds.append(output.std(correction=0).item()))
    net(x_BCHW[:100].double())
    assert stds == pytest.approx([1.0] * len(stds), rel=1e-5)
    weight = next(p for p in net.parameters() if p.ndim == 2)
    square = weight @ weight.T
    torch.testing.assert_close(square, square[0, 0] * torch.eye(len(square), dtype=torch.float64))


def test_lsuv_without_images_says_what_it_lacks():
    with pytest.raises(ConfigError, match=r"model\.init = 'lsuv' needs images"):
        initialize(nn.Linear(2, 2), "lsuv", seed=0)
