"""Warm-up of the rate and clipping of gradients, each trial's own: what a plain loop of torch's parts gives."""

import math

import pytest
import torch
from interpreted_kernels import interpreted
from plain_training import dealt, make_config, make_data, trained

from hpsearch.results import TrialSpec
from hpsearch.training import Pack, state
from hpsearch.training.choice import ENGINES
from hpsearch.training.fused.update import LargeUpdate
from hpsearch.training.one_pass import OnePass
from hpsearch.training.schedules import warm_up

__all__ = ["interpreted"]
OPTIMIZERS = ["sgd", "momentum", "nesterov", "adam", "adamw"]
NETS = {
    "mlp": {"model__name": "mlp", "model__hidden": (7, 5), "model__batch_norm": True, "model__dropout": 0.2},
    "lenet": {"model__name": "lenet", "model__activation": "tanh"},
}
VECTORS = [  # norms of gradients are 0.3 to 6 here
    {},
    {"train.warmup": 1.0, "train.clip_norm": 0.5, "reg": 0.1},
    {"train.warmup": 0.25, "lr": 0.03, "train.weight_decay": 0.3},
    {"train.clip_norm": 1.0, "train.l1": 1e-2, "train.body_lr": 0.3, "train.weight_decay": 0.3},
    {"train.warmup": 1.55, "train.clip_norm": 100.0, "train.lr_decay": 0.5},
]


@pytest.fixture(scope="module")
def data():
    return make_data(num_train=40)


@pytest.fixture(scope="module")
def few():
    """Four steps an epoch, the last one shorter."""
    return make_data(num_train=22)


def specs_of(all_params):
    return [TrialSpec(number, params) for number, params in enumerate(all_params)]


def assert_plain(pack, config, data, number, params):
    plain = trained(config.with_params(params), data)
    for name, tensor in plain.state().items():
        torch.testing.assert_close(pack.state(number, "last")[name], tensor, rtol=1e-9, atol=1e-9, msg=name)
    return plain


def same_rates(all_params):
    """Without rates of parts, of which the plain loop knows nothing."""
    return [{name: value for name, value in params.items() if name != "train.body_lr"} for params in all_params]


@pytest.mark.parametrize(("engine", "case"), dealt([*(("mlp", each) for each in OPTIMIZERS), ("lenet", "adam")]))
def test_a_mixed_pack_is_plain(few, engine, case):
    net, optimizer = case
    config, all_params = make_config(2, 1e9, train__optimizer=optimizer, **NETS[net]), same_rates(VECTORS)
    pack = Pack(config, few, specs_of(all_params), engine=engine)
    reports = [pack.run_epoch() for _ in range(2)]
    for number, params in enumerate(all_params):
        plain = assert_plain(pack, config, few, number, params)
        for report, expected in zip(reports, plain.epochs, strict=True):
            result = report.results[number]
            assert (result.cost, result.lr) == pytest.approx((expected[0], expected[-1]), rel=1e-9)


def test_gradients_are_cut_by_penalties_and_all(data):
    """As long as the penalty is the most of it, an update by SGD is as long as the norm says."""
    config = make_config(1, 1e9, train__optimizer="sgd", train__batch_size=40, model__name="linear", lr=1.0)
    pack = Pack(config, data, [TrialSpec(0, {"reg": 1e3, "train.clip_norm": 0.01})], engine="loop")
    before = pack.state(0, "last")
    pack.run_epoch()
    moved = [(tensor - before[name]).norm() for name, tensor in pack.state(0, "last").items()]
    assert float(torch.stack(moved).norm()) == pytest.approx(0.01, rel=1e-5)


@pytest.mark.parametrize("optimizer", ["momentum", "adamw"])
def test_large_weights_go_in_one_pass_unless_a_trial_clips(data, optimizer, monkeypatch):
    updated = []
    call = LargeUpdate.__call__
    monkeypatch.setattr(LargeUpdate, "__call__", lambda self, *args: (updated.append(args[0]), call(self, *args)))
    monkeypatch.setattr("hpsearch.training.fused.engine.LARGE", 16)
    config, all_params = make_config(2, 1e9, train__optimizer=optimizer, **NETS["mlp"]), same_rates(VECTORS)
    pack = Pack(config, data, specs_of(all_params), engine="fused")
    pack.run_epoch()
    assert not updated
    pack.drop([number for number, params in enumerate(all_params) if "train.clip_norm" in params])
    pack.run_epoch()
    assert updated
    for number in pack.numbers:
        assert_plain(pack, config, data, number, all_params[number])


