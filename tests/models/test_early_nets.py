"""Nets that end after their first stages, against the same layers called by hand."""

import copy

import pytest
import torch
from plain_training import make_data
from torchvision import models

from hpsearch.config import ModelConfig
from hpsearch.errors import ConfigError
from hpsearch.models import build, build_initialized
from hpsearch.models.early_nets import EarlyNet, has_channels_last
from hpsearch.models.stages import parts_of

SHUFFLE = "torchvision:shufflenet_v2_x0_5"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "w.pt"
    torch.save(models.shufflenet_v2_x0_5().state_dict(), path)
    return str(path)


def images():
    return make_data(num_train=4, num_val=2, shape=(3, 32, 32)).x_train_NCHW


@pytest.mark.parametrize("stages", [1, 2])
def test_they_give_what_the_layers_give(weights, stages):
    config = ModelConfig(name=SHUFFLE, weights=weights, features=stages, freeze="all")
    net = build_initialized(config, (3, 32, 32), 4, seed=0).eval()
    whole = models.shufflenet_v2_x0_5()
    whole.load_state_dict(torch.load(weights))
    whole = whole.double().eval()
    x = whole.maxpool(whole.conv1(images()))
    for stage in (whole.stage2,)[: stages - 1]:
        x = stage(x)
    expected = torch.nn.functional.linear(x.mean((2, 3)), net.head.weight, net.head.bias)
    torch.testing.assert_close(net(images()), expected, rtol=1e-12, atol=1e-12)
    assert not {name.split(".")[1] for name in net.state_dict()} & {"stage3", "stage4", "conv5", "fc"}
    assert [name for name, each in net.named_parameters() if each.requires_grad] == ["head.weight", "head.bias"]
    assert parts_of(net).head == ("head.weight", "head.bias")
    torch.testing.assert_close(copy.deepcopy(net)(images()), expected, rtol=1e-12, atol=1e-12)


def test_the_head_is_as_the_study_file_says():
    net = build(ModelConfig(name=SHUFFLE, features=1, hidden=(6,)), (1, 32, 32), 4)
    assert isinstance(net, EarlyNet)
    assert net(images()[:, :1].float()).shape == (4, 4)
    assert dict(net.head.named_parameters())["fc1.weight"].shape == (6, 24)
    same = build(ModelConfig(name=SHUFFLE, features="last"), (3, 32, 32), 4)
    assert not isinstance(same, EarlyNet)


@pytest.mark.slow  # large nets
@pytest.mark.parametrize("name", ["vit_b_16", "swin_t", "densenet121", "vgg11", "convnext_tiny", "googlenet"])
def test_many_nets_end_early(name):
    config = ModelConfig(name=f"torchvision:{name}", features=2, freeze="all")
    net = build(config, (3, 64, 64), 5).eval()
    with torch.no_grad():
        assert net(torch.randn(2, 3, 64, 64)).shape == (2, 5)
    assert net.channels_last == (name == "swin_t")


def test_stages_that_are_not_there():
    with pytest.raises(ConfigError, match=r"(?s)model.features = 5: .* has 5 stages.*Allowed: last, or 1 to 4"):
        build(ModelConfig(name=SHUFFLE, features=5), (3, 32, 32), 4)
    for wrong in ("first", 0, True, 1.5):
        with pytest.raises(ValueError, match=r"allowed: last, N \(as 3\)"):
            ModelConfig(name=SHUFFLE, features=wrong)


@pytest.mark.parametrize(
    ("features", "image", "last"),
    [((1, 8, 4, 4), (3, 32, 32), False), ((1, 4, 4, 8), (3, 32, 32), True), ((1, 8, 4, 6), (3, 32, 48), False)],
)
def test_where_the_channels_are(features, image, last):
    assert has_channels_last(torch.zeros(features), image) == last
