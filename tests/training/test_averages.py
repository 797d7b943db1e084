"""Moving averages of weights: those of a plain loop, in every engine, wherever trials come from and go to."""

import dataclasses
import math

import pytest
import torch
from plain_training import dealt, make_config, make_data, trained
from recorded_steps import Rehearsed

from hpsearch.results import EpochResult, TrialSpec
from hpsearch.training import Pack
from hpsearch.training.choice import ENGINES
from hpsearch.training.fused import engine as fused
from hpsearch.training.fused.engine import FusedEngine
from hpsearch.training.layout import layout_of

NETS = {
    "mlp": {"model__hidden": (7, 5), "model__dropout": 0.2},
    "convnet": {"model__name": "convnet", "model__channels": (3, 4), "model__hidden": (5,), "model__batch_norm": True},
}
VECTORS = [{"lr": 3e-2}, {"train.ema": 0.6, "lr": 3e-2}, {"train.ema": 0.999, "reg": 0.1}, {"train.ema": 0.9}]
EPOCHS = 3


@pytest.fixture(scope="module")
def data():
    return make_data()


def config_of(net="mlp", **others):
    return make_config(EPOCHS, explosion=1e9, **({"train__optimizer": "adam"} | NETS[net] | others))


def same(state, expected):
    assert state.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(state[name], tensor, rtol=1e-9, atol=1e-9, msg=name)


def same_to_the_bit(pack, other, number, other_number=None):
    mine, yours = (each.snapshot(n).tensors for each, n in ((pack, number), (other, other_number or number)))
    assert mine.keys() == yours.keys()
    for name, tensor in mine.items():
        assert torch.equal(tensor, yours[name]), name


def run(pack, epochs=EPOCHS):
    while pack.epoch < epochs:
        report = pack.run_epoch()
    return {result.number: result for result in report.results}


@pytest.mark.parametrize(("engine", "net"), [*dealt(NETS), ("graph", "convnet")])
def test_what_is_measured_and_kept_is_the_average_of_a_plain_loop(data, rehearsed, engine, net):
    config = config_of(net)
    pack = Pack(config, data, [TrialSpec(n, params) for n, params in enumerate(VECTORS)], engine=engine)
    first = pack.run_epoch().results
    pack.drop([2])  # averages and decays move with their trials
    last = run(pack)
    for number in (0, 1, 3):
        plain = trained(config.with_params(VECTORS[number]), data)
        same(pack.state(number, "last"), plain.averaged.state_dict())
        slot = pack._slots.slot(number)
        own = pack._state.nets.slot(slot)
        same({n: own[n] for n in plain.state()}, plain.state())
        for result, expected in ((first[number], plain.epochs[0]), (last[number], plain.epochs[-1])):
            assert list(dataclasses.astuple(result)[2:9]) == pytest.approx(expected, rel=1e-9, abs=1e-9)
        assert last[number].plain_score == (plain.plain_acc if number else None)


def test_it_begins_with_what_is_new(data):
    """0.999 over 30 updates would be the initial weights, but for 3%; the average is not far behind."""
    specs = [TrialSpec(0), TrialSpec(1, {"train.ema": 0.999})]
    plain, averaged = run(Pack(config_of(lr=3e-2, model__dropout=0.0), data, specs)).values()
    assert plain.val_loss < 0.7 * math.log(4)
    assert averaged.val_loss < 1.1 * plain.val_loss


@pytest.mark.parametrize("engine", ENGINES)
def test_a_trial_that_goes_on_is_the_same_to_the_bit(data, rehearsed, engine):
    """Wherever it goes on: trials without averages know nothing of those of their neighbours."""
    config = config_of("convnet")
    config = config.model_copy(update={"train": config.train.model_copy(update={"metric": "loss"})})
    pack = Pack(config, data, [TrialSpec(n, params) for n, params in enumerate(VECTORS[:2])], engine=engine)
    results = [pack.run_epoch().results[1] for _ in range(2)]
    snapshots = {number: pack.snapshot(number) for number in (0, 1)}
    assert any(name.startswith("averages/") for name in snapshots[1].tensors)
    assert not any(name.startswith("averages/") for name in snapshots[0].tensors)
    again = Pack(config, data, [TrialSpec(n, VECTORS[n]) for n in (0, 1)], engine=engine, snapshots=snapshots)
    same_to_the_bit(again, pack, 1)
    results.append(pack.run_epoch().results[1])
    assert again.run_epoch().results[1] == results[-1]
    for number in (0, 1):
        same_to_the_bit(again, pack, number)
    alone = Pack(config, data, [TrialSpec(0, VECTORS[0])], engine=engine, snapshots={0: snapshots[0]})
    alone.run_epoch()
    same(alone.state(0, "last"), pack.state(0, "last"))
    assert {EpochResult.of_plain(r.as_plain()) for r in results} == set(results)
    assert all(r.plain_score is not None for r in results)


