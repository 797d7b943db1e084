"""What is said of units and gradients, against plain NumPy and autograd."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from hpsearch.models import Dropout
from hpsearch.training.gradient_norms import gradient_sizes
from hpsearch.training.unit_statistics import (
    BINS,
    MOST_UNITS,
    correlations,
    filter_correlations,
    layer_statistics,
    look_at_layers,
    share_alike,
)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def planted():
    """Six units of a ReLU over 50 images and 3 x 2 places: 0 is dead, 1 ignores the image, 2 and 3 say the same."""
    x = normal(50, 6, 3, 2).relu()
    x[:, 0] = 0
    x[:, 1] = x[:1, 1] + 1  # other numbers at other places, the same for every image
    x[:, 3] = 2 * x[:, 2]
    return x


def test_statistics_are_those_of_numpy():
    x = planted()
    found = layer_statistics("act", nn.ReLU(), x)
    flat = x.numpy()
    assert (found.name, found.num_units, found.num_dead, found.num_ignoring) == ("act", 6, 1, 1)
    assert found.mean == pytest.approx(flat.mean(), abs=1e-12)
    assert found.std == pytest.approx(flat.std(), abs=1e-12)
    assert found.zeros == (flat == 0).mean()
    assert found.at_ends is None
    counts, edges = np.histogram(flat, BINS)
    assert sum(found.counts) == flat.size
    assert np.abs(np.array(found.counts) - counts).max() <= 1  # a number on an edge, in float32
    assert (found.low, found.high) == (edges[0], edges[-1])
    units = flat.transpose(1, 0, 2, 3).reshape(6, -1)
    with np.errstate(invalid="ignore"):
        wanted = np.corrcoef(units)
    assert np.isnan(found.correlations[0]).all()
    np.testing.assert_allclose(found.correlations[1:, 1:], wanted[1:, 1:], atol=1e-6)
    assert found.share_alike == pytest.approx(1 / 10)  # of five units that vary
    np.testing.assert_array_equal(found.places, x[0].float())
    np.testing.assert_allclose(found.responses, flat.mean((2, 3)), atol=1e-6)


@pytest.mark.parametrize(("function", "low"), [(nn.Tanh(), -1.0), (nn.Sigmoid(), 0.0)])
def test_ends_are_those_of_the_activation(function, low):
    x = function(5 * normal(40, 7))
    near = 0.01 * (1 - low)
    found = layer_statistics("act", function, x)
    assert found.at_ends == ((x < low + near) | (x > 1 - near)).double().mean()
    assert 0 < found.at_ends < 1
    assert found.num_dead is None  # they come back


def test_a_unit_that_only_rounding_moves_ignores_the_image():
    x = torch.full((30, 3), 1e3) + torch.rand(30, 3, generator=torch.Generator().manual_seed(0)) * 1e-4
    assert layer_statistics("act", nn.GELU(), x).num_ignoring == 3
    assert layer_statistics("act", nn.GELU(), torch.zeros(30, 3)).num_ignoring == 3
    assert layer_statistics("act", nn.ReLU(), torch.zeros(30, 3)).num_ignoring == 0  # they are dead


def test_of_many_units_some_are_correlated():
    found = layer_statistics("act", nn.ReLU(), normal(300, 1000))
    assert found.num_units == 1000
    assert len(found.correlations) <= MOST_UNITS
    assert max(found.responses.shape) <= MOST_UNITS


def test_rows_of_a_transformer_are_places():
    x = normal(20, 5, 4)  # images, tokens, units
    found = layer_statistics("act", nn.GELU(), x)
    assert found.num_units == 4
    np.testing.assert_allclose(found.responses, x.mean(1), atol=1e-6)


def test_filters_are_compared_by_their_weights():
    weight = normal(5, 3, 2, 2)
    weight[4] = -weight[0] * 3
    found = filter_correlations(weight)
    np.testing.assert_allclose(found, np.corrcoef(weight.flatten(1).numpy()), atol=1e-12)
    assert share_alike(found.numpy()) == pytest.approx(1 / 10)
    assert share_alike(correlations(torch.ones(3, 4)).numpy()) == 0


class Twice(nn.Module):
    """One module called twice, and one that works in place behind it, as in a ResNet."""

    def __init__(self):
        super().__init__()
        self.first, self.act, self.last = nn.Linear(4, 6), nn.ReLU(inplace=True), nn.Linear(6, 3)

    def forward(self, x):
        return self.last(self.act(self.act(self.first(x)) - 0.5))


def test_each_call_of_an_activation_is_a_layer():
    net, x = Twice().double().eval(), normal(20, 4)
    one, two = look_at_layers(net, x)
    assert (one.name, two.name) == ("act", "act#2")
    once = net.first(x).relu()
    assert one.mean == pytest.approx(once.mean().item(), abs=1e-12)
    assert two.mean == pytest.approx((once - 0.5).relu().mean().item(), abs=1e-12)


def test_of_a_net_with_activations_in_functions_the_layers_are_seen():
    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = nn.Conv2d(1, 4, 3), nn.Linear(16, 3)

        def forward(self, x):
            return self.last(torch.relu(self.first(x)).flatten(1))

    net, x = Plain().double().eval(), normal(20, 1, 4, 4)
    [found] = look_at_layers(net, x)
    assert (found.name, found.num_dead) == ("first", None)
    assert found.mean == pytest.approx(net.first(x).mean().item(), abs=1e-12)
    assert look_at_layers(nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).double(), x) == []


def test_gradients_are_those_of_a_step_without_dropout():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), Dropout(0.3), nn.Linear(12, 4)
    ).double()  # fmt: skip
    net[0].bias.requires_grad_(False)
    x, y = normal(9, 1, 4, 4), torch.arange(9) % 4
    plain = copy.deepcopy(net).train()
    plain[3], plain[5] = nn.Identity(), nn.Identity()
    nn.CrossEntropyLoss()(plain(x), y).backward()
    found = gradient_sizes(net, x, y)
    assert list(found) == ["0", "6"]
    for name, size in found.items():
        gradient = plain[int(name)].weight.grad
        assert size == pytest.approx(gradient.square().mean().sqrt().item(), rel=1e-12)
    assert all(parameter.grad is None for parameter in net.parameters())
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    assert gradient_sizes(net, x, y) == {}


def test_who_is_dead_is_said_by_whom_it_is_known():
    x = planted()
    silent = [0.0, 1.0, 0.5, 1.0, 0.99, 0.0]  # of other images
    found = layer_statistics("act", nn.ReLU(), x, silent)
    assert (found.num_dead, found.num_ignoring) == (2, 1)  # 0 says the same of these images and is not dead
    assert layer_statistics("act", nn.ReLU(), x, silent[:5]).num_dead == 1  # they are of another layer
    assert layer_statistics("act", nn.GELU(), x, silent).num_dead is None
    net, images = Twice().double().eval(), normal(20, 4)
    kept = {"act": [1.0] * 6, "act#2": [0.0] * 6}
    assert [layer.num_dead for layer in look_at_layers(net, images, kept)] == [6, 0]
