"""Augmented images, and mixed labels, in every engine: what an ordinary loop over the same batches gives."""

import dataclasses

import pytest
import torch
from plain_training import dealt, make_config, make_data, trained

from hpsearch.datasets.mixing import MixedLabels
from hpsearch.results import TrialSpec
from hpsearch.search.checks.learning_rate import FirstBatches
from hpsearch.training import Pack
from hpsearch.training.choice import ENGINES
from hpsearch.training.data_loss import DataLoss
from hpsearch.training.images import images_key

KINDS = (
    "hflip", "vflip", "crop:1", "scale:0.5", "translate:0.2", "rotate:20", "brightness:0.3", "contrast:0.3",
    "saturation:0.3", "hue:0.2", "pca:0.1", "noise:0.1", "elastic:0.5", "cutout:3", "gridmask:1", "cutmix:1",
    "autoaugment:svhn", "randaugment:1,9", "trivialaugment",
)  # fmt: skip
TRIALS = [
    {},
    {"train.label_smoothing": 0.2, "reg": 0.01},
    {"train.focal": 2.0, "lr": 1e-4},
    {"lr": 1e200},  # leaves after its first step
    {"train.focal": 0.5, "train.label_smoothing": 0.1, "lr": 1e-4},
]
NETS = {"mlp": {"model__hidden": (6,), "model__dropout": 0.2}, "lenet": {"model__name": "lenet"}}


def augmented(kinds, **images):
    return dataclasses.replace(make_data(**images), augment=kinds)


def expect_as_plain(pack, config, data, number, params):
    plain = trained(config.with_params(params), data)
    for name, tensor in pack.state(number, "last").items():
        torch.testing.assert_close(tensor, plain.state()[name], rtol=1e-9, atol=1e-9, msg=name)
    return plain


