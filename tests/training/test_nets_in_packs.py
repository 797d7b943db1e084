"""What a net can be made of trains the same in all engines, alone and beside trials of other rates."""

import dataclasses

import pytest
import torch
from plain_training import PlainTrial, dealt, make_config, make_data

from hpsearch.models import build_initialized
from hpsearch.models.lsuv import NUM_IMAGES
from hpsearch.results import TrialSpec
from hpsearch.training import Pack

CONVNET = {"model__name": "convnet", "model__channels": (4, 6), "model__hidden": (5,)}
FUSED = {  # what the fused engine has by hand
    "layer mlp": {"model__hidden": (7, 5), "model__norm": "layer", "model__activation": "silu"},
    "leaky mlp": {"model__hidden": (6,), "model__norm": "batch", "model__activation": "leaky_relu"},
    "linear layers": {"model__hidden": (6, 5), "model__activation": "none"},
    "layer": {**CONVNET, "model__norm": "layer", "model__activation": "elu"},
    "instance": {**CONVNET, "model__norm": "instance", "model__activation": "leaky_relu"},
    "group": {**CONVNET, "model__norm": "group", "model__groups": 2, "model__pool": "average"},
    "no activation": {**CONVNET, "model__activation": "none", "model__pool": "average"},
    "strides": {**CONVNET, "model__stride": 2, "model__pool": "none", "model__kernel": (5, 1), "model__convs": (2, 1)},
    "factors": {**CONVNET, "model__factor": True, "model__norm": "batch", "model__stride": (1, 2)},
    "dropconnect": {"model__hidden": (6, 5), "model__dropconnect": 0.2, "model__dropout": 0.1, "model__norm": "batch"},
    "dropped head": {**CONVNET, "model__hidden": (5,), "model__dropconnect": 0.2},
    "lenet": {"model__name": "lenet", "model__activation": "tanh", "model__dropconnect": 0.2, "model__init_bias": 0.1},
    "dropout of maps": {**CONVNET, "model__dropout": 0.2, "model__dropout_at": "all", "model__norm": "batch"},
}
BY_AUTOGRAD = {
    "linear": {"model__name": "linear", "model__dropconnect": 0.2},
    "resnet": {"model__name": "resnet", "model__depth": 8, "model__stochastic_depth": 0.3, "model__norm": "group"},
    "fixup": {
        "model__name": "resnet", "model__depth": 8, "model__norm": "none", "model__init": "fixup",
        "model__stochastic_depth": 0.2,
    },
}  # fmt: skip
NETS = {**FUSED, **BY_AUTOGRAD}
# What is done by hand is held to one of the engines that have autograd's as well, in turn; all else in both of those.
TRAINS = [
    *dealt(FUSED, ("fused", "loop", "vmap")),
    *((engine, net) for net in BY_AUTOGRAD for engine in ("loop", "vmap")),
]
RATES = {"model.dropout": 0.5, "model.dropconnect": 0.4, "model.stochastic_depth": 0.6}
VECTORS = [{}, {"lr": 3e-3, "reg": 1e-2, **RATES}, {"model.init_scale": 0.5, **dict.fromkeys(RATES, 0.0)}]


def make(net, epochs=2):
    config = make_config(epochs, explosion=1e9, train__batch_size=10, **NETS[net])
    unused = {name for name in RATES if not any(name.replace(".", "__") == key for key in NETS[net])}
    return config, [{k: v for k, v in params.items() if k not in unused} for params in VECTORS]


@pytest.fixture(scope="module")
def data():
    return make_data(num_train=22)


@pytest.fixture(scope="module")
def plain_trials(data):
    found = {}

    def train(net):
        config, all_params = make(net)
        if net not in found:
            found[net] = [PlainTrial(config.with_params(params), data).run() for params in all_params]
        return found[net]

    return train


