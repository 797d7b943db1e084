import pytest
import torch
from torch import nn

from hpsearch.config import ModelConfig
from hpsearch.errors import ConfigError
from hpsearch.models import Dropout, build, weight_names

SHAPES = [(1, 8, 8), (1, 25, 25), (1, 28, 28), (3, 32, 32), (3, 64, 64)]
CONFIGS = [
    ModelConfig(name="linear"),
    ModelConfig(name="mlp", hidden=(7, 5), batch_norm=True, dropout=0.1),
    ModelConfig(name="mlp", hidden=()),
    ModelConfig(name="lenet", dropout=0.1),
    ModelConfig(name="convnet", channels=(4, 5, 6), convs=2, hidden=(7,), batch_norm=True, dropout=0.1),
    ModelConfig(name="convnet", channels=(2,), pool=False, hidden=()),
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.name)
def test_logits_for_any_image(config, shape):
    logits_BC = build(config, shape, 6)(torch.randn(3, *shape))
    assert logits_BC.shape == (3, 6)
    assert logits_BC.isfinite().all()


@pytest.mark.parametrize("shape", [*SHAPES, (2, 96, 96)], ids=str)
def test_resnet_for_any_image(shape):
    net = build(ModelConfig(name="resnet", dropout=0.1), shape, 6).eval()
    stem = net.conv1(torch.zeros(1, *shape))
    assert stem.shape[-1] == (shape[-1] if shape[-1] <= 64 else shape[-1] // 2)
    assert isinstance(net.maxpool, nn.Identity) == (shape[-1] <= 64)
    with torch.no_grad():
        assert net(torch.randn(2, *shape)).shape == (2, 6)


@pytest.mark.parametrize(("depth", "num_parameters"), [(18, 11_173_962), (34, 21_282_122), (50, 23_520_842)])
def test_resnet_depths_for_cifar10(depth, num_parameters):
    net = build(ModelConfig(name="resnet", depth=depth), (3, 32, 32), 10)
    assert sum(parameter.numel() for parameter in net.parameters()) == num_parameters


def test_the_nets_of_the_lectures():
    mlp = build(ModelConfig(name="mlp", hidden=(50,)), (3, 32, 32), 10)
    assert sum(parameter.numel() for parameter in mlp.parameters()) == 154_160
    for side, channels in [(28, 1), (32, 1), (32, 3)]:  # LeNet-5: 16 maps of 5x5 before the first FC
        lenet = build(ModelConfig(name="lenet"), (channels, side, side), 10)
        assert lenet.fc1.in_features == 16 * 5 * 5
        assert [lenet.fc1.out_features, lenet.fc2.out_features, lenet.fc3.out_features] == [120, 84, 10]


def test_convnet_follows_its_pattern():
    config = ModelConfig(name="convnet", channels=(4, 8), convs=2, hidden=(9,), activation="tanh", batch_norm=True)
    kinds = [type(layer).__name__ for layer in build(config, (1, 8, 8), 3)]
    conv = ["Conv2d", "BatchNorm2d", "Tanh"]
    assert kinds == [*conv * 2, "MaxPool2d"] * 2 + ["Flatten", "Linear", "BatchNorm1d", "Tanh", "Linear"]


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "gelu", "leaky_relu", "elu", "silu"])
def test_activation(activation):
    net = build(ModelConfig(name="mlp", activation=activation), (1, 4, 4), 2)
    x = torch.linspace(-2, 2, 50)
    assert torch.equal(net.fc_act1(x), getattr(torch.nn.functional, activation)(x))


def test_no_activation_leaves_a_product_of_matrices():
    net = build(ModelConfig(name="mlp", activation="none", hidden=(3, 5)), (1, 2, 2), 2).double()
    matrix = net.fc3.weight @ net.fc2.weight @ net.fc1.weight
    x_BCHW = torch.randn(4, 1, 2, 2, dtype=torch.float64)
    torch.testing.assert_close(net(x_BCHW) - net(0 * x_BCHW), x_BCHW.flatten(1) @ matrix.T)


@pytest.mark.parametrize(
    ("config", "shape", "message"),
    [
        (ModelConfig(name="convnet", channels=(4,) * 4), (1, 8, 8), r"model\.channels.*4 pools.*8x8.*\n.*up to 3"),
        (ModelConfig(name="convnet", channels=(4,) * 3), (1, 7, 9), r"model\.channels.*7x9.*\n.*up to 2"),
        (ModelConfig(name="lenet"), (1, 3, 8), r"model\.name.*3x8.*\n.*4x4"),
        (ModelConfig(name="vgg"), (3, 28, 28), r"model\.name = 'vgg': 5 pools.*28x28.*\n.*32x32"),
        (ModelConfig(name="convnet", channels=(4, 4), stride=2), (1, 6, 6), r"2 pools.*6x6.*\n.*up to 1 blocks"),
        (ModelConfig(name="convnet", convs=(1, 2, 3)), (1, 8, 8), r"model\.convs = \[1, 2, 3\] is of 3 blocks.*of 2"),
        (ModelConfig(name="convnet", channels=(12,), norm="group"), (1, 8, 8), r"model\.groups = 8 .* 12 channels"),
    ],
)
def test_an_image_pooled_to_nothing_is_an_error(config, shape, message):
    with pytest.raises(ConfigError, match=message):
        build(config, shape, 2)


def test_the_smallest_images_that_are_allowed():
    assert build(ModelConfig(name="convnet", channels=(4,) * 3), (1, 8, 8), 2)(torch.zeros(2, 1, 8, 8)).shape == (2, 2)
    assert build(ModelConfig(name="lenet"), (1, 4, 4), 2)(torch.zeros(2, 1, 4, 4)).shape == (2, 2)


@pytest.mark.parametrize("name", ["linear", "mlp", "lenet", "convnet", "resnet"])
def test_dropout_changes_no_name(name):
    with_dropout, without = (
        build(ModelConfig(name=name, channels=(2,), dropout=rate), (1, 8, 8), 3) for rate in (0.5, 0.0)
    )
    assert any(isinstance(layer, Dropout) for layer in with_dropout.modules())
    assert not any(isinstance(layer, Dropout) for layer in without.modules())
    assert list(with_dropout.state_dict()) == list(without.state_dict())


@pytest.mark.parametrize(
    ("config", "places"),
    [
        (ModelConfig(name="linear", dropout=0.5), ["fc_dropout1"]),
        (ModelConfig(name="mlp", hidden=(4, 4), dropout=0.5), ["fc_dropout2", "fc_dropout3"]),
        (ModelConfig(name="lenet", dropout=0.5), ["fc_dropout2", "fc_dropout3"]),
        (ModelConfig(name="convnet", hidden=(4,), dropout=0.5), ["fc_dropout2"]),
        (ModelConfig(name="resnet", dropout=0.5), ["avgpool.1"]),
    ],
)
def test_dropout_before_each_fully_connected_layer_but_the_first(config, places):
    net = build(config, (1, 8, 8), 3)
    assert [name for name, layer in net.named_modules() if isinstance(layer, Dropout)] == places


def test_building_leaves_the_random_state():
    state = torch.get_rng_state()
    build(ModelConfig(name="lenet"), (1, 8, 8), 3)
    assert torch.equal(torch.get_rng_state(), state)


def test_weights_are_what_has_two_dimensions():
    net = build(ModelConfig(name="convnet", channels=(2,), batch_norm=True, hidden=(4,)), (1, 8, 8), 3)
    assert weight_names(net) == ["conv1_1.weight", "fc1.weight", "fc2.weight"]
