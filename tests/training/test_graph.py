"""Steps that are recorded: what is recorded when, and what cannot be."""

import logging

import pytest
import torch
from plain_training import PlainTrial, make_config, make_data

from hpsearch.errors import EngineError
from hpsearch.results import TrialSpec
from hpsearch.training import Pack, graph
from hpsearch.training.cuda_graph import WARM_UP
from hpsearch.training.graph import recorder_for  # as it is; for the engine a stand-in takes its place


@pytest.fixture(scope="module")
def data():
    return make_data(num_train=66)  # ten batches of 6, and one of 6: see the batch size


def make_pack(data, epochs=3, engine="graph", **params):
    config = make_config(epochs, explosion=1e9, **params)
    return config, Pack(config, data, [TrialSpec(0, {"lr": 1e-2}), TrialSpec(1, {"reg": 0.1})], engine=engine)


def test_a_step_is_recorded_once_for_each_trial_and_once_for_the_update(data, rehearsed):
    _, pack = make_pack(data)
    for _ in range(3):
        pack.run_epoch()
    assert rehearsed[-1].num_recorded == 3


def test_it_is_recorded_anew_when_a_trial_has_left(data, rehearsed):
    config, pack = make_pack(data)
    pack.run_epoch()
    pack.drop([0])
    for _ in range(2):
        pack.run_epoch()
    assert rehearsed[-1].num_recorded == 3 + 2
    plain = PlainTrial(config.with_params({"reg": 0.1}), data).run()
    for name, tensor in pack.state(1, "last").items():
        torch.testing.assert_close(tensor, plain.state()[name], rtol=1e-9, atol=1e-9)


def test_numbers_lie_where_they_lay_when_they_were_recorded(data):
    """A graph knows addresses, not names."""
    _, pack = make_pack(data, train__optimizer="adam", model__hidden=(5,), model__batch_norm=True)
    pack.run_epoch()
    engine = pack._engine

    def addresses():
        blocks = [engine.state.parameter_blocks, engine.state.buffer_blocks, engine._gradients, engine._buffers]
        blocks += engine.state.optimizer.state.values()
        tensors = [tensor for each in blocks for tensor in each.values()]
        tensors += [
            engine._loss_K,
            *engine._recorded.inputs,
            *engine.state.watch.everything().values(),
            engine.state.lr_K,
        ]
        return [tensor.data_ptr() for tensor in [*tensors, engine.state.cost_sum_K, engine.state.watch.active_K]]

    before = addresses()
    pack.run_epoch()
    pack.snapshot(0)
    assert addresses() == before


def test_batches_of_another_size_are_trained_as_they_are(data, rehearsed):
    odd = make_data(num_train=64)
    config, pack = make_pack(odd)
    for _ in range(3):
        pack.run_epoch()
    assert rehearsed[-1].num_recorded == 3
    plain = PlainTrial(config.with_params({"lr": 1e-2}), odd).run()
    for name, tensor in pack.state(0, "last").items():
        torch.testing.assert_close(tensor, plain.state()[name], rtol=1e-9, atol=1e-9)


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
        return self.linear(x)


@pytest.mark.parametrize(
    ("way", "operator"),
    [("item", "_local_scalar_dense"), ("nonzero", "aten.nonzero"), ("mask", r"aten\.index\.Tensor")],
)
def test_a_net_that_waits_for_its_device_is_refused_with_the_operator(data, monkeypatch, way, operator):
    monkeypatch.setattr("hpsearch.training.pack.build_initialized", lambda *_: Picky(way).double())
    with pytest.raises(EngineError, match=operator):
        make_pack(data, model__name="nets:picky")
    _, pack = make_pack(data, model__name="nets:picky", engine="loop")
    assert pack.run_epoch().results


def test_a_recording_that_fails_costs_a_warning(data, monkeypatch, caplog):
    class Refusing:
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
    plain = PlainTrial(config.with_params({"lr": 1e-2}), data).run()
    for name, tensor in pack.state(0, "last").items():
        torch.testing.assert_close(tensor, plain.state()[name], rtol=1e-9, atol=1e-9)


def test_without_cuda_it_says_so():
    with pytest.raises(EngineError, match="does not run on cpu"):
        recorder_for(torch.device("cpu"))


def test_the_first_steps_are_done_as_they_are(data, rehearsed):
    _, pack = make_pack(data, epochs=1, train__batch_size=22)  # three steps
    pack.run_epoch()
    assert WARM_UP == 3
    assert rehearsed[-1].num_recorded == 0
