"""Learning from a teacher beside the labels: in every engine what a plain loop with torch's divergence gives."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_training import dealt, make_config, make_data, trained

from hpsearch.results import TrialSpec
from hpsearch.training import Pack
from hpsearch.training.choice import ENGINES
from hpsearch.training.data_loss import DataLoss
from hpsearch.training.distillation import DistilledLoss, Taught

TRIALS = [
    {},
    {"train.distill": 0.5},
    {"train.distill": 1.0, "train.distill_temperature": 2.0, "reg": 0.01},
    {"lr": 1e200, "train.distill": 0.5},  # leaves after its first step
    {"train.distill": 0.3, "train.distill_temperature": 0.7, "train.label_smoothing": 0.1, "train.focal": 0.5},
]


@pytest.fixture
def teacher(monkeypatch):
    """What a teacher says of 45 images, in every pack."""
    generator = torch.Generator().manual_seed(3)
    logq_NC = (2 * torch.randn(45, 4, generator=generator, dtype=torch.float64)).log_softmax(1)
    monkeypatch.setattr("hpsearch.training.initial_state.taught", lambda _, data: Taught(data.y_train_N, logq_NC))
    return logq_NC


def images(*kinds):
    """The last batch of 6 is smaller."""
    return dataclasses.replace(make_data(num_train=45), augment=kinds)


def expect_as_plain(pack, config, data, number, params, teacher):
    plain = trained(config.with_params(params), data, teacher)
    for name, tensor in pack.state(number, "last").items():
        torch.testing.assert_close(tensor, plain.state()[name], rtol=1e-9, atol=1e-9, msg=name)
    return plain


@pytest.mark.parametrize(
    ("engine", "case"),
    [*dealt([("balanced", ("hflip", "mixup:0.4")), ("none", ("cutmix:1",))]), ("graph", ("none", ("cutmix:1",)))],
)
def test_a_pack_with_a_teacher_is_a_plain_loop(engine, case, teacher):
    class_weights, kinds = case
    data = images(*kinds)
    config = make_config(epochs=3, train__class_weights=class_weights, model__hidden=(6,), model__dropout=0.2)
    pack = Pack(config, data, [TrialSpec(n, params) for n, params in enumerate(TRIALS)], engine=engine)
    reports = []
    while not pack.done:
        reports.append(pack.run_epoch())
        if len(reports) == 1:
            assert [explosion.number for explosion in reports[0].explosions] == [3]
            pack.drop([1])
    for number in (0, 2, 4):
        plain = expect_as_plain(pack, config, data, number, TRIALS[number], teacher)
        result = next(result for result in reports[-1].results if result.number == number)
        assert list(dataclasses.astuple(result)[2:9]) == pytest.approx(plain.epochs[-1], rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_teacher_that_nobody_learns_from_changes_not_a_bit(engine, monkeypatch, teacher):
    data, config = images("mixup:0.4"), make_config(epochs=2, model__hidden=(5,))
    specs = [TrialSpec(0, {}), TrialSpec(1, {"reg": 0.1, "train.label_smoothing": 0.1})]
    with_one = Pack(config, data, specs, engine=engine)
    monkeypatch.setattr("hpsearch.training.initial_state.taught", lambda *_: None)
    without = Pack(config, data, specs, engine=engine)
    while not without.done:
        assert with_one.run_epoch() == without.run_epoch()
    for number in (0, 1):
        for name, tensor in without.state(number, "last").items():
            assert torch.equal(with_one.state(number, "last")[name], tensor)


@pytest.mark.parametrize("engine", ENGINES)
def test_it_goes_on_from_a_snapshot_and_accumulates(engine, teacher):
    data = images()
    config = make_config(3, 1e9, train__accumulate=2, train__class_weights="balanced", model__hidden=(5,))
    first = Pack(config, data, [TrialSpec(n, TRIALS[n]) for n in (1, 2)], engine=engine)
    first.run_epoch()
    snapshots = {number: first.snapshot(number) for number in (1, 2)}
    pack = Pack(config, data, [TrialSpec(n, TRIALS[n]) for n in (1, 2)], engine=engine, snapshots=snapshots)
    while not pack.done:
        pack.run_epoch()
    for number in (1, 2):
        expect_as_plain(pack, config, data, number, TRIALS[number], teacher)


def test_trials_that_learn_from_it_take_places_of_trials_that_do_not(teacher, rehearsed):
    data, config = images(), make_config(3, 1e9, model__hidden=(5,))
    pack = Pack(config, data, [TrialSpec(0, {}), TrialSpec(1, {})], engine="graph", refills=True)
    pack.run_epoch()
    pack.drop([1])
    pack.admit([TrialSpec(2, TRIALS[2])])
    states = {}
    later = [TrialSpec(4, TRIALS[1])]
    while not pack.done or later:
        states |= {result.number: pack.state(result.number, "last") for result in pack.run_epoch().results}
        pack.drop([number for number in pack.numbers if pack.epochs_of(number) == 3])
        if later and pack.num_vacant:
            pack.admit([later.pop()])
    for number, params in {0: {}, 2: TRIALS[2], 4: TRIALS[1]}.items():
        plain = trained(config.with_params(params), data, teacher)
        for name, tensor in plain.state().items():
            torch.testing.assert_close(states[number][name], tensor, rtol=1e-8, atol=1e-9)


shares = st.lists(st.floats(0, 1), min_size=2, max_size=2)
temperatures = st.lists(st.floats(0.5, 20), min_size=2, max_size=2)


@settings(deadline=None)
@given(st.integers(0, 99), shares, temperatures, st.booleans(), st.sampled_from([0.1, 3.0, 100.0]))
def test_the_derivative_by_hand_is_that_of_autograd(seed, share, temperature, weighed, size):
    generator = torch.Generator().manual_seed(seed)
    logits_KBC = size * torch.randn(2, 6, 4, generator=generator, dtype=torch.float64)
    taught = Taught(
        torch.randint(4, (9,), generator=generator),
        (size * torch.randn(9, 4, generator=generator, dtype=torch.float64)).log_softmax(1),
    )
    weights = torch.rand(4, generator=generator, dtype=torch.float64) + 0.1 if weighed else None
    by_trial = (torch.tensor(each, dtype=torch.float64) for each in (share, temperature))
    loss = DistilledLoss(DataLoss(None, None, weights), taught, *by_trial)
    rows_B = torch.randint(9, (6,), generator=generator)
    leaf = logits_KBC.clone().requires_grad_()
    expected_K = loss(leaf, rows_B)
    [derivative] = torch.autograd.grad(expected_K.sum(), [leaf])
    loss_K, delta_KCB = loss.with_derivative(logits_KBC.transpose(1, 2), rows_B)
    torch.testing.assert_close(loss_K, expected_K.detach(), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(delta_KCB.transpose(1, 2), derivative, rtol=1e-9, atol=1e-9)
