"""Nets are what their keys say: the same numbers as PyTorch's and torchvision's modules with the same weights."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.func import functional_call, vmap

from hpsearch.config import ModelConfig
from hpsearch.models import NOISY, Dropout, build, build_initialized, net_size
from hpsearch.models.layers import DropConnect, StochasticDepth

X = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def convnet(**keys):
    return build(ModelConfig(name="convnet", **{"channels": (8, 16), **keys}), (3, 32, 32), 5)


def kinds(net):
    return [type(layer).__name__ for layer in net]


def assert_same(net, other, x=X):
    """Outputs and gradients, with the same weights in the same order."""
    other.load_state_dict(dict(zip(other.state_dict(), net.state_dict().values(), strict=True)))
    for each in (net, other):
        each.train().zero_grad()
        each(x).square().sum().backward()
    torch.testing.assert_close(net(x), other(x))
    for own, theirs in zip(net.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(own.grad, theirs.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("norm", "of_channels", "of_units", "bias"),
    [
        ("batch", nn.BatchNorm2d(8), [nn.BatchNorm1d(6)], False),
        ("layer", nn.GroupNorm(1, 8), [nn.LayerNorm(6)], True),
        ("instance", nn.InstanceNorm2d(8, affine=True), [], False),
        ("group", nn.GroupNorm(4, 8), [], True),
    ],
)
def test_a_convnet_with_each_normalization(norm, of_channels, of_units, bias):
    net = convnet(channels=(8,), hidden=(6,), norm=norm, groups=4, activation="elu")
    conv = nn.Conv2d(3, 8, 3, padding=1, bias=bias)
    first = nn.Linear(8 * 16 * 16, 6, bias=bias or not of_units)
    head = [nn.Flatten(), first, *of_units, nn.ELU(), nn.Linear(6, 5)]
    assert_same(net, nn.Sequential(conv, of_channels, nn.ELU(), nn.MaxPool2d(2), *head))


def test_layer_normalization_of_channels_is_over_a_whole_image():
    net = convnet(channels=(8,), norm="layer")
    out = net[:2](X)
    torch.testing.assert_close(out, nn.functional.layer_norm(net[0](X), (8, 32, 32)))


def test_an_mlp_with_layer_normalization():
    net = build(ModelConfig(hidden=(7, 6), norm="layer"), (3, 32, 32), 5)
    units = [nn.Linear(3072, 7), nn.LayerNorm(7), nn.ReLU(), nn.Linear(7, 6), nn.LayerNorm(6), nn.ReLU()]
    assert_same(net, nn.Sequential(nn.Flatten(), *units, nn.Linear(6, 5)))


def test_true_is_the_normalization_of_batches():
    for name in ("mlp", "convnet"):
        old, new = (
            build(ModelConfig(name=name, **keys), (3, 32, 32), 5) for keys in ({"batch_norm": True}, {"norm": "batch"})
        )
        assert str(old) == str(new)


def test_an_all_convolutional_net_of_lists():
    net = convnet(convs=(2, 1), kernel=(5, 1), stride=(2, 3), pool="none", hidden=(), activation="silu")
    first = [nn.Conv2d(3, 8, 5, padding=2), nn.SiLU(), nn.Conv2d(8, 8, 5, 2, padding=2), nn.SiLU()]
    second = [nn.Conv2d(8, 16, 1, 3), nn.SiLU()]
    assert_same(net, nn.Sequential(*first, *second, nn.Flatten(), nn.Linear(16 * 6 * 6, 5)))


def test_convolutions_in_factors():
    """Each of 5 x 5 is one of 5 x 1 and one of 1 x 5, those of 1 x 1 stay; a third of the multiplications or so."""
    net = convnet(convs=(2, 1), kernel=(5, 1), stride=(2, 1), pool="none", hidden=(), norm="batch", factor=True)
    first = []
    for inputs, step in ((3, 1), (8, 2)):
        first += [nn.Conv2d(inputs, 8, (5, 1), (step, 1), (2, 0), bias=False), nn.BatchNorm2d(8), nn.ReLU()]
        first += [nn.Conv2d(8, 8, (1, 5), (1, step), (0, 2), bias=False), nn.BatchNorm2d(8), nn.ReLU()]
    last = [nn.Conv2d(8, 16, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 16 * 16, 5)]
    assert_same(net, nn.Sequential(*first, *last))
    assert [name for name, _ in net.named_children()][:4] == [
        "conv1_1_down",
        "norm1_1_down",
        "act1_1_down",
        "conv1_1_across",
    ]
    size = net_size(convnet(channels=(8,), hidden=(), factor=True), (3, 32, 32))
    head = 8 * 16 * 16 * 5
    assert size.parameters == (3 * 3 * 8 + 8) + (3 * 8 * 8 + 8) + head + 5
    assert size.multiply_adds == 32 * 32 * (3 * 3 * 8 + 3 * 8 * 8) + head


@pytest.mark.parametrize(("pool", "layer"), [("max", nn.MaxPool2d), (True, nn.MaxPool2d), ("average", nn.AvgPool2d)])
def test_pools(pool, layer):
    net = convnet(channels=(8,), hidden=(), pool=pool)
    assert_same(
        net, nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), layer(2), nn.Flatten(), nn.Linear(2048, 5))
    )
    assert kinds(convnet(pool="none")) == kinds(convnet(pool=False))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("depth", "norm", "parameters"),
    [(11, "none", 132_863_336), (13, "batch", 133_047_848), (16, "none", 138_357_544), (19, "batch", 143_667_240)],
)
def test_vgg_is_torchvisions(depth, norm, parameters):
    import torchvision

    theirs = getattr(torchvision.models, f"vgg{depth}{'_bn' * (norm == 'batch')}")
    config = ModelConfig(name="vgg", depth=depth, norm=norm, hidden=(4096, 4096))
    with torch.device("meta"):
        ours = build(config.model_copy(update={"norm": "none"}), (3, 224, 224), 1000)
        assert sum(p.numel() for p in ours.parameters()) == parameters
    body = build(config.model_copy(update={"hidden": ()}), (3, 32, 32), 10)[:-2]
    features = theirs(num_classes=1).features
    if norm == "batch":  # theirs have biases before normalizations
        for layer in features:
            if isinstance(layer, nn.Conv2d):
                layer.bias = None
    features.load_state_dict(dict(zip(features.state_dict(), body.state_dict().values(), strict=True)))
    torch.testing.assert_close(body.train()(X), features.train()(X))


@pytest.mark.parametrize(  # blocks of either kind, and all normalizations
    ("depth", "norm"), [*((18, norm) for norm in ("none", "batch", "layer", "group")), (50, "batch")]
)
def test_a_resnet_is_torchvisions(depth, norm):
    import torchvision

    layers = {
        "none": nn.Identity,
        "batch": nn.BatchNorm2d,
        "layer": partial(nn.GroupNorm, 1),
        "group": partial(nn.GroupNorm, 16),
    }
    theirs = getattr(torchvision.models, f"resnet{depth}")(num_classes=5, norm_layer=layers[norm])
    net = build(ModelConfig(name="resnet", depth=depth, norm=norm, groups=16), (3, 96, 96), 5)
    assert list(net.state_dict()) == list(theirs.state_dict())
    theirs.load_state_dict(net.state_dict())
    x = torch.randn(2, 3, 96, 96)
    assert torch.equal(net.train()(x), theirs.train()(x))


@pytest.mark.parametrize(
    ("depth", "parameters"),
    [(101, 44_549_160), (152, 60_192_808)],  # as torchvision has them
)
def test_deep_resnets(depth, parameters):
    with torch.device("meta"):
        net = build(ModelConfig(name="resnet", depth=depth), (3, 224, 224), 1000)
    assert sum(p.numel() for p in net.parameters()) == parameters


@pytest.mark.parametrize(
    ("depth", "parameters"),  # 0.27, 0.46, 0.66 and 0.85 million in He et al. 2015, table 6
    [(8, 75_290), (14, 172_506), (20, 269_722), (32, 464_154), (44, 658_586), (56, 853_018)],
)
def test_small_resnets_are_those_of_the_paper(depth, parameters):
    net = build(ModelConfig(name="resnet", depth=depth), (3, 32, 32), 10)
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert sum(isinstance(layer, nn.Conv2d) for layer in net.modules()) == depth - 1
    maps = [net.layer1(net.relu(net.bn1(net.conv1(X))))]
    maps += [net.layer2(maps[0])]
    maps += [net.layer3(maps[1])]
    assert [tuple(each.shape[1:]) for each in maps] == [(16, 32, 32), (32, 16, 16), (64, 8, 8)]
    assert torch.equal(net.fc(maps[2].mean((2, 3))), net(X))
    shortcut = net.layer2[0].downsample(maps[0])
    assert torch.equal(shortcut[:, 8:24], maps[0][:, :, ::2, ::2])
    assert not shortcut[:, :8].any()
    assert not shortcut[:, 24:].any()


@pytest.mark.parametrize(
    ("config", "places"),
    [
        ({"dropout_at": "fc"}, ["fc_dropout2"]),
        ({"dropout_at": "blocks"}, ["dropout1", "dropout2"]),
        ({"dropout_at": "all"}, ["dropout1", "dropout2", "fc_dropout2"]),
    ],
)
def test_dropout_in_its_places(config, places):
    net = convnet(dropout=0.5, hidden=(4,), **config)
    assert [name for name, layer in net.named_children() if isinstance(layer, Dropout)] == places


def test_weights_are_dropped_where_units_would_be():
    for config, layers in (
        (ModelConfig(name="linear"), ["fc1"]),
        (ModelConfig(hidden=(4, 4)), ["fc2", "fc3"]),
        (ModelConfig(name="lenet"), ["fc2", "fc3"]),
        (ModelConfig(name="resnet", depth=8), ["fc"]),
    ):
        noisy, plain = (build(config.model_copy(update={"dropconnect": r}), (1, 8, 8), 3) for r in (0.5, 0.0))
        assert [name for name, layer in noisy.named_modules() if isinstance(layer, DropConnect)] == layers
        assert list(noisy.state_dict()) == list(plain.state_dict())


def test_dropped_weights_are_a_share_and_the_others_larger():
    layer = DropConnect(300, 200, bias=True, rate=0.3).double()
    x = torch.eye(300, dtype=torch.float64)
    factors = (layer(x) - layer.bias) / layer.weight.T
    assert sorted({round(f, 9) for f in factors.flatten().tolist()}) == [0.0, round(1 / 0.7, 9)]
    assert (factors == 0).double().mean().item() == pytest.approx(0.3, abs=0.01)
    assert torch.equal(layer.eval()(x), nn.functional.linear(x, layer.weight, layer.bias))


def test_branches_are_left_out_by_image_and_more_often_towards_the_classes():
    net = build(ModelConfig(name="resnet", depth=20, stochastic_depth=0.6), (3, 8, 8), 4)
    rates = [layer.rate.item() for layer in net.modules() if isinstance(layer, StochasticDepth)]
    assert rates == pytest.approx([0.6 * block / 9 for block in range(1, 10)])
    assert list(net.state_dict()) == list(build(ModelConfig(name="resnet", depth=20), (3, 8, 8), 4).state_dict())
    layer = StochasticDepth(0.5, 0.5)
    x = torch.rand(2000, 2, 3, 3) + 1
    kept = layer(x) / x
    assert kept.flatten(1).std(1).max() < 1e-6  # an image's numbers go together
    assert (kept == 0).float().mean().item() == pytest.approx(0.25, abs=0.04)
    assert layer.eval()(x) is x


@pytest.mark.parametrize("layer", [DropConnect(5, 4, bias=True, rate=0.0), StochasticDepth(0.5, 1.0)], ids=str)
def test_a_rate_per_trial_and_the_same_noise_under_vmap(layer):
    rates, x = (
        torch.tensor([0.2, 0.7]),
        torch.ones(3, 5, 1, 1) if isinstance(layer, StochasticDepth) else torch.ones(3, 5),
    )

    def forward(rate):
        return functional_call(layer, {"rate": rate}, (x,))

    torch.manual_seed(0)
    together = vmap(forward, randomness="same")(rates)
    for rate, y in zip(rates, together, strict=True):
        torch.manual_seed(0)
        torch.testing.assert_close(forward(rate), y)


def test_fixup_begins_as_nets_of_shortcuts():
    net = build_initialized(ModelConfig(name="resnet", depth=14, norm="none", init="fixup"), (3, 32, 32), 5, 0)
    blocks = [block for stage in (net.layer1, net.layer2, net.layer3) for block in stage]
    assert not any(block.conv2.weight.any() for block in blocks)
    assert not net.fc.weight.any()
    assert all(block.scale.item() == 1 for block in blocks)
    he = build_initialized(ModelConfig(name="resnet", depth=14, norm="none"), (3, 32, 32), 5, 0)
    torch.testing.assert_close(blocks[0].conv1.weight, he.layer1[0].conv1.weight * 6**-0.5)
    assert torch.equal(net.conv1.weight, he.conv1.weight)
    assert not net(X.double()).any()
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in net.modules())
    for block in blocks:  # scalars around each convolution and activation, after Zhang et al.'s own code
        nn.init.normal_(block.conv2.weight, std=0.1)
        for scalar in block.parameters():
            if scalar.shape == (1,):
                nn.init.normal_(scalar)
        x = torch.randn(2, block.conv1.in_channels, 8, 8, dtype=torch.float64)
        out = block.conv2(torch.relu(block.conv1(x + block.before1) + block.after1) + block.before2)
        shortcut = x + block.before1 if block.downsample is None else block.downsample(x + block.before1)
        torch.testing.assert_close(block(x), torch.relu(out * block.scale + block.after2 + shortcut))


@pytest.mark.slow
@pytest.mark.parametrize("keys", [{"depth": 50}, {"depth": 8, "stochastic_depth": 0.4, "dropout": 0.2}])
def test_fixup_for_any_depth(keys):
    net = build_initialized(ModelConfig(name="resnet", norm="none", init="fixup", **keys), (3, 32, 32), 5, 0).float()
    assert net(X[:2]).shape == (2, 5)
    assert [name for name, layer in net.named_modules() if type(layer) is Dropout] == ["avgpool.2"] * (
        "dropout" in keys
    )
    assert any(isinstance(layer, NOISY) for layer in net.modules()) == ("dropout" in keys)
