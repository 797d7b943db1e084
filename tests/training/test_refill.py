"""Trials that take the places of others: they train as they would alone, and nothing is recorded anew for them."""

import functools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from interpreted_kernels import interpreted
from plain_training import make_config, make_data
from recorded_steps import Rehearsed

from hpsearch.config import FloatRange
from hpsearch.errors import EngineError
from hpsearch.results import TrialSpec
from hpsearch.training import Pack, graph, state
from hpsearch.training.one_pass import OnePass

__all__ = ["interpreted"]

EPOCHS = 3
SEARCHED = [
    {"lr": 1e-2, "reg": 0.1},
    {"lr": 3e-2, "reg": 0.3, "train.momentum": 0.5, "model.init_scale": 2.0},
    {"lr": 1e-3, "reg": 1e-3, "train.beta2": 0.9, "train.weight_decay": 0.1},
    {"lr": 2e-2, "reg": 0.5, "train.label_smoothing": 0.1, "train.lr_decay": 0.5},
    {"lr": 5e-3, "reg": 0.2, "train.l1": 1e-3},
    {"lr": 4e-2, "reg": 0.05, "train.lr_decay": 0.9},
]


@pytest.fixture(scope="module")
def data():
    return make_data(num_train=64)


def as_rows(results):
    return [
        torch.tensor([getattr(r, n) for n in ("cost", "train_loss", "val_loss", "update_ratio", "lr")]) for r in results
    ]


def expect_alike(mine, alone):
    assert [r.epoch for r in mine] == [r.epoch for r in alone]
    for own, other in zip(as_rows(mine), as_rows(alone), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-8, atol=1e-9)


def trained_alone(config, data, number, params, num_epochs=EPOCHS):
    pack = Pack(config, data, [TrialSpec(number, params)], engine="loop")
    results = []
    while not pack.done and pack.epoch < num_epochs:
        results += pack.run_epoch().results
    return results, pack


def refilled(config, data, waiting, width=2, drops=()):
    """Results by number; `drops` are pairs (number, epoch) after which the trial leaves."""
    waiting = list(enumerate(waiting))
    first = [TrialSpec(number, params) for number, params in waiting[:width]]
    pack = Pack(config, data, first, engine="graph", refills=True)
    del waiting[:width]
    results, weights, explosions = {}, {}, []
    while True:
        if pack.num_vacant and waiting:
            coming = waiting[: pack.num_vacant]
            del waiting[: len(coming)]
            pack.admit([TrialSpec(number, params) for number, params in coming])
        if pack.done:
            return results, weights, explosions
        if not waiting:
            pack.close()
        report = pack.run_epoch()
        explosions += report.explosions
        leaving = []
        for result in report.results:
            results.setdefault(result.number, []).append(result)
            if result.epoch == EPOCHS or (result.number, result.epoch) in drops:
                weights[result.number] = pack.state(result.number)
                leaving.append(result.number)
        pack.drop(leaving)


@pytest.mark.parametrize("optimizer", ["sgd", "nesterov", "adam", "adamw"])
def test_each_trains_as_alone(data, optimizer, rehearsed):
    config = make_config(EPOCHS, train__optimizer=optimizer, model__hidden=(5,), model__batch_norm=True)
    found, weights, _ = refilled(config, data, SEARCHED)
    assert sorted(found) == list(range(len(SEARCHED)))
    for number, params in enumerate(SEARCHED):
        alone, pack = trained_alone(config, data, number, params)
        expect_alike(found[number], alone)
        torch.testing.assert_close(weights[number], pack.state(number), rtol=1e-8, atol=1e-9)


def test_nothing_is_recorded_for_them(data, rehearsed):
    config = make_config(EPOCHS)
    alike = [{"lr": 1e-2 / (1 + number), "reg": 0.1} for number in range(6)]
    refilled(config, data, alike)
    assert rehearsed[0].num_recorded == 3  # one step, several, and the short last one
    mixed = [{"lr": 1e-2, "reg": 0.0}, {"lr": 1e-2, "reg": 0.0}, {"lr": 1e-2, "reg": 0.1}]
    found, *_ = refilled(config, data, mixed)
    assert rehearsed[1].num_recorded > 3  # with regularization a step has other operations
    expect_alike(found[2], trained_alone(config, data, 2, mixed[2])[0])


