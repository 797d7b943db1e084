"""Operators or kernels: timed once for each shape before anything is recorded, and the same nets whichever it is."""

import logging
import sys
from copy import copy

import pytest
import torch
from interpreted_kernels import interpreted as interpreted
from plain_training import PlainTrial, make_config, make_data
from recorded_steps import Rehearsed
from small_convolutions import Small
from torch import nn

from hpsearch.results import TrialSpec
from hpsearch.training import Pack
from hpsearch.training.fused import convolution_choice, nets
from hpsearch.training.fused.batched_convolutions import BatchedConvolution
from hpsearch.training.fused.convolution_choice import Chooser, ChosenConvolution, InTurn, chooser_for, with_choices
from hpsearch.training.fused.convolutions import MaxPool2d
from hpsearch.training.fused.engine import FusedEngine
from hpsearch.training.fused.layers import Activation

NETS = {
    "lenet": {"model__name": "lenet", "model__activation": "tanh"},
    "convnet": {
        "model__name": "convnet", "model__channels": (3, 2), "model__hidden": (5,), "model__batch_norm": True,
    },
}  # fmt: skip
LARGER = {
    "plain convnet": {"model__name": "convnet", "model__channels": (2, 3), "model__hidden": (), "model__convs": 2},
    "gelu": {"model__name": "convnet", "model__channels": (3,), "model__activation": "gelu"},
}
VECTORS = [{"lr": 3e-3}, {"lr": 1e-2, "reg": 1e-2}, {"model.init_scale": 0.5}, {"lr": 1e-3}]


class Timer:
    """Says that kernels take 1 and operators `operators`; counts."""

    def __init__(self, operators=2.0, tell=lambda: None):
        self.operators, self.tell, self.told = operators, tell, []

    def __call__(self, work):
        work()
        self.told.append(self.tell())
        return [1.0, self.operators][(len(self.told) - 1) % 2]


def use(monkeypatch, timer):
    chooser = Chooser(timer)
    monkeypatch.setattr(nets, "chooser_for", lambda _device: chooser)
    return timer


def convolutions(pack):
    (layers,) = pack._engine._layers[0]._groups
    return [layer for layer in layers if isinstance(layer, ChosenConvolution)]


def small_data(**options):
    return make_data(num_train=12, num_val=5, **options)


def test_on_a_cpu_nothing_is_chosen():
    assert chooser_for(torch.device("cpu")) is None
    layers = Small(nn.Conv2d(1, 1, 2)).layers
    assert with_choices(layers, None) is layers
    pack = Pack(make_config(1, **NETS["lenet"]), small_data(), [TrialSpec(0)], engine="fused")
    pack.run_epoch()
    assert convolutions(pack) == []


def test_layers_are_joined_as_far_as_one_kernel_goes():
    small = Small(nn.Conv2d(2, 3, 3))
    gelu = Activation(small.layers[0]._state, "", slice(None), nn.GELU())
    joined = with_choices([*small.layers, small.layers[0], gelu], Chooser(Timer()))
    assert [type(layer) for layer in joined] == [ChosenConvolution, ChosenConvolution, Activation]
    assert [len(layer.operators._layers) for layer in joined[:2]] == [3, 1]
    assert [layer.is_first for layer in joined[:2]] == [True, False]


def numbers(value=1.0):
    return lambda: [torch.full((3,), value), torch.tensor([1.0, -2.0])]


@pytest.mark.parametrize(("operators", "expected"), [(2.0, True), (0.5, False)])
def test_the_quicker_way_is_taken_and_remembered(operators, expected):
    timer = Timer(operators)
    chooser = Chooser(timer)
    for _ in range(3):
        assert chooser.prefers_kernels("key", numbers(), numbers(), 1e-3) is expected
    assert len(timer.told) == 2
    chooser.prefers_kernels("another", numbers(), numbers(), 1e-3)
    assert len(timer.told) == 4


def fails():
    raise ValueError("no compiler")


def is_no_number():
    return [torch.tensor([1.0, torch.nan, 1.0]), torch.tensor([1.0, -2.0])]