@pytest.mark.parametrize(
    ("engine", "case"),
    dealt(
        [
            ("mlp", "balanced", "cross-entropy"),
            ("lenet", "none", "cross-entropy"),
            ("mlp", "balanced", "hinge"),
            ("mlp", "none", "squared"),
        ]
    ),
)
def test_a_pack_with_mixup_is_a_plain_loop(engine, case):
    net, class_weights, loss = case
    data = augmented(("hflip", "mixup:0.4"), num_train=45)  # the last batch is smaller
    config = make_config(epochs=3, train__class_weights=class_weights, train__loss=loss, **NETS[net])
    if loss == "squared":  # costs of a few images at large scores are too uneven to tell an explosion by
        config = config.with_params({"model.init": "small:0.1", "lr": 1e-3})
    pack = Pack(config, data, [TrialSpec(n, params) for n, params in enumerate(TRIALS)], engine=engine)
    reports = []
    while not pack.done:
        reports.append(pack.run_epoch())
        if len(reports) == 1:
            assert [explosion.number for explosion in reports[0].explosions] == [3]
            pack.drop([1])
    for number in (0, 2, 4):
        plain = expect_as_plain(pack, config, data, number, TRIALS[number])
        result = next(result for result in reports[-1].results if result.number == number)
        assert list(dataclasses.astuple(result)[2:9]) == pytest.approx(plain.epochs[-1], rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("engine", ENGINES)
def test_all_kinds_after_each_other_are_a_plain_loop_over_the_same_batches(engine):
    data = augmented(KINDS, num_train=30, shape=(3, 8, 8))
    config = make_config(epochs=2, model__name="linear")
    pack = Pack(config, data, [TrialSpec(0, {"lr": 1e-3}), TrialSpec(1, {"lr": 1e-3, "reg": 0.1})], engine=engine)
    while not pack.done:
        pack.run_epoch()
    expect_as_plain(pack, config, data, 1, {"lr": 1e-3, "reg": 0.1})


@pytest.mark.parametrize("engine", ENGINES)
def test_trials_go_on_from_a_snapshot_as_if_they_had_never_stopped(engine):
    data = augmented(("rotate:20", "cutmix:1"))
    config = make_config(epochs=4, model__hidden=(5,))
    specs = [TrialSpec(0, {}), TrialSpec(1, {"train.focal": 1.0})]
    whole, first = (Pack(config, data, specs, engine=engine) for _ in range(2))
    for _ in range(2):
        first.run_epoch()
    again = Pack(config, data, specs, engine=engine, snapshots={n: first.snapshot(n) for n in (0, 1)})
    while not again.done:
        again.run_epoch()
    while not whole.done:
        whole.run_epoch()
    for number in (0, 1):
        for name, tensor in again.state(number, "last").items():
            assert torch.equal(tensor, whole.state(number, "last")[name])


def test_trials_that_come_later_see_the_images_of_their_own_epochs(rehearsed):
    data = augmented(("crop:1", "mixup:1"), num_train=24)
    config = make_config(epochs=2, model__hidden=(5,))
    pack = Pack(config, data, [TrialSpec(0, {}), TrialSpec(1, {})], engine="graph", refills=True)
    pack.run_epoch()
    pack.drop([1])
    pack.admit([TrialSpec(2, {"lr": 3e-3})])
    states = {}
    while not pack.done:
        states |= {result.number: pack.state(result.number, "last") for result in pack.run_epoch().results}
        pack.drop([number for number in pack.numbers if pack.epochs_of(number) == 2])
    plain = trained(config.with_params({"lr": 3e-3}), data)
    for name, tensor in states[2].items():
        torch.testing.assert_close(tensor, plain.state()[name], rtol=1e-9, atol=1e-9)


def test_a_gradient_by_hand_is_autograds_for_mixed_labels():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 7, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    first, second = (torch.randint(4, (7,), generator=generator) for _ in range(2))
    mixed = MixedLabels(first, second, torch.tensor(0.3))
    weights = torch.tensor([0.5, 2.0, 1.0, 1.0], dtype=torch.float64)
    by_trial = torch.tensor([0.0, 0.1, 0.3], dtype=torch.float64)
    for loss in (DataLoss(None, None, None), DataLoss(by_trial, by_trial * 5, weights)):
        loss_K = loss(logits, mixed)
        share = mixed.share.double()
        torch.testing.assert_close(loss_K, share * loss(logits, first) + (1 - share) * loss(logits, second))
        (expected,) = torch.autograd.grad(loss_K.sum(), logits)
        found_K, delta = loss.with_derivative(logits.detach().transpose(1, 2), mixed)
        torch.testing.assert_close(found_K, loss_K.detach())
        torch.testing.assert_close(delta.transpose(1, 2), expected)


def test_trials_of_different_strengths_share_their_images():
    config = make_config(data__augment=("hflip",))
    other = config.with_params({"data.augment.rotate": 20.0})
    assert images_key(config) == images_key(other)
    assert images_key(config) != images_key(config.with_params({"data.normalize": "pixel"}))
    data = augmented(("hflip",))
    turned = data.augmented_by(other.data.augment)
    assert turned.augment == ("hflip", "rotate:20")
    assert turned.x_train_NCHW is data.x_train_NCHW
    frozen = {"model.name": "torchvision:resnet18", "model.pretrained": True, "model.freeze": "all"}
    of_features = [config.with_params(frozen | {"data.augment": kinds}) for kinds in ((), ("hflip",))]
    assert images_key(of_features[0]) != images_key(of_features[1])  # features of two views


def test_rates_are_tried_on_mixed_images():
    """The first epochs of a rate search are joined, labels and all."""
    data = augmented(("mixup:1",), num_train=12)
    batches = FirstBatches.of(data, 5)
    config = make_config(epochs=1, model__hidden=(5,))
    packs = [Pack(config, batches, [TrialSpec(0, {}), TrialSpec(1, {"reg": 0.1})], engine=name) for name in ENGINES]
    results = [pack.run_epoch().results for pack in packs]
    for one in results[1:]:
        assert [r.cost for r in one] == pytest.approx([r.cost for r in results[0]], rel=1e-9)
