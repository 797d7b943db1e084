"""Updates in one pass, and in several: both are those of torch.optim, and leave a frozen trial alone."""

import dataclasses
import itertools
import logging
import sys
from types import SimpleNamespace

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from interpreted_kernels import interpreted
from plain_training import make_config, make_data, trained
from small_updates import OPTIMIZERS, SIZES, TOLERANCES, assert_alike, everything, make_gradients, make_updated, run

from hpsearch.results import TrialSpec
from hpsearch.training import Pack, state
from hpsearch.training.one_pass import OnePass, make_updater
from hpsearch.training.updater import StackedOperators

__all__ = ["interpreted"]
UPDATERS = [StackedOperators, OnePass]


def torchs_optimizer(name, weight, bias, vectors, slot):
    values = {field.name: float(getattr(vectors, field.name)[slot]) for field in dataclasses.fields(vectors)}
    lr, momentum, betas = values["lr"], values["momentum"], (values["momentum"], values["beta2"])
    groups = [{"params": [weight], "weight_decay": values["weight_decay"]}, {"params": [bias], "weight_decay": 0.0}]
    match name:
        case "sgd":
            return torch.optim.SGD([weight, bias], lr)
        case "momentum" | "nesterov":
            return torch.optim.SGD([weight, bias], lr, momentum, nesterov=name == "nesterov")
        case "adam":
            return torch.optim.Adam([weight, bias], lr, betas)
        case "adamw":
            return torch.optim.AdamW(groups, lr, betas)


