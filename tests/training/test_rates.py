"""Rates of parts of a net: what torch.optim gives with a parameter group for each."""

import pytest
import torch
from plain_training import PlainTrial, dealt, make_config, make_data

from hpsearch.config import FloatRange
from hpsearch.errors import EngineError
from hpsearch.results import TrialSpec
from hpsearch.training import Pack

OPTIMIZERS = ["sgd", "momentum", "nesterov", "adam", "adamw"]
NETS = {
    "mlp": {"model__name": "mlp", "model__hidden": (7, 5, 4), "model__batch_norm": True},
    "lenet": {"model__name": "lenet", "model__activation": "tanh"},
}
STAGES = {  # from the head on
    "mlp": [("fc4",), ("fc3", "fc_norm3"), ("fc2", "fc_norm2"), ("fc1", "fc_norm1")],
    "lenet": [("fc3",), ("fc2",), ("fc1",), ("conv2",), ("conv1",)],
}
VECTORS = [
    {"train.body_lr": 0.1},
    {"reg": 0.1, "train.weight_decay": 0.2},
    {"train.layer_decay": 0.5, "train.weight_decay": 0.3},
    {"train.body_lr": 0.3, "train.layer_decay": 0.7, "reg": 1e-2},
]


class PlainRates(PlainTrial):
    """A parameter group for each parameter."""

    def __init__(self, config, data, stages):
        super().__init__(config, data)
        train = config.train
        options = {
            key: self.optimizer.defaults[key]
            for key in ("momentum", "nesterov", "betas")
            if key in self.optimizer.defaults
        }
        groups = []
        for name, parameter in self.module.named_parameters():
            depth = next(d for d, layers in enumerate(stages) if name.rpartition(".")[0] in layers)
            factor = train.body_lr * train.layer_decay**depth if depth else 1.0
            decay = train.weight_decay if parameter.ndim > 1 and train.optimizer == "adamw" else 0.0
            groups.append({"params": [parameter], "lr": train.lr * factor, "weight_decay": decay})
        self.optimizer = type(self.optimizer)(groups, train.lr, **options)
        self.scheduler = torch.optim.lr_scheduler.ExponentialLR(self.optimizer, train.lr_decay)


@pytest.fixture(scope="module")
def plain_rates():
    """Trained once, though all engines are held to it: config, data, net -> weights."""
    found = {}

    def train(config, data, net):
        key = config.model_dump_json()  # images are the same in all tests
        if key not in found:
            found[key] = PlainRates(config, data, STAGES[net]).run().state()
        return found[key]

    return train


def assert_same(state, expected):
    for name, tensor in expected.items():
        torch.testing.assert_close(state[name], tensor, rtol=1e-9, atol=1e-9, msg=name)


@pytest.mark.parametrize(("engine", "case"), dealt([*(("mlp", each) for each in OPTIMIZERS), ("lenet", "adamw")]))
def test_each_stage_trains_with_its_own_rate(rehearsed, plain_rates, engine, case):
    net, optimizer = case
    data, config = make_data(), make_config(1, explosion=1e9, train__optimizer=optimizer, **NETS[net])
    pack = Pack(config, data, [TrialSpec(n, params) for n, params in enumerate(VECTORS)], engine=engine)
    pack.run_epoch()
    for number, params in enumerate(VECTORS):
        assert_same(pack.state(number, "last"), plain_rates(config.with_params(params), data, net))


@pytest.mark.parametrize("optimizer", ["momentum", "adamw"])
def test_large_weights_have_rates_too(plain_rates, optimizer, monkeypatch):
    monkeypatch.setattr("hpsearch.training.fused.engine.LARGE", 16)
    data, config = make_data(), make_config(1, explosion=1e9, train__optimizer=optimizer, **NETS["mlp"])
    pack = Pack(config, data, [TrialSpec(n, params) for n, params in enumerate(VECTORS)], engine="fused")
    pack.run_epoch()
    for number, params in enumerate(VECTORS):
        assert_same(pack.state(number, "last"), plain_rates(config.with_params(params), data, "mlp"))


def test_trials_with_rates_come_only_where_there_is_room_for_them(rehearsed):
    data, config = make_data(), make_config(1, explosion=1e9, **NETS["mlp"])
    late = TrialSpec(1, {"train.layer_decay": 0.5})
    pack = Pack(config, data, [TrialSpec(0)], engine="graph", refills=True)
    pack.run_epoch()
    pack.drop([0])
    with pytest.raises(EngineError, match=r"train\.layer_decay do not fit"):
        pack.admit([late])
    searched = config.model_copy(update={"space": {"train.layer_decay": FloatRange(0.1, 1.0)}})
    pack = Pack(searched, data, [TrialSpec(0)], engine="graph", refills=True)
    pack.run_epoch()
    pack.drop([0])
    pack.admit([late])
    pack.run_epoch()
    plain = PlainRates(config.with_params(late.params), data, STAGES["mlp"]).run()
    assert_same(pack.state(1, "last"), plain.state())
