"""Steps that are recorded: what is recorded when, and what cannot be."""

import dataclasses
import logging
import random
import re

import numpy as np
import pytest
import torch
from plain_training import PlainTrial, make_config, make_data
from recorded_steps import Rehearsed

from hpsearch.errors import EngineError
from hpsearch.results import TrialSpec
from hpsearch.training import Pack, graph, recorded_steps
from hpsearch.training.choice import compared_engines
from hpsearch.training.recorded_steps import WARM_UP
from hpsearch.training.recorder import recorder_for  # as it is; for the engine a stand-in takes its place


@pytest.fixture(scope="module")
def data():
    return make_data(num_train=66)  # ten batches of 6, and one of 6: see the batch size


def make_pack(data, epochs=3, falls_back=True, **params):
    config = make_config(epochs, explosion=1e9, **params)
    specs = [TrialSpec(0, {"lr": 1e-2}), TrialSpec(1, {"reg": 0.1})]
    return config, Pack(config, data, specs, engine="graph", falls_back=falls_back)


def expect_as_plain(pack, config, data, number, **params):
    plain = PlainTrial(config.with_params(params), data).run()
    for name, tensor in pack.state(number, "last").items():
        torch.testing.assert_close(tensor, plain.state()[name], rtol=1e-9, atol=1e-9)


def run(pack):
    while not pack.done:
        pack.run_epoch()


def test_several_steps_are_one_recording(data, rehearsed):
    """11 batches an epoch: 10 at one go, and the last, before which somebody looks."""
    config, pack = make_pack(data)
    run(pack)
    (recorder,) = rehearsed
    assert recorder.num_recorded == 2  # a step, and MAX_STEPS of them
    assert recorded_steps.MAX_STEPS == 8
    assert recorder.num_replayed == (0 + 1 + 0) + 2 * (1 + 2 + 1) + 7  # 10 = 3 of warm-up + 7; 8 + 2
    expect_as_plain(pack, config, data, 0, lr=1e-2)


def test_noise_is_seeded_for_each_trial_and_step(data, rehearsed):
    """A part of a step can be seeded if it is a recording of its own."""
    config, pack = make_pack(data, model__hidden=(5,), model__dropout=0.5)
    run(pack)
    assert rehearsed[-1].num_recorded == 3  # two trials and the update
    expect_as_plain(pack, config, data, 0, lr=1e-2)
    expect_as_plain(pack, config, data, 1, reg=0.1)


def test_large_steps_are_recorded_one_by_one(data, rehearsed, monkeypatch):
    monkeypatch.setattr(recorded_steps, "MAX_OPERATORS", 10)
    config, pack = make_pack(data)
    run(pack)
    assert rehearsed[-1].num_recorded == 1
    expect_as_plain(pack, config, data, 1, reg=0.1)


def test_it_is_recorded_anew_when_a_trial_has_left(data, rehearsed):
    config, pack = make_pack(data)
    pack.run_epoch()
    pack.drop([0])
    run(pack)
    assert rehearsed[-1].num_recorded == 1 + 2
    expect_as_plain(pack, config, data, 1, reg=0.1)


@pytest.mark.parametrize("augment", [(), ("hflip", "crop:1")])
def test_numbers_lie_where_they_lay_when_they_were_recorded(data, augment):
    """A graph knows addresses, not names."""
    images = dataclasses.replace(data, augment=augment)
    _, pack = make_pack(images, train__optimizer="adam", model__hidden=(5,), model__batch_norm=True)
    pack.run_epoch()
    engine = pack._engine

    def addresses():
        blocks = [
            engine.state.nets.parameter_blocks,
            engine.state.nets.buffer_blocks,
            engine._gradients,
            engine._buffers,
        ]
        blocks += engine.state.optimizer.state.values()
        tensors = [tensor for each in blocks for tensor in each.values()]
        tensors += [engine._loss_K, *engine.state.watch.everything().values(), engine.state.lr_K, engine._steps._place]
        for epoch in engine._steps._epochs:
            tensors += [epoch.order_M, *dict(epoch.noises).values(), epoch.x_NCHW, epoch.y_N]
        return [tensor.data_ptr() for tensor in [*tensors, engine.state.cost_sum_K, engine.state.watch.active_K]]

    before = addresses()
    pack.run_epoch()
    pack.snapshot(0)
    assert addresses() == before


def test_the_last_batch_may_be_smaller(rehearsed):
    odd = make_data(num_train=64)
    config, pack = make_pack(odd, epochs=5)
    run(pack)
    assert rehearsed[-1].num_recorded == 3  # it is recorded, too
    expect_as_plain(pack, config, odd, 0, lr=1e-2)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("net", [{"model__name": "lenet"}, {"model__hidden": (5,), "model__batch_norm": True}])