def test_one_that_explodes_makes_room(data, rehearsed):
    config = make_config(EPOCHS, explosion=3.0)
    waiting = [{"lr": 1e-2}, {"lr": 1e6}, {"lr": 2e-2}, {"lr": 1e6}, {"lr": 3e-2}]
    found, _, explosions = refilled(config, data, waiting)
    assert [explosion.number for explosion in explosions] == [1, 3]
    for explosion in explosions:
        pack = Pack(config, data, [TrialSpec(explosion.number, {"lr": 1e6})], engine="loop")
        (alone,) = pack.run_epoch().explosions
        assert (explosion.epoch, explosion.step) == (alone.epoch, alone.step) == (1, alone.step)
        assert explosion.first_cost == pytest.approx(alone.first_cost)
    for number in (0, 2, 4):
        expect_alike(found[number], trained_alone(config, data, number, waiting[number])[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rate", "net"),
    [
        ("model.dropout", {"model__hidden": (6,)}),
        ("model.dropconnect", {"model__hidden": (6,)}),
        ("model.stochastic_depth", {"model__name": "resnet", "model__depth": 8}),
    ],
)
def test_the_rate_of_a_noise_is_its_own(data, rehearsed, rate, net):
    config = make_config(EPOCHS, explosion=1e9, **net)
    config = config.model_copy(update={"space": {rate: FloatRange(0.0, 0.5)}})
    waiting = [{rate: 0.0}, {rate: 0.0}, {rate: 0.5}, {rate: 0.0}]
    found, *_ = refilled(config, data, waiting)
    for number in (2, 3):
        expect_alike(found[number], trained_alone(config, data, number, waiting[number])[0])


def test_one_goes_on_from_its_snapshot(data, rehearsed):
    config = make_config(EPOCHS, train__optimizer="adam")
    alone, _ = trained_alone(config, data, 7, SEARCHED[1])
    _, stopped = trained_alone(config, data, 7, SEARCHED[1], num_epochs=1)
    pack = Pack(config, data, [TrialSpec(0), TrialSpec(1)], engine="graph", refills=True)
    pack.run_epoch()
    pack.drop([0])
    pack.admit([TrialSpec(7, SEARCHED[1])], {7: stopped.snapshot(7)})
    assert (pack.epochs_of(1), pack.epochs_of(7)) == (1, 1)
    later = [result for _ in range(2) for result in pack.run_epoch().results if result.number == 7]
    expect_alike([*alone[:1], *later], alone)
    copy = pack.snapshot(7)
    assert copy.epoch == EPOCHS


@functools.cache
def momentum_alone():
    """What no example changes: the data, the config, and each trial trained alone for all epochs."""
    data = make_data(num_train=30)
    config = make_config(EPOCHS, train__optimizer="momentum")
    return data, config, [trained_alone(config, data, number, params)[0] for number, params in enumerate(SEARCHED)]


@settings(max_examples=5, deadline=None)
@given(st.integers(1, 4), st.sets(st.tuples(st.integers(0, 5), st.integers(1, 2)), max_size=6))
def test_whoever_leaves_and_comes(width, drops):
    data, config, alone = momentum_alone()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph, "recorder_for", lambda _: Rehearsed())
        found, *_ = refilled(config, data, SEARCHED, width, drops)
    for number in range(len(SEARCHED)):
        last = min([epoch for n, epoch in drops if n == number], default=EPOCHS)
        expect_alike(found[number], alone[number][:last])


def test_what_does_not_fit_is_refused(data, rehearsed):
    config = make_config(EPOCHS)
    pack = Pack(config, data, [TrialSpec(0), TrialSpec(1)], engine="graph", refills=True)
    with pytest.raises(EngineError, match=r"trials \[2\] do not fit into a pack of \[0, 1\]"):
        pack.admit([TrialSpec(2)])
    pack.drop([0])
    with pytest.raises(EngineError, match=r"trials \[1\] do not fit"):
        pack.admit([TrialSpec(1)])
    with pytest.raises(EngineError, match="another structure"):
        pack.admit([TrialSpec(2, {"train.batch_size": 3})])
    with pytest.raises(EngineError, match="with dropout do not fit"):
        pack.admit([TrialSpec(2, {"model.dropout": 0.5})])
    with pytest.raises(EngineError, match="trial 0 is not in the pack"):
        pack.epochs_of(0)
    pack.close()
    assert pack.num_vacant == 0


def test_engines_whose_trials_share_batches_take_nobody(data):
    pack = Pack(make_config(EPOCHS), data, [TrialSpec(0), TrialSpec(1)], engine="fused", refills=True)
    pack.drop([0])
    assert pack.num_vacant == 0
    assert all(math.isfinite(result.cost) for result in pack.run_epoch().results)


@pytest.mark.parametrize("optimizer", ["momentum", "adamw"])
def test_updates_in_one_pass_take_their_coefficients(optimizer, rehearsed, interpreted, monkeypatch):
    few = make_data(num_train=18, shape=(1, 2, 2))
    monkeypatch.setattr(state, "make_updater", OnePass)
    config = make_config(EPOCHS, train__optimizer=optimizer, model__hidden=(3,))
    found, *_ = refilled(config, few, SEARCHED[:3], width=1)
    monkeypatch.undo()
    for number, params in enumerate(SEARCHED[:3]):
        expect_alike(found[number], trained_alone(config, few, number, params)[0])
