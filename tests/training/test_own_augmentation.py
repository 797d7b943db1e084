"""A user's function of images and labels, in every engine: what an ordinary loop over the same batches gives."""

import dataclasses

import pytest
import torch
from plain_training import dealt, make_config, make_data, trained
from test_augmented_training import expect_as_plain

from hpsearch.datasets.mixing import SoftLabels
from hpsearch.results import TrialSpec
from hpsearch.training import Pack
from hpsearch.training.choice import ENGINES
from hpsearch.training.data_loss import DataLoss

OWN = "own_augmentations"
TRIALS = [
    {},
    {"train.label_smoothing": 0.2, "reg": 0.01},
    {"train.focal": 2.0, "lr": 1e-4},
    {"lr": 1e200},  # leaves after its first step
    {"train.focal": 0.5, "train.label_smoothing": 0.1, "lr": 1e-4},
]


@pytest.fixture(autouse=True)
def _trusted(monkeypatch):
    monkeypatch.setattr("hpsearch.config.usercode._trusted", {OWN})


def augmented(kinds, **images):
    return dataclasses.replace(make_data(**images), augment=kinds)


@pytest.mark.parametrize(
    ("engine", "case"), [*dealt([("mlp", "balanced"), ("lenet", "none")]), ("graph", ("mlp", "none"))]
)
def test_a_pack_with_labels_mixed_by_a_users_function_is_a_plain_loop(engine, case):
    net, class_weights = case
    data = augmented(("hflip", f"{OWN}:shift", f"{OWN}:blend", f"{OWN}:smear"), num_train=27)
    nets = {"mlp": {"model__hidden": (6,), "model__dropout": 0.2}, "lenet": {"model__name": "lenet"}}
    config = make_config(explosion=1e3, epochs=3, train__class_weights=class_weights, **nets[net])
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
def test_trials_go_on_from_a_snapshot_as_if_they_had_never_stopped(engine):
    data = augmented((f"{OWN}:jitter", f"{OWN}:blend"))
    config = make_config(explosion=1e3, epochs=4, model__hidden=(5,), train__accumulate=2)
    specs = [TrialSpec(0, {}), TrialSpec(1, {"train.focal": 1.0})]
    whole, first = (Pack(config, data, specs, engine=engine) for _ in range(2))
    for _ in range(2):
        first.run_epoch()
    again = Pack(config, data, specs, engine=engine, snapshots={n: first.snapshot(n) for n in (0, 1)})
    for pack in (again, whole):
        while not pack.done:
            pack.run_epoch()
    for number in (0, 1):
        for name, tensor in again.state(number, "last").items():
            assert torch.equal(tensor, whole.state(number, "last")[name])
    expect_as_plain(whole, config, data, 0, {})


def test_trials_that_come_later_see_the_images_of_their_own_epochs(rehearsed):
    data = augmented((f"{OWN}:blend", "crop:1"), num_train=24)
    config = make_config(explosion=1e3, epochs=2, model__hidden=(5,))
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


def test_shares_that_are_one_are_plain_labels_and_their_gradient_by_hand_is_autograds():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 7, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    y_B = torch.randint(4, (7,), generator=generator)
    shares = SoftLabels(torch.rand(7, 4, dtype=torch.float64, generator=generator).softmax(1))
    weights = torch.tensor([0.5, 2.0, 1.0, 1.0], dtype=torch.float64)
    by_trial = torch.tensor([0.0, 0.1, 0.3], dtype=torch.float64)
    losses = [
        DataLoss(*each) for each in [(None, None, None), (by_trial, by_trial * 5, weights), (None, None, weights)]
    ]
    for loss in losses:
        hard = SoftLabels(torch.nn.functional.one_hot(y_B, 4).double())
        torch.testing.assert_close(loss(logits, hard), loss(logits, y_B))
        assert float(loss.weight(hard)) == pytest.approx(float(loss.weight(y_B)))
        loss_K = loss(logits, shares)
        (expected,) = torch.autograd.grad(loss_K.sum(), logits)
        found_K, delta = loss.with_derivative(logits.detach().transpose(1, 2), shares)
        torch.testing.assert_close(found_K, loss_K.detach())
        torch.testing.assert_close(delta.transpose(1, 2), expected)