@pytest.mark.parametrize("updater_class", UPDATERS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_updates_are_those_of_torch(interpreted, updater_class, optimizer):
    updated = make_updated(optimizer)
    begun = {name: block.clone() for name, block in updated.blocks.items()}
    run(updater_class, updated, 4)
    vectors = updated.vectors
    for slot in range(3):
        weight, bias = (torch.nn.Parameter(begun[name][slot]) for name in SIZES)
        theirs = torchs_optimizer(optimizer, weight, bias, vectors, slot)
        for step in range(4):
            gradients = make_gradients(updated, step)
            old = weight.detach()
            weight.grad = gradients["weight"][slot] + vectors.reg[slot] * old + vectors.l1[slot] * old.sign()
            bias.grad = gradients["bias"][slot]
            theirs.step()
        torch.testing.assert_close(updated.blocks["weight"][slot], weight.detach(), rtol=1e-11, atol=1e-11)
        torch.testing.assert_close(updated.blocks["bias"][slot], bias.detach(), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("updater_class", UPDATERS)
@pytest.mark.parametrize(
    ("optimizer", "dtype"),
    list(zip(OPTIMIZERS, itertools.cycle([torch.float64, torch.float32]))),
)
def test_a_frozen_trial_stays_as_it_is(interpreted, updater_class, optimizer, dtype):
    """Its copies and sums, too; from the first step on, when Adam's corrections are no numbers, or later."""
    updated = make_updated(optimizer, dtype=dtype)
    begun = [tensor.clone() for tensor in everything(updated)]
    rounded = {"weight": updated.blocks["weight"].bfloat16()}
    masks = [torch.tensor([step >= 2, step >= 0, False]) for step in range(4)]
    updater = run(updater_class, updated, 4, masks.__getitem__, rounded)
    two_steps = make_updated(optimizer, dtype=dtype)
    run(updater_class, two_steps, 2)
    for tensor, before, after_two in zip(everything(updated), begun, everything(two_steps), strict=True):
        assert torch.equal(tensor[1], before[1])
        assert torch.equal(tensor[0], after_two[0])
        assert tensor.isfinite().all()
    assert torch.equal(rounded["weight"], updated.blocks["weight"].bfloat16())
    for name, square_K in updater.squares().items():
        torch.testing.assert_close(square_K, updated.blocks[name].flatten(1).square().sum(1))


@pytest.mark.parametrize("updater_class", UPDATERS)
def test_those_without_a_gradient_stay_as_they_are(interpreted, updater_class):
    updated = make_updated("momentum")
    before = updated.blocks["weight"].clone()
    updater_class(updated).update({"bias": torch.ones_like(updated.blocks["bias"])}, None)
    assert torch.equal(updated.blocks["weight"], before)


COEFFICIENTS = {
    "lr": st.floats(1e-4, 0.01), "momentum": st.floats(0, 0.99), "beta2": st.floats(0.5, 0.9999),
    "reg": st.sampled_from([0.0, 1e-3, 0.5]), "l1": st.sampled_from([0.0, 1e-3, 0.1]),
    "weight_decay": st.sampled_from([0.0, 0.1, 1.0]),
}  # fmt: skip


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@given(
    dtype=st.sampled_from(list(TOLERANCES)),
    num_trials=st.integers(1, 3),
    size=st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple),  # up to four blocks of the interpreter's 32
    given_values=st.fixed_dictionaries(COEFFICIENTS),
    frozen=st.none() | st.lists(st.booleans(), min_size=3, max_size=3),
)
@settings(deadline=None, max_examples=4)
def test_one_pass_is_the_stacked_operators(interpreted, dtype, optimizer, num_trials, size, given_values, frozen):
    frozen_K = None if frozen is None else torch.tensor(frozen[:num_trials])
    plain, ours = (
        make_updated(optimizer, num_trials, {"weight": size, "bias": (1,)}, dtype, **given_values) for _ in range(2)
    )
    for updater_class, updated in ((StackedOperators, plain), (OnePass, ours)):
        run(updater_class, updated, 3, lambda step: frozen_K if step > 1 else None)
    assert_alike(everything(ours), everything(plain))


@pytest.mark.parametrize(("optimizer", "dtype"), list(zip(["sgd", "adam"], TOLERANCES, strict=True)))
def test_sums_of_squares_are_left_behind(interpreted, optimizer, dtype):
    updated = make_updated(optimizer, dtype=dtype)
    updater = OnePass(updated)
    places = [sum_K.data_ptr() for sum_K in updater.squares().values()]
    for step in range(3):
        if step == 2:
            updated.blocks["weight"].mul_(3)
            updater.weights_changed()
        (found_K,) = updater.squares().values()
        weight = updated.blocks["weight"].double()
        torch.testing.assert_close(found_K.double(), weight.square().sum((1, 2)), rtol=TOLERANCES[dtype], atol=0.0)
        updated.num_updates.add_(1)
        updater.update(make_gradients(updated, step), None)
    assert [sum_K.data_ptr() for sum_K in updater.squares().values()] == places  # a graph knows them by their places


def test_nobody_sums_squares_that_cost_nothing(interpreted):
    assert OnePass(make_updated("sgd", reg=0.0)).squares() == {}


@given(numbers=st.lists(st.floats(width=32), min_size=1, max_size=20))
# In the middle between two bfloat16s, the largest numbers, none, and the least.
@example([1 + 2**-8, 1 + 3 * 2**-8, -1 - 3 * 2**-8, 3.4e38, torch.inf, -torch.inf, torch.nan, -0.0, 1e-45])
@settings(deadline=None, max_examples=10)
def test_weights_are_rounded_as_by_pytorch(interpreted, numbers):
    updated = make_updated("sgd", 1, {"weight": (len(numbers),)}, torch.float32, reg=0.0, l1=0.0)
    updater = OnePass(updated)
    weight = updated.blocks["weight"].copy_(torch.tensor([numbers]))
    copy = torch.empty_like(weight, dtype=torch.bfloat16)
    updater.update({"weight": torch.zeros_like(weight)}, None, {"weight": copy})
    torch.testing.assert_close(copy, weight.bfloat16(), rtol=0, atol=0, equal_nan=True)


def test_a_gradient_counts_as_the_numbers_that_it_is(interpreted):
    """Whatever its precision, or the order in which they lie."""
    updated = [make_updated("momentum", dtype=torch.float32) for _ in range(2)]
    gradient = make_gradients(updated[0], 0)["weight"].bfloat16()
    turned = gradient.transpose(1, 2).contiguous().transpose(1, 2)
    OnePass(updated[0]).update({"weight": turned}, None)
    OnePass(updated[1]).update({"weight": gradient.float()}, None)
    assert_alike(everything(updated[0]), everything(updated[1]))


@pytest.fixture
def in_one_pass(interpreted, monkeypatch):
    """Packs update in one pass, on a CPU."""
    made = []

    def make(updated):
        made.append(OnePass(updated))
        return made[-1]

    monkeypatch.setattr(state, "make_updater", make)
    return made


@pytest.mark.parametrize(
    ("engine", "optimizer"), [("loop", "sgd"), ("vmap", "adamw"), ("fused", "adam"), ("graph", "nesterov")]
)
def test_packs_train_as_a_plain_loop_does(in_one_pass, engine, optimizer):
    data = make_data(num_train=18, shape=(1, 4, 3))  # weights of two blocks: the interpreter sums a number at a time
    config = make_config(2, train__optimizer=optimizer, model__name="mlp", model__hidden=(5,))
    params = [{"reg": 0.1, "train.weight_decay": 0.1}, {"lr": 1e200, "reg": 0.1}, {"train.l1": 0.01, "lr": 3e-3}]
    pack = Pack(config, data, [TrialSpec(n, each) for n, each in enumerate(params)], engine=engine)
    first = pack.run_epoch()
    assert [explosion.number for explosion in first.explosions] == [1]
    resumed = Pack(
        config, data, [TrialSpec(n, params[n]) for n in (0, 2)], engine=engine,
        snapshots={number: pack.snapshot(number) for number in (0, 2)},
    )  # fmt: skip
    for each in (pack, resumed):
        (*_, last) = each.run_epoch().results
        for number in (0, 2):
            plain = trained(config.with_params(params[number]), data)
            for name, tensor in each.state(number, "last").items():
                torch.testing.assert_close(tensor, plain.state()[name], rtol=1e-9, atol=1e-9)
        assert last.cost == pytest.approx(plain.epochs[-1][0], rel=1e-9)
    assert len(in_one_pass) >= 3  # anew after a trial has left


def test_weights_that_another_changes_are_summed_again(in_one_pass):
    data = make_data(num_train=12, shape=(1, 4, 3))
    pack = Pack(make_config(2, 1e9, model__hidden=(5,)), data, [TrialSpec(0, {"reg": 0.1})], engine="loop")
    pack.run_epoch()
    pack_state = pack._engine.state
    for weight in pack_state.nets.weights.values():
        weight.mul_(3)
    pack._engine.weights_changed()
    for name, square_K in pack_state.squares().items():
        torch.testing.assert_close(square_K, pack_state.nets.weights[name].flatten(1).square().sum(1))


def test_on_a_cpu_it_takes_several_passes():
    assert isinstance(make_updater(make_updated("sgd")), StackedOperators)


def test_without_triton_it_takes_several_passes(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.delitem(sys.modules, "hpsearch.training.triton_kernels", raising=False)
    monkeypatch.delattr("hpsearch.training.triton_kernels", raising=False)
    updated = dataclasses.replace(make_updated("sgd"), lr=SimpleNamespace(device=torch.device("cuda")))
    with caplog.at_level(logging.DEBUG, "hpsearch"):
        assert isinstance(make_updater(updated), StackedOperators)
    assert "several passes" in caplog.text
    assert "triton" in caplog.text


def test_blocks_that_it_cannot_take_are_refused(interpreted):
    with pytest.raises(ValueError, match="bfloat16"):
        OnePass(make_updated("sgd", dtype=torch.bfloat16))