@pytest.mark.parametrize(("first", "then"), [(0, 1), (1, 0), (3, 1)])
def test_places_are_taken_by_trials_with_and_without_averages(data, rehearsed, first, then):
    config = config_of("mlp", model__dropout=0.0)
    pack = Pack(
        config, data, [TrialSpec(9, VECTORS[0]), TrialSpec(first, VECTORS[first])], engine="graph", refills=True
    )
    run(pack, 2)
    pack.drop([first])
    later = 20 + then
    pack.admit([TrialSpec(later, VECTORS[then])])
    pack.run_epoch()
    pack.drop([9])
    for _ in range(2):
        report = pack.run_epoch()
    plain = trained(config.with_params(VECTORS[then]), data)
    same(pack.state(later, "last"), plain.averaged.state_dict())
    [result] = report.results
    assert list(dataclasses.astuple(result)[2:9]) == pytest.approx(plain.epochs[-1], rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("engine", ENGINES)
def test_an_explosion_stays_alone(data, rehearsed, engine):
    config = config_of(model__dropout=0.0, train__optimizer="sgd")
    specs = [TrialSpec(0, {"lr": 1e200, "train.ema": 0.9}), TrialSpec(1, {"lr": 1e-3, "train.ema": 0.9})]
    pack, alone = (Pack(config, data, each, engine=engine) for each in (specs, specs[1:]))
    assert [explosion.number for explosion in pack.run_epoch().explosions] == [0]
    alone.run_epoch()
    same(pack.state(1), alone.state(1))


@pytest.mark.parametrize("large", [0, 10**9])
def test_products_in_bfloat16_are_those_of_the_averages_when_measured_alone(large, monkeypatch):
    """Rounded copies of the weights that train stay where they are, and theirs."""
    monkeypatch.setattr(fused, "LARGE", large)
    data = make_data(dtype=torch.float32)
    config = config_of("mlp", model__dropout=0.0, train__precision="bfloat16", lr=0.3)
    pack = Pack(config, data, [TrialSpec(0, {"train.ema": 0.99}), TrialSpec(1)], engine="fused")
    plain = Pack(config, data, [TrialSpec(0), TrialSpec(1)], engine="fused")
    for _ in range(EPOCHS):
        averaged, own = pack.run_epoch().results, plain.run_epoch().results
        assert averaged[1] == own[1]
        assert averaged[0].plain_score == own[0].val_acc
        with pack._state.nets.averaged():
            weights = pack._state.nets.slot(0)
        net = Pack(config, data, [TrialSpec(0)], engine="loop")
        for name, tensor in weights.items():
            net._state.nets.slot(0)[name].copy_(tensor)
        loss_K, _ = net._engine.evaluate(data.x_val_NCHW, data.y_val_N)
        assert abs(averaged[0].val_loss - float(loss_K)) < 0.2 * abs(own[0].val_loss - float(loss_K))


def test_recorded_steps_average_too(data, monkeypatch):
    config = config_of("convnet")
    specs = [TrialSpec(0, {"train.ema": 0.9}), TrialSpec(1)]
    plain, recorded = (Pack(config, data, specs, engine="fused") for _ in range(2))
    recorder = Rehearsed()

    def prepare():
        FusedEngine._prepare(recorded._engine)
        recorded._engine._steps = recorded._engine._record_steps(recorder)

    monkeypatch.setattr(recorded._engine, "_prepare", prepare)
    prepare()
    for _ in range(EPOCHS):
        assert plain.run_epoch() == recorded.run_epoch()
    assert recorder.num_replayed > 0
    assert recorder.num_recorded == 2  # a step, and several: measuring the averages records nothing anew
    same_to_the_bit(recorded, plain, 0)


def test_without_it_there_is_none(data):
    pack = Pack(config_of(), data, [TrialSpec(0), TrialSpec(1)])
    assert pack._state.nets.averages is None
    assert pack.run_epoch().results[0].plain_score is None
    assert "plain_score" not in pack.run_epoch().results[0].as_plain()


def test_blocks_of_several_tensors_have_averages_by_name():
    stacked = {"a": torch.rand(2, 3), "b": torch.rand(2, 2)}
    layout = layout_of(stacked, ["a"], "joined")
    assert layout.parted({}) == {}  # of blocks that are not averaged, as counters