def test_in_each_precision_recorded_steps_are_those_of_loop_to_the_bit(precision, net):
    data = make_data(num_train=66, dtype=torch.float32)
    config = make_config(3, explosion=1e9, train__precision=precision, train__optimizer="adam", **net)
    specs = [TrialSpec(0, {"lr": 1e-2}), TrialSpec(1, {"reg": 0.1})]
    packs = [Pack(config, data, specs, engine=engine) for engine in ("graph", "loop")]
    for _ in range(3):
        recorded, plain = (pack.run_epoch() for pack in packs)
        assert recorded == plain
    for number in (0, 1):
        for name, tensor in packs[0].state(number).items():
            assert torch.equal(tensor, packs[1].state(number)[name])


class Picky(torch.nn.Module):
    """Looks at its numbers to decide what to do."""

    def __init__(self, way):
        super().__init__()
        self.way, self.linear = way, torch.nn.Linear(64, 4)

    def forward(self, x):
        x = x.flatten(1)
        if self.way == "item" and x.sum().item() > 1e9:
            return x[:, :4]
        if self.way == "nonzero":
            x = x + x.nonzero().shape[0] * 0
        if self.way == "mask":
            x = x + x[x > 0].sum() * 0
        if self.way == "python" and random.random() > 2:
            return x[:, :4]
        if self.way == "numpy":
            x = x * np.random.rand()
        return self.linear(x)


@pytest.mark.parametrize(
    ("way", "operator"),
    [
        ("item", "_local_scalar_dense"),
        ("nonzero", "aten.nonzero"),
        ("mask", r"aten\.index\.Tensor"),
        ("python", "Python's random"),
        ("numpy", "NumPy's random"),
    ],
)
def test_a_net_that_waits_for_its_device_is_trained_by_loop_and_the_operator_named(
    data, monkeypatch, caplog, way, operator
):
    monkeypatch.setattr("hpsearch.training.initial_state.build_initialized", lambda *_: Picky(way).double())
    with caplog.at_level(logging.WARNING, "hpsearch"):
        _, pack = make_pack(data, model__name="nets:picky")
    assert pack.engine == "loop"
    assert pack.run_epoch().results
    [message] = [record.message for record in caplog.records]
    assert message.startswith("graph cannot train model nets:picky, so loop does: ")
    assert re.search(operator, message)
    with pytest.raises(EngineError, match=operator):  # nobody times one for the other
        make_pack(data, model__name="nets:picky", falls_back=False)


def test_a_recording_that_fails_costs_a_warning(data, monkeypatch, caplog):
    class Refusing(Rehearsed):
        def record(self, work, lane=None):
            raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(graph, "recorder_for", lambda _: Refusing())
    config, pack = make_pack(data)
    with caplog.at_level(logging.WARNING, "hpsearch"):
        for _ in range(3):
            pack.run_epoch()
    assert [record.message for record in caplog.records if "cannot be recorded" in record.message] == [
        "the step cannot be recorded, so it goes on as in run.engine = loop: "
        "operation not permitted when stream is capturing"
    ]
    expect_as_plain(pack, config, data, 0, lr=1e-2)


def test_without_cuda_it_says_so():
    with pytest.raises(EngineError, match="does not run on cpu"):
        recorder_for(torch.device("cpu"))


def test_the_first_steps_are_done_as_they_are(data, rehearsed):
    _, pack = make_pack(data, epochs=1, train__batch_size=22)  # three steps
    pack.run_epoch()
    assert WARM_UP == 3
    assert rehearsed[-1].num_recorded == 0


class Forgetful(Rehearsed):
    """Its replays do something else at the end."""

    def record(self, work, lane=None):
        replay = super().record(work, lane)
        return lambda: (replay(), self.spoil())


def test_a_recording_that_does_something_else_is_not_used(data, monkeypatch, caplog):
    recorder = Forgetful()
    monkeypatch.setattr(graph, "recorder_for", lambda _: recorder)
    config, pack = make_pack(data)
    recorder.spoil = lambda: next(iter(pack._state.nets.parameters.values()))[1].mul_(1.01)
    with caplog.at_level(logging.WARNING, "hpsearch"):
        run(pack)
    assert [r.message for r in caplog.records if "differs from a plain one" in r.message]
    for number, params in ((0, {"lr": 1e-2}), (1, {"reg": 0.1})):
        expect_as_plain(pack, config, data, number, **params)


def test_it_is_among_those_that_are_timed_on_cuda():
    assert "graph" in compared_engines(torch.device("cuda"))
    assert "graph" not in compared_engines(torch.device("cpu"))
