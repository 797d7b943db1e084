"""What functions of a user's may be in data.augment: tried on a few images, and refused by name."""

import re
import sys
import types

import pytest
import torch

from hpsearch.config import StudyConfig
from hpsearch.config.augmentations import active, is_own
from hpsearch.config.usercode import UserCodeError, names_in
from hpsearch.datasets.own_augmentation import own_augmentation, refuse_unfit
from hpsearch.errors import HpsearchError
from hpsearch.training.features import may_have_features, why_not

SHAPE, CLASSES, LIKE = (3, 6, 6), 3, torch.zeros(1)
OWN = "own_augmentations"


def drawing(draws, function):
    function.draws = draws
    return function


FAULTY = {
    "by_itself": (lambda x, draws: x + torch.rand(len(x), 1, 1, 1), "gives other images each time"),
    "looks": (lambda x, draws: x if draws[0, 0] < 0.5 else x.flip(3), "looks at the numbers in its tensors"),
    "masks": (lambda x, draws: x + 0 * x[x > 0.5].sum(), "looks at the numbers in its tensors"),
    "smaller": (lambda x: x[:, :, 1:], r"returns torch.float32 of shape \[4, 3, 5, 6\] on cpu as images"),
    "forgetful": (lambda x, y, draws: x, "returns torch.float32 of shape"),
    "alone": (lambda x, draws: (x, draws), "returns tuple of 2"),
    "classes": (lambda x, y, draws: (x, y[:, :2]), r"of shape \[4, 2\] on cpu as labels"),
    "too_much": (lambda x, y, draws: (x, 2 * y), "labels whose shares are not 1 together"),
    "nothing": (lambda: 0, r"takes \(\)"),
    "endless": (lambda x, y, z, draws: x, r"takes \(x, y, z, draws\)"),
    "raises": (lambda x: x.nowhere, "AttributeError"),
    "infinite": (lambda x: x / 0, "images that are not finite"),
    "writes": (lambda x, draws: x * draws.mul_(0.5).sum(), "(writes into draws|gives other images)"),
    "few": (drawing(lambda num, generator: torch.rand(1, generator=generator), lambda x, draws: x), "for 4 images"),
    "unseeded": (drawing(lambda num, generator: torch.rand(num), lambda x, draws: x), "other numbers each time"),
}


@pytest.fixture(autouse=True)
def _trusted(monkeypatch):
    faulty = types.ModuleType("faulty")
    for name, (function, _) in FAULTY.items():
        function.__module__, function.__name__ = "faulty", name
        setattr(faulty, name, function)
    monkeypatch.setitem(sys.modules, "faulty", faulty)
    monkeypatch.setattr("hpsearch.config.usercode._trusted", {OWN, "faulty"})
    own_augmentation.cache_clear()


@pytest.mark.parametrize("name", FAULTY)
def test_what_would_not_be_the_same_everywhere_is_refused_by_name_in_a_few_lines(name):
    with pytest.raises(UserCodeError, match=FAULTY[name][1]) as raised:
        refuse_unfit(("hflip", f"faulty:{name}"), SHAPE, CLASSES, LIKE)
    said = str(raised.value)
    assert re.match(rf"faulty:{name}\b", said)
    assert "\n" in said


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_all_forms_are_tried_and_taken(dtype):
    names = ("dim", "shift", "jitter", "blend", "smear", "swapped")
    refuse_unfit(tuple(f"{OWN}:{name}" for name in names), SHAPE, CLASSES, LIKE.to(dtype))
    takes = [own_augmentation(f"{OWN}:{name}").takes_labels for name in names]
    assert takes == [False, False, False, True, True, True]


def test_labels_are_mixed_by_one_of_both():
    refuse_unfit(("mixup:0.2", f"{OWN}:shift"), SHAPE, CLASSES, LIKE)
    refuse_unfit(("mixup:0", f"{OWN}:blend"), SHAPE, CLASSES, LIKE)
    with pytest.raises(HpsearchError, match=rf"data.augment has {OWN}:blend, which takes labels, and mixup:0.2\."):
        refuse_unfit((f"{OWN}:blend", "mixup:0.2"), SHAPE, CLASSES, LIKE)
    with pytest.raises(UserCodeError, match=r"train\.loss = 'hinge'"):
        refuse_unfit((f"{OWN}:blend",), SHAPE, CLASSES, LIKE, "train.loss = 'hinge'")
    refuse_unfit((f"{OWN}:shift",), SHAPE, CLASSES, LIKE, "train.loss = 'hinge'")


def test_features_of_a_frozen_body_are_not_kept_then():
    frozen = {"model.name": "torchvision:resnet18", "model.pretrained": True, "model.freeze": "all"}
    config = StudyConfig().with_params(frozen | {"data.augment": ("hflip", f"{OWN}:blend")})
    assert not may_have_features(config)
    assert f"data.augment = {OWN}:blend changes each image anew" in (why_not(config) or "")


def test_the_names_of_kinds_are_no_modules():
    assert not is_own("autoaugment:cifar10")
    assert is_own("mine:cifar10")
    kinds = ["hflip", "crop:4", "autoaugment:cifar10", "mine:swirl"]
    assert names_in({"data": {"augment": kinds}, "space": {"data.augment": {"choice": [kinds, ["your:own"]]}}}) == {
        "mine:swirl",
        "your:own",
    }
    assert [str(each) for each in active(kinds)] == kinds