@pytest.mark.parametrize(
    ("kernels", "words"),
    [
        (fails, "ValueError: no compiler"),
        (numbers(1.01), "another outcome"),
        (is_no_number, "another outcome"),
        (lambda: numbers()()[:1], "another outcome"),
        (lambda: [torch.ones(2), torch.tensor([1.0, -2.0])], "another outcome"),
        (lambda: [torch.ones(3), torch.tensor([1.0, 2.0])], "another outcome"),
    ],
)
def test_kernels_that_fail_or_give_another_outcome_are_left_out(kernels, words, caplog):
    timer = Timer()
    chooser = Chooser(timer)
    with caplog.at_level(logging.DEBUG, logger="hpsearch"):
        for _ in range(2):
            assert not chooser.prefers_kernels("key", numbers(), kernels, 1e-3)
    assert [record.levelno for record in caplog.records] == [logging.DEBUG]
    assert words in caplog.text
    assert timer.told == []


def test_without_triton_operators_go_on(monkeypatch, caplog):
    use(monkeypatch, Timer())
    monkeypatch.setitem(sys.modules, "hpsearch.training.fused.convolution_kernels", None)
    monkeypatch.delattr("hpsearch.training.fused.convolution_kernels", raising=False)
    config, data, specs = make_config(1, **NETS["lenet"]), small_data(), [TrialSpec(0), TrialSpec(1)]
    with caplog.at_level(logging.DEBUG, logger="hpsearch"):
        pack = Pack(config, data, specs, engine="fused")
        results = pack.run_epoch().results
    assert all(isinstance(layer._chosen, InTurn) for layer in convolutions(pack))
    assert caplog.text.count("operators do convolutions: ImportError") + caplog.text.count("ModuleNotFoundError") == 2
    monkeypatch.setattr(nets, "chooser_for", lambda _device: None)
    assert results == Pack(config, data, specs, engine="fused").run_epoch().results


@pytest.mark.parametrize("net", [*NETS, *(pytest.param(net, marks=pytest.mark.slow) for net in LARGER)])
def test_packs_train_the_same_by_kernels(interpreted, net, monkeypatch):
    config = make_config(1, 1e9, train__optimizer="adam", **(NETS | LARGER)[net])
    data = small_data(shape=(2, 7, 8))
    specs = [TrialSpec(number, params) for number, params in enumerate(VECTORS[:2])]
    plain = Pack(config, data, specs, engine="fused")
    use(monkeypatch, Timer())
    ours = Pack(config, data, specs, engine="fused")
    for found, expected in zip(ours.run_epoch().results, plain.run_epoch().results, strict=True):
        assert (found.cost, found.val_loss) == pytest.approx((expected.cost, expected.val_loss), rel=1e-10)
    assert {type(layer._chosen) for layer in convolutions(ours)} == {BatchedConvolution}
    for number, params in enumerate(VECTORS[:2]):
        torch.testing.assert_close(ours.snapshot(number).tensors, plain.snapshot(number).tensors, rtol=1e-8, atol=1e-10)
        alone = PlainTrial(config.with_params(params), data).run()
        torch.testing.assert_close(ours.state(number, "last"), alone.state(), rtol=1e-9, atol=1e-9)


@pytest.mark.slow
def test_bfloat16_packs_stay_near_those_by_operators(interpreted, monkeypatch):
    config = make_config(2, 1e9, train__precision="bfloat16", model__name="lenet")
    data, costs = small_data(dtype=torch.float32), {}
    for way in ("operators", "kernels"):
        if way == "kernels":
            use(monkeypatch, Timer())
        pack = Pack(config, data, [TrialSpec(0), TrialSpec(1, {"lr": 3e-3})], engine="fused")
        costs[way] = [[result.cost for result in pack.run_epoch().results] for _ in range(2)]
    assert {type(layer._chosen) for layer in convolutions(pack)} == {BatchedConvolution}
    for found, expected in zip(costs["kernels"], costs["operators"], strict=True):
        assert found == pytest.approx(expected, rel=0.01)


