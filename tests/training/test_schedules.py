"""Schedules of the learning rate are those of torch, by epochs or by steps, in packs and by themselves."""

import typing

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_training import make_config, make_data, trained

from hpsearch.config import TrainConfig
from hpsearch.results import TrialSpec
from hpsearch.training import Pack
from hpsearch.training.choice import ENGINES
from hpsearch.training.schedules import cycle_ends, learning_rate, one_cycle, step_factor

SCHEDULES = typing.get_args(TrainConfig.model_fields["lr_schedule"].annotation)


@pytest.fixture(scope="module")
def data():
    return make_data(num_train=40)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_packs_train_by_schedules_of_torch(data, schedule):
    keys = {"train__lr_step": 2, "train__lr_period": 2, "train__lr_period_factor": 2}
    config = make_config(7, 1e9, train__lr_schedule=schedule, model__name="linear", **keys)
    all_params = [{"lr": 0.01, "train.lr_decay": 0.8}, {"lr": 0.02, "train.warmup": 2.5}]
    pack = Pack(config, data, [TrialSpec(number, params) for number, params in enumerate(all_params)])
    rates = [[result.lr for result in pack.run_epoch().results] for _ in range(7)]
    for number, params in enumerate(all_params):
        plain = trained(config.with_params(params), data)
        assert [rate[number] for rate in rates] == pytest.approx([epoch[-1] for epoch in plain.epochs], rel=1e-9)
        for name, tensor in plain.state().items():
            torch.testing.assert_close(pack.state(number, "last")[name], tensor, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("engine", ENGINES)
def test_one_cycle_goes_on_from_a_snapshot(data, engine):
    config = make_config(3, 1e9, train__lr_schedule="one-cycle", train__optimizer="adam", model__hidden=(5,))
    begun = Pack(config, data, [TrialSpec(0)], engine=engine)
    begun.run_epoch()
    pack = Pack(config, data, [TrialSpec(0)], engine=engine, snapshots={0: begun.snapshot(0)})
    while not pack.done:
        pack.run_epoch()
    for name, tensor in trained(config, data).state().items():
        torch.testing.assert_close(pack.state(0, "last")[name], tensor, rtol=1e-9, atol=1e-9)


def torchs_rates(make, num):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 0.3)
    scheduler = make(optimizer)
    rates = []
    for _ in range(num):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@given(epochs=st.integers(1, 40), period=st.integers(1, 9), factor=st.integers(1, 3))
@settings(deadline=None, max_examples=40)
def test_epochs_have_torchs_rates(epochs, period, factor):
    theirs = {
        "linear": lambda o: torch.optim.lr_scheduler.LinearLR(o, 1.0, 0.0, epochs),
        "sgdr": lambda o: torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(o, period, factor),
        "constant": lambda o: torch.optim.lr_scheduler.ConstantLR(o, 1.0),
        "inverse-sqrt": lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda done: 1 / (1 + done) ** 0.5),
    }
    lr_K = torch.tensor([0.3], dtype=torch.float64)
    for schedule, make in theirs.items():
        train = TrainConfig(lr_schedule=schedule, epochs=epochs, lr_period=period, lr_period_factor=factor)
        ours = [learning_rate(train, lr_K, lr_K, epoch).item() for epoch in range(1, epochs + 1)]
        assert ours == pytest.approx(torchs_rates(make, epochs), rel=1e-9, abs=1e-12)


@given(epochs=st.integers(1, 9), num_steps=st.integers(1, 9), dtype=st.sampled_from([torch.float32, torch.float64]))
@settings(deadline=None, max_examples=40)
def test_one_cycle_is_torchs_step_by_step(epochs, num_steps, dtype):
    total = epochs * num_steps
    train = TrainConfig(lr_schedule="one-cycle", epochs=epochs)
    theirs = torchs_rates(lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 0.3, total, cycle_momentum=False), total)
    warmup_K = torch.zeros(1, dtype=dtype)
    ours = [0.3 * step_factor(train, torch.tensor([t]), num_steps, warmup_K).item() for t in range(1, total + 1)]
    assert ours == pytest.approx(theirs, rel=1e-9 if dtype == torch.float64 else 1e-3, abs=1e-7)


@given(st.integers(1, 60), st.integers(1, 12), st.integers(1, 3))
def test_a_cycle_ends_where_the_next_rate_is_the_first_one_again(epochs, period, factor):
    train = TrainConfig(lr_schedule="sgdr", lr_period=period, lr_period_factor=factor)
    make = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts
    rates = torchs_rates(lambda o: make(o, period, factor), epochs + 1)
    ends = [epoch for epoch in range(1, epochs + 1) if rates[epoch] == rates[0]]
    assert cycle_ends(train, epochs) == ends
    assert cycle_ends(TrainConfig(lr_schedule="cosine"), epochs) == []


def test_a_trial_at_rest_has_a_rate_that_is_a_number():
    assert one_cycle(torch.zeros(1), 30).isfinite().all()