@pytest.mark.parametrize(("engine", "net"), TRAINS)
def test_each_trial_is_that_of_a_plain_loop(data, plain_trials, engine, net):
    config, all_params = make(net)
    pack = Pack(config, data, [TrialSpec(i, params) for i, params in enumerate(all_params)], engine=engine)
    assert pack.engine == engine
    reports = [pack.run_epoch() for _ in range(2)]
    for number, plain in enumerate(plain_trials(net)):
        state, expected = pack.state(number, "last"), plain.state()
        assert state.keys() == expected.keys()
        for name, tensor in state.items():
            torch.testing.assert_close(tensor, expected[name], rtol=1e-8, atol=1e-9, msg=name)
        measured = [list(dataclasses.astuple(report.results[number])[2:9]) for report in reports]
        assert measured == [pytest.approx(epoch, rel=1e-8, abs=1e-9) for epoch in plain.epochs]


def test_all_groups_of_trials_see_the_same_noise(data, plain_trials, monkeypatch):
    """On a CPU convolutions go through a few trials at a time."""
    monkeypatch.setattr("hpsearch.training.fused.convolutions.CPU_NUMBERS", 1)
    config, all_params = make("dropout of maps")
    pack = Pack(config, data, [TrialSpec(i, params) for i, params in enumerate(all_params)], engine="fused")
    while not pack.done:
        pack.run_epoch()
    for number, plain in enumerate(plain_trials("dropout of maps")):
        for name, tensor in pack.state(number, "last").items():
            torch.testing.assert_close(tensor, plain.state()[name], rtol=1e-8, atol=1e-9, msg=name)


@pytest.mark.parametrize("net", BY_AUTOGRAD)
def test_what_is_not_done_by_hand_is_done_by_another_engine(data, net, caplog):
    config, all_params = make(net)
    pack = Pack(config, data, [TrialSpec(i, params) for i, params in enumerate(all_params)])
    assert pack.engine == ("vmap" if net == "linear" else "loop")
    assert ("fc1 is a DropConnect, in this place" in caplog.text) == (net == "linear")


@pytest.mark.parametrize("net", ["group", "resnet", "dropconnect"])
def test_a_trial_goes_on_from_a_snapshot_and_beside_fewer(data, net):
    config, all_params = make(net)
    specs = [TrialSpec(i, params) for i, params in enumerate(all_params)]
    whole, first = Pack(config, data, specs), Pack(config, data, specs)
    for pack in (whole, first):
        pack.run_epoch()
    again = Pack(config, data, specs, snapshots={number: first.snapshot(number) for number in range(3)})
    again.drop([0])
    whole.run_epoch(), again.run_epoch()
    for number in (1, 2):
        for name, tensor in again.state(number).items():
            torch.testing.assert_close(tensor, whole.state(number)[name], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("engine", ["loop", "vmap", "fused"])
def test_lsuv_begins_with_the_same_weights_for_all_trials_and_engines(data, engine):
    config = make_config(1, model__init="lsuv", model__hidden=(6, 5), model__dropout=0.3)
    specs = [TrialSpec(0), TrialSpec(1, {"model.init_scale": 2.0, "model.dropout": 0.0})]
    pack = Pack(config, data, specs, engine=engine)
    images = data.train_sample(NUM_IMAGES)[0]
    expected = build_initialized(config.model, data.shape, data.num_classes, config.train.seed, images)
    for name, tensor in expected.state_dict().items():
        assert torch.equal(pack.state(0, "last")[name], tensor)
        scale = 2.0 if name.endswith("weight") else 1.0
        assert torch.equal(pack.state(1, "last")[name], scale * tensor)
    first = expected.eval()[:2](images)
    assert first.std(correction=0).item() == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize("engine", ["loop", "fused"])
@pytest.mark.parametrize("net", ["group", "dropout of maps"])
def test_bfloat16_of_maps_is_that_of_autocast(net, engine):
    """Both engines by themselves, from the same weights: they may differ as much as bfloat16 rounds."""
    config, _ = make(net, epochs=1)
    config = config.with_params({"train.precision": "bfloat16"})
    data = make_data(num_train=40, dtype=torch.float32)
    pack = Pack(config, data, [TrialSpec(0), TrialSpec(1, {"lr": 3e-3})], engine=engine)
    exact = Pack(config.with_params({"train.precision": "float32"}), data, [TrialSpec(0)], engine="loop")
    losses = [each.run_epoch().results[0].train_loss for each in (pack, exact)]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