@pytest.mark.parametrize(("engine", "optimizer"), [("loop", "nesterov"), ("fused", "adamw"), ("graph", "momentum")])
def test_kernels_of_one_pass_take_both(interpreted, monkeypatch, engine, optimizer):
    data = make_data(num_train=24, shape=(1, 4, 3))  # few numbers for the interpreter
    monkeypatch.setattr(state, "make_updater", OnePass)
    small = {"model__name": "mlp", "model__hidden": (3,)}
    config, all_params = make_config(1, 1e9, train__optimizer=optimizer, **small), same_rates(VECTORS[1:4])
    pack = Pack(config, data, specs_of(all_params), engine=engine)
    pack.run_epoch()
    for number, params in enumerate(all_params):
        assert_plain(pack, config, data, number, params)


@pytest.mark.parametrize("engine", ENGINES)
def test_those_that_explode_leave_the_others_alone(data, engine):
    """One of them with gradients that are no numbers, which its neighbours' norms must not see."""
    config = make_config(2, **NETS["mlp"])
    all_params = [{"train.clip_norm": 0.5, "lr": 1e200}, {"train.clip_norm": 0.5, "train.warmup": 1.5}, {"lr": 1e200}]
    pack = Pack(config, data, specs_of(all_params), engine=engine)
    report = pack.run_epoch()
    assert [explosion.number for explosion in report.explosions] == [0, 2]
    pack.run_epoch()
    assert_plain(pack, config, data, 1, all_params[1])


@pytest.mark.parametrize("engine", ["loop", "fused"])
def test_warm_up_goes_on_from_a_snapshot(data, engine):
    config, params = make_config(3, 1e9, train__optimizer="adam", **NETS["mlp"]), same_rates(VECTORS)[4]
    begun = Pack(config, data, [TrialSpec(4, params)], engine=engine)
    begun.run_epoch()
    pack = Pack(config, data, [TrialSpec(4, params)], engine=engine, snapshots={4: begun.snapshot(4)})
    while not pack.done:
        pack.run_epoch()
    assert_plain(pack, config, data, 4, params)


def test_those_that_come_bring_theirs_into_a_pack_of_none(data):
    """And what a step does changes with them; to those who are there it makes no difference."""
    config, all_params = make_config(3, 1e9, train__optimizer="momentum", **NETS["mlp"]), same_rates(VECTORS)
    pack = Pack(config, data, [TrialSpec(0), TrialSpec(9)], engine="graph", refills=True)
    pack.run_epoch()
    pack.drop([9])
    waiting = [TrialSpec(number, all_params[number]) for number in (1, 3, 4)]
    while waiting or not pack.done:
        coming, waiting = waiting[: pack.num_vacant], waiting[pack.num_vacant :]
        if coming:
            pack.admit(coming)
        ended = [result.number for result in pack.run_epoch().results if result.epoch == 3]
        for number in ended:
            assert_plain(pack, config, data, number, all_params[number])
        if waiting or set(pack.numbers) > set(ended):
            pack.drop(ended)
    assert pack.numbers == (4,)


@pytest.mark.parametrize(("warmup", "num_steps"), [(2, 5), (0.5, 10)])
def test_warm_up_is_torchs(warmup, num_steps):
    num = int(warmup * num_steps)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 1.0)
    theirs = torch.optim.lr_scheduler.LinearLR(optimizer, 1 / num, total_iters=num - 1)
    for step in range(1, num + 4):
        factor = warm_up(torch.tensor([step]), torch.tensor([num], dtype=torch.float64))
        assert float(factor) == pytest.approx(theirs.get_last_lr()[0], rel=1e-12)
        optimizer.step()
        theirs.step()


def test_without_a_warm_up_rates_stay_as_they_are():
    assert warm_up(torch.tensor([0, 1, 9]), torch.zeros(3)).tolist()[1:] == [1, 1]
    assert not math.isnan(warm_up(torch.tensor([0]), torch.zeros(1)).item())