class AsOperatorsDo(InTurn):
    """In place of kernels."""

    def __init__(self, run):
        about = run.conv._state, "", run.conv._trials
        others = [MaxPool2d(*about, nn.MaxPool2d(2))] if run.pools else []
        others += [Activation(*about, run.activation())] if run.activation else []
        super().__init__([copy(run.conv), *others])


def test_timing_is_on_whole_batches_before_a_recording_and_not_again_for_a_trial_less(monkeypatch):
    config, data = make_config(6, 1e9, **NETS["lenet"]), make_data(num_train=20, num_val=3)  # batches of 6, 6, 6, 2
    recorders = []
    timer = use(monkeypatch, Timer(tell=lambda: recorders[-1].num_recorded))
    monkeypatch.setattr(convolution_choice, "BatchedConvolution", AsOperatorsDo)

    def ways(pack):
        return {type(layer._chosen) for layer in convolutions(pack)}

    pack = Pack(config, data, [TrialSpec(number, params) for number, params in enumerate(VECTORS)], engine="fused")
    assert (timer.told, ways(pack)) == ([], {InTurn})  # the engine was tried on two images

    def prepare():
        FusedEngine._prepare(pack._engine)
        recorders.append(Rehearsed())
        pack._engine._steps = pack._engine._record_steps(recorders[-1])

    monkeypatch.setattr(pack._engine, "_prepare", prepare)
    prepare()
    for leaving, num_timed in ((3, 4), (2, 4), (1, 8)):  # two layers by two ways; again where K is half of what it was
        for _ in range(2):
            pack.run_epoch()
        assert (timer.told, ways(pack)) == ([0] * num_timed, {AsOperatorsDo})
        assert recorders[-1].num_recorded > 0
        pack.drop([leaving])


def test_what_is_left_out_is_forgotten(interpreted):
    """It holds an input and an output of its layer."""
    small = Small(nn.Conv2d(2, 3, 3))
    layer = ChosenConvolution(small.run, small.layers, Chooser(Timer()), is_first=False)
    assert isinstance(layer._chosen, InTurn)
    layer.forward(small.x, None)
    assert isinstance(layer.operators, InTurn)
    layer.forward(small.x, {})
    assert layer.operators is layer.kernels is layer._chosen
    assert isinstance(layer._chosen, BatchedConvolution)


def test_the_key_is_the_shape(interpreted):
    def key(**options):
        small = Small(nn.Conv2d(2, 3, 3, **options.pop("conv", {})), **options)
        return ChosenConvolution(small.run, small.layers, Chooser(Timer()), is_first=False)._key(small.x)

    assert key(num_trials=5) == key(num_trials=8) != key(num_trials=9)
    others = [
        {"num_images": 5}, {"size": (7, 7)}, {"pool": False}, {"activation": nn.ReLU}, {"dtype": torch.float32},
        {"conv": {"bias": False}}, {"conv": {"padding": 1}}, {"dtype": torch.float32, "precision": "bfloat16"},
    ]  # fmt: skip
    assert len({key(**options) for options in [{}, *others]}) == len(others) + 1


def test_timing_takes_no_noise_from_the_step_and_leaves_the_input(interpreted):
    small = Small(nn.Conv2d(2, 3, 3))
    layer = ChosenConvolution(small.run, small.layers, Chooser(Timer()), is_first=False)
    state, before = torch.get_rng_state(), small.x.clone()
    layer.forward(small.x, {})
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(small.x, before)


def test_plain_images_hide_no_difference_and_make_none(interpreted):
    """All numbers of a window are the maximum of an image of one colour."""
    small = Small(nn.Conv2d(2, 3, 3))
    layer = ChosenConvolution(small.run, small.layers, Chooser(Timer()), is_first=False)
    layer.forward(torch.ones_like(small.x), {})
    assert isinstance(layer._chosen, BatchedConvolution)
    outputs = [layer.work(small.operators, torch.zeros_like(small.x))()[0] for _ in range(2)]
    assert torch.equal(*outputs)
    assert outputs[0].unique().numel() > outputs[0].numel() / 2
