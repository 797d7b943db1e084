"""Nets of torchvision and timm: any of them by name, with a head for the classes, for images of any channels."""

import math
import warnings

import pytest
import torch
from torchvision import models

from hpsearch.config import ModelConfig
from hpsearch.config.library_recipes import recipe
from hpsearch.config.usercode import is_user_code
from hpsearch.errors import ConfigError, MissingExtraError
from hpsearch.models import build, build_initialized
from hpsearch.models.library_nets import Head
from hpsearch.models.stages import head_names, parts_of

ALL = models.list_models(module=models)
SMALL = [  # one of each family; without numbers, which would take a minute
    "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "googlenet", "inception_v3", "maxvit_t",
    "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "resnet18", "resnext50_32x4d", "shufflenet_v2_x0_5",
    "squeezenet1_0", "swin_t", "vgg11", "vit_b_16", "wide_resnet50_2",
]  # fmt: skip


def model(name, **values):
    return ModelConfig(name=f"torchvision:{name}", **values)


def check(name):
    size = recipe(f"torchvision:{name}").size
    with torch.device("meta"):  # shapes without numbers
        net = build(model(name), (3, size, size), 7)
        logits = net.train()(torch.zeros(2, 3, size, size))
    assert logits.shape == (2, 7)
    parts = parts_of(net)
    assert sorted([*parts.head, *(n for s in parts.stages for n in s.parameters)]) == sorted(
        name for name, _ in net.named_parameters()
    )
    assert len(parts.stages) >= 4
    assert all(isinstance(net.get_submodule(head), Head) for head in head_names(net))


@pytest.mark.parametrize("name", SMALL)
def test_a_net_of_each_family_gets_a_head_and_has_stages(name):
    check(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ALL if name not in SMALL and not name.startswith("regnet")])
def test_all_others_do_too(name):
    check(name)


def test_a_regnet_is_no_exception():
    net = build(model("regnet_x_400mf"), (3, 32, 32), 7).eval()
    assert net(torch.zeros(1, 3, 32, 32)).shape == (1, 7)
    assert [stage.modules[0] for stage in parts_of(net).stages] == [
        "stem",
        *(f"trunk_output.block{n}" for n in (1, 2, 3, 4)),
    ]


def test_a_name_is_no_code_and_the_nearest_is_named():
    assert not is_user_code("torchvision:resnet18")
    with pytest.raises(
        ConfigError, match=r"torchvision:resnet81' is not a net of torchvision\.\nNearest: torchvision:resn"
    ):
        build(model("resnet81"), (3, 32, 32), 3)


def test_its_own_size_is_all_that_a_vision_transformer_takes():
    with pytest.raises(ConfigError, match=r"takes no images of 30x30: .*\nAllowed: the sizes of that net"):
        build(model("vit_b_32"), (3, 30, 30), 3)


def test_the_first_filters_are_summed_for_gray_images():
    color, gray = (build(model("resnet18"), (c, 32, 32), 4).double() for c in (3, 1))
    torch.testing.assert_close(gray.conv1.weight, color.conv1.weight.sum(1, keepdim=True), rtol=1e-6, atol=1e-6)
    five = build(model("resnet18"), (5, 32, 32), 4).double()
    torch.testing.assert_close(five.conv1.weight[:, 3], color.conv1.weight[:, 0] * 3 / 5, rtol=1e-6, atol=1e-6)
    x = torch.randn(2, 1, 32, 32, dtype=torch.float64)
    gray.fc.load_state_dict(color.fc.state_dict())
    torch.testing.assert_close(gray.eval()(x), color.eval()(x.repeat(1, 3, 1, 1)), rtol=1e-5, atol=1e-5)


def test_a_fresh_head_knows_nothing_and_is_drawn_from_the_seed():
    config = model("squeezenet1_1")
    net, same, other = (build_initialized(config, (3, 32, 32), 10, seed) for seed in (3, 3, 4))
    head = net.classifier.get_submodule("1")
    assert torch.equal(head.weight, same.classifier.get_submodule("1").weight)
    assert not torch.equal(head.weight, other.classifier.get_submodule("1").weight)
    assert head.weight.std().item() == pytest.approx(0.01, rel=0.1)
    logits = net.eval()(torch.randn(8, 3, 32, 32, dtype=torch.float64))
    loss = torch.nn.functional.cross_entropy(logits, torch.arange(8))
    assert loss.item() == pytest.approx(math.log(10), abs=0.1)
    assert (logits < 0).any()


def test_a_head_may_have_hidden_layers_and_dropout():
    net = build(model("resnet18", hidden=[6, 5], dropout=0.2), (3, 32, 32), 4)
    assert [name for name, _ in net.fc.named_children()] == [
        "flatten", "fc1", "fc_act1", "fc_dropout2", "fc2", "fc_act2", "fc_dropout3", "fc3",
    ]  # fmt: skip
    plain, dropping = (build(model("resnet18", dropout=rate), (3, 32, 32), 4) for rate in (0.0, 0.3))
    assert plain.state_dict().keys() == dropping.state_dict().keys() == models.resnet18().state_dict().keys()


@pytest.mark.parametrize(
    ("freeze", "trained"), [("all", ["fc"]), (1, ["layer4", "fc"]), (2, ["layer3", "layer4", "fc"])]
)
def test_what_is_frozen_needs_no_gradient_and_keeps_its_statistics(freeze, trained):
    net = build(model("resnet18", freeze=freeze), (3, 32, 32), 4).train()
    assert {n.partition(".")[0] for n, p in net.named_parameters() if p.requires_grad} == {*trained}
    before = {name: buffer.clone() for name, buffer in net.named_buffers()}
    net(torch.randn(4, 3, 32, 32))
    changed = {n.partition(".")[0] for n, buffer in net.named_buffers() if not torch.equal(buffer, before[n])}
    assert changed == {*trained} - {"fc"}


def test_a_frozen_body_drops_nothing():
    net = build(model("mobilenet_v3_small", freeze="all"), (3, 32, 32), 4).train()
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(net(x), net(x))


def test_more_stages_than_there_are_cannot_train():
    with pytest.raises(ConfigError, match=r"model\.freeze = 9 lets more .*\nAllowed: none, all, or 1 to 5\."):
        build(model("resnet18", freeze=9), (3, 32, 32), 4)


def test_without_timm_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(MissingExtraError, match=r'pip install "hpsearch\[timm\]"'):
        build(ModelConfig(name="timm:resnet18"), (3, 32, 32), 4)


@pytest.mark.parametrize(
    "name", ["resnet18", "vit_tiny_patch16_224", "efficientnet_b0", "convnext_atto", "deit_tiny_distilled_patch16_224"]
)
def test_nets_of_timm_have_heads_and_stages_too(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own imports
        pytest.importorskip("timm", reason="timm is not installed: pip install 'hpsearch[timm]'")
        net = build(ModelConfig(name=f"timm:{name}", freeze=1), (1, 64, 64), 4)
    assert net.eval()(torch.randn(2, 1, 64, 64)).shape == (2, 4)
    assert len(parts_of(net).stages) >= 4
    assert any(not p.requires_grad for p in net.parameters())
    with pytest.raises(ConfigError, match="is not a net of timm"):
        build(ModelConfig(name="timm:resnet81"), (3, 64, 64), 4)
