import subprocess
import sys

import pytest
import torch
from torch import nn

from hpsearch.config import ModelConfig
from hpsearch.models import build, net_size, num_multiplications

# 5x5 convolutions of 3 -> 6 channels at 28x28 positions and of 6 -> 16 at 10x10, then 400-120-84-10.
LENET = 28 * 28 * 6 * 3 * 25 + 10 * 10 * 16 * 6 * 25 + 400 * 120 + 120 * 84 + 84 * 10


def num_parameters(net):
    return sum(parameter.numel() for parameter in net.parameters())


def with_head(*layers, num_features):
    """A net whose layers come before 10 classes, without a bias."""
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(num_features, 10, bias=False))


@pytest.mark.parametrize(
    ("net", "shape", "expected"),
    [
        # 3072-50-10: one multiplication per weight is less than one per parameter
        (build(ModelConfig(hidden=(50,)), (3, 32, 32), 10), (3, 32, 32), 154_160),
        (build(ModelConfig(name="lenet"), (3, 32, 32), 10), (3, 32, 32), LENET),
        # 3x3, 4 -> 8 channels in 2 groups, stride 2: 4x4 positions
        (
            with_head(nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=2), num_features=16 * 8),
            (4, 8, 8),
            16 * 9 * 2 * 8 + 16 * 8 * 10,
        ),
        # 2x2, 3 -> 5 channels, from 4x4 positions to 8x8
        (
            with_head(nn.ConvTranspose2d(3, 5, 2, stride=2), num_features=64 * 5),
            (3, 4, 4),
            16 * 4 * 3 * 5 + 64 * 5 * 10,
        ),
        # one weight at each of 3 * 8 rows of an image
        (with_head(nn.Linear(8, 6), num_features=3 * 8 * 6), (3, 8, 8), 3 * 8 * 8 * 6 + 3 * 8 * 6 * 10),
    ],
    ids=["mlp", "lenet", "groups", "transposed", "rows"],
)
def test_each_weight_counts_as_often_as_it_is_used(net, shape, expected):
    assert num_multiplications(net, shape) == expected


def test_a_resnet_on_small_images_is_that_of_the_paper():
    net = build(ModelConfig(name="resnet", depth=18), (3, 32, 32), 10)
    assert num_multiplications(net, (3, 32, 32)) == 555_422_720  # 0.56 GMAC, as everywhere in the literature


@pytest.mark.parametrize(
    ("config", "shape", "classes", "parameters", "multiply_adds"),
    [
        (ModelConfig(name="lenet"), (1, 32, 32), 10, 61_706, 28 * 28 * 6 * 25 + LENET - 28 * 28 * 6 * 3 * 25),
        # 138 million and 15.5 billion, 11.7 million and 1.8 billion: as everybody counts them, images of 224 pixels
        (ModelConfig(name="vgg", hidden=(4096, 4096)), (3, 224, 224), 1000, 138_357_544, 15_470_264_320),
        (ModelConfig(name="resnet"), (3, 224, 224), 1000, 11_689_512, 1_814_073_344),
        (ModelConfig(name="resnet", depth=20), (3, 32, 32), 10, 269_722, 40_551_040),
        (ModelConfig(hidden=(50,)), (3, 32, 32), 10, 154_160, 3072 * 50 + 50 * 10),
    ],
)
def test_the_size_of_known_nets(config, shape, classes, parameters, multiply_adds):
    with torch.device("meta"):  # without weights, of which VGG-16 has 0.5 GB
        size = net_size(build(config, shape, classes), shape)
    assert size == (parameters, multiply_adds)
    assert str(size) == f"{parameters:,} parameters, {multiply_adds:,} multiply-adds an image"


def test_of_a_net_that_fails_the_parameters_are_counted():
    assert str(net_size(Fails(48, 10), (3, 4, 4))) == "490 parameters"


class Functions(nn.Module):
    """16 pixels of 3 channels, mixed by a matrix at each pixel, then by one over all; no layer does it."""

    def __init__(self):
        super().__init__()
        self.mix, self.out = nn.Parameter(torch.randn(3, 7)), nn.Parameter(torch.randn(16 * 7, 10))

    def forward(self, x_BCHW):
        mixed = x_BCHW.flatten(2).transpose(1, 2) @ self.mix
        return torch.einsum("bi,ik->bk", mixed.flatten(1), self.out)


class Scales(nn.Module):
    """Parameters that no product of matrices uses."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(48, 10))

    def forward(self, x_BCHW):
        return (x_BCHW.flatten(1)[:, :, None] * self.scale).sum(1)


class Fails(nn.Linear):
    def forward(self, x_BCHW):
        raise RuntimeError("not today")


@pytest.mark.parametrize(
    ("net", "expected"),
    [(Functions(), 16 * 3 * 7 + 16 * 7 * 10), (Scales(), 480), (Fails(48, 10), 490), (nn.Flatten(), 0)],
    ids=["functions", "scales", "fails", "nothing"],
)
def test_what_is_no_layer_counts_too_and_each_parameter_at_least_once(net, expected):
    assert num_multiplications(net, (3, 4, 4)) == expected


def test_an_attention_is_counted_at_each_place():
    places, width, inner = 3, 16, 32
    layer = nn.TransformerEncoderLayer(width, 4, inner, batch_first=True)
    net = with_head(nn.Flatten(2), layer, num_features=places * width)
    in_and_out = places * (4 * width * width + 2 * width * inner)
    assert num_multiplications(net, (places, 4, 4)) >= in_and_out + places * width * 10


class Noisy(nn.Module):
    """Counts its passes in a buffer, and draws, whatever its mode."""

    def __init__(self):
        super().__init__()
        self.register_buffer("passes", torch.zeros(()))
        self.norm, self.out = nn.BatchNorm2d(3), nn.Linear(48, 10)

    def forward(self, x_BCHW):
        self.passes += 1
        return self.out(self.norm(x_BCHW + torch.randn_like(x_BCHW)).flatten(1))


def test_net_and_random_state_stay_as_they_are():
    net = Noisy().double()
    net.train()
    net.norm.eval()
    before = {name: number.clone() for name, number in net.state_dict().items()}
    chance = torch.get_rng_state()
    assert num_multiplications(net, (3, 4, 4)) == num_parameters(net)
    assert {module.training for module in (net, net.out)} == {True}
    assert not net.norm.training
    assert torch.equal(torch.get_rng_state(), chance)
    assert all(torch.equal(number, before[name]) for name, number in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())
    assert torch.is_grad_enabled()


@pytest.mark.slow
def test_counting_imports_nothing():
    """torch._dynamo alone, which PyTorch has for much that is done in Python, takes most of a second."""
    code = (
        "import sys, torch, hpsearch.models as models; from hpsearch.config import ModelConfig\n"
        "net = models.build(ModelConfig(name='lenet'), (3, 32, 32), 10)\n"
        "before = set(sys.modules)\n"
        "models.num_multiplications(net, (3, 32, 32))\n"
        "print(sorted(set(sys.modules) - before))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
