"""Every engine gives each trial what an ordinary training loop gives it."""

import dataclasses
import itertools

import pytest
import torch
from plain_training import PlainTrial, dealt, make_data, trained
from plain_training import make_config as make_any_config

from hpsearch.results import TrialSpec
from hpsearch.training import Pack
from hpsearch.training.choice import ENGINES

OPTIMIZERS = ["sgd", "momentum", "nesterov", "adam", "adamw"]
NETS = {
    "mlp": {"model__name": "mlp", "model__hidden": (7, 5), "model__dropout": 0.2},
    "lenet": {"model__name": "lenet", "model__activation": "tanh"},
    "convnet": {
        "model__name": "convnet", "model__channels": (3, 4), "model__hidden": (5,), "model__batch_norm": True,
        "model__dropout": 0.3,
    },
}  # fmt: skip
TRAINS = [(engine, net) for net in NETS for engine in ENGINES]  # all engines are held to one plain loop, then the next
LOSSES = ["mlp", "convnet"]  # a loss ends at the scores
# Each optimizer and each net in each engine. Updates know of no layers: a net for each optimizer is enough.
THIRTY_STEPS = [("mlp", "sgd"), ("lenet", "momentum"), ("mlp", "nesterov"), ("convnet", "adam"), ("convnet", "adamw")]
VECTORS = [
    {},
    {"lr": 3e-3, "reg": 1e-2, "train.l1": 1e-3, "train.momentum": 0.5, "train.weight_decay": 0.1},
    {"lr": 2e-3, "model.dropout": 0.5, "train.label_smoothing": 0.2, "train.lr_decay": 0.7},
    {"reg": 0.1, "model.init_scale": 0.5, "train.beta2": 0.9, "train.weight_decay": 0.01},
    {"train.l1": 1e-2, "model.dropout": 0.0, "train.momentum": 0.1},
]


def make_config(epochs=5, **params):
    """Nobody explodes: nets this small are noisy."""
    return make_any_config(epochs, explosion=1e9, **params)


@pytest.fixture(scope="module")
def data():
    return make_data()


@pytest.fixture(scope="module")
def plain_trial(data):
    """Plain runs, each trained once for all engines and widths: (config key, params) -> PlainTrial."""
    found = {}

    def train(config, params):
        key = (config.model_dump_json(), str(params))
        if key not in found:
            found[key] = PlainTrial(config.with_params(params), data).run()
        return found[key]

    return train


def assert_same_state(state, expected, tolerance=1e-9):
    assert state.keys() == expected.keys()
    for name, tensor in state.items():
        torch.testing.assert_close(tensor, expected[name], rtol=tolerance, atol=tolerance, msg=name)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("net", "optimizer"), THIRTY_STEPS)
def test_thirty_steps_equal_a_plain_loop(data, plain_trial, engine, net, optimizer):
    config, all_params = make_config(epochs=3, train__optimizer=optimizer, **NETS[net]), VECTORS
    if net == "lenet":
        all_params = [{k: v for k, v in params.items() if k != "model.dropout"} for params in all_params]
    pack = Pack(config, data, [TrialSpec(10 + i, params) for i, params in enumerate(all_params)], engine=engine)
    reports = [pack.run_epoch() for _ in range(3)]
    assert pack.done
    for slot, params in enumerate(all_params):
        plain = plain_trial(config, params)
        assert_same_state(pack.state(10 + slot, "last"), plain.state())
        for epoch, (report, expected) in enumerate(zip(reports, plain.epochs, strict=True), start=1):
            number, its_epoch, *measured, score, _ = dataclasses.astuple(report.results[slot])
            assert (number, its_epoch, score) == (10 + slot, epoch, None)
            assert measured == pytest.approx(expected, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(("engine", "net"), dealt(NETS))
def test_float32_stays_close_over_a_short_run(engine, net):
    data = make_data(dtype=torch.float32)
    config = make_config(epochs=1, train__precision="float32", **(NETS[net] | {"model__batch_norm": True}))
    pack = Pack(config, data, [TrialSpec(i, params) for i, params in enumerate(VECTORS)], engine=engine)
    pack.run_epoch()
    for number, params in enumerate(VECTORS):
        plain = trained(config.with_params(params), data)
        assert_same_state(pack.state(number), plain.state(), tolerance=1e-4)
        assert all(tensor.dtype in (torch.float32, torch.int64) for tensor in pack.state(number).values())


@pytest.mark.parametrize(("engine", "case"), dealt(itertools.product(LOSSES, ["none", "balanced"])))
def test_focal_losses_and_weights_of_classes_are_plain(engine, case):
    net, class_weights = case
    data = make_data(num_train=60)
    few = (data.y_train_N != 1) | (torch.arange(60) % 3 == 0)  # of one class a third
    data = dataclasses.replace(data, x_train_NCHW=data.x_train_NCHW[few], y_train_N=data.y_train_N[few])
    config = make_config(epochs=2, train__class_weights=class_weights, **NETS[net])
    all_params = [{}, {"train.focal": 2.0}, {"train.focal": 0.5, "train.label_smoothing": 0.2, "reg": 0.01}]
    pack = Pack(config, data, [TrialSpec(i, params) for i, params in enumerate(all_params)], engine=engine)
    while not pack.done:
        report = pack.run_epoch()
    pack.drop([0])  # coefficients go with their trials
    for number, params in enumerate(all_params[1:], start=1):
        plain = trained(config.with_params(params), data)
        assert_same_state(pack.state(number, "last"), plain.state())
        measured = list(dataclasses.astuple(report.results[number])[2:9])
        assert measured == pytest.approx(plain.epochs[-1], rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(("engine", "case"), dealt(itertools.product(LOSSES, ["squared", "hinge"])))
def test_losses_of_scores_are_plain(engine, case):
    """Smoothing is of squared error alone, gamma of neither."""
    (net, loss), class_weights = case, "none" if case[1] == "squared" else "balanced"
    data = make_data(num_train=60)
    few = (data.y_train_N != 1) | (torch.arange(60) % 3 == 0)
    data = dataclasses.replace(data, x_train_NCHW=data.x_train_NCHW[few], y_train_N=data.y_train_N[few])
    config = make_config(epochs=2, train__loss=loss, train__class_weights=class_weights, lr=1e-3, **NETS[net])
    all_params = [{}, {"train.focal": 2.0, "reg": 0.01}, {"train.label_smoothing": 0.2, "lr": 3e-3}]
    pack = Pack(config, data, [TrialSpec(i, params) for i, params in enumerate(all_params)], engine=engine)
    while not pack.done:
        report = pack.run_epoch()
    pack.drop([0])
    for number, params in enumerate(all_params[1:], start=1):
        plain = trained(config.with_params(params), data)
        assert_same_state(pack.state(number, "last"), plain.state())
        measured = list(dataclasses.astuple(report.results[number])[2:9])
        assert measured == pytest.approx(plain.epochs[-1], rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("engine", ENGINES)
def test_batch_norm_statistics_after_an_epoch_are_torchs(data, engine):
    config = make_config(epochs=1, model__name="mlp", model__batch_norm=True)
    pack = Pack(config, data, [TrialSpec(0, {"lr": 0.1}), TrialSpec(1)], engine=engine)
    pack.run_epoch()
    plain = trained(config.with_params({"lr": 0.1}), data)
    state = pack.state(0)
    assert state["fc_norm1.num_batches_tracked"] == 10
    assert not torch.allclose(state["fc_norm1.running_mean"], torch.zeros(50, dtype=torch.float64))
    assert_same_state(state, plain.state())


@pytest.mark.parametrize(("engine", "net"), TRAINS)
def test_a_trial_alone_gives_what_it_gives_in_a_pack(data, engine, net):
    config = make_config(epochs=2, **NETS[net])
    specs = [TrialSpec(i, params) for i, params in enumerate(VECTORS)]
    together, alone = Pack(config, data, specs, engine=engine), Pack(config, data, specs[2:3], engine=engine)
    for _ in range(2):
        in_pack, by_itself = together.run_epoch().results[2], alone.run_epoch().results[0]
        assert in_pack.as_plain() == pytest.approx(by_itself.as_plain(), rel=1e-9)
    assert_same_state(together.state(2, "last"), alone.state(2, "last"))


def test_engines_see_the_same_dropout_noise(data):
    config = make_config(epochs=1, **NETS["mlp"])
    packs = [Pack(config, data, [TrialSpec(0), TrialSpec(1, {"model.dropout": 0.6})], engine=name) for name in ENGINES]
    results = [[list(result.as_plain().values()) for result in pack.run_epoch().results] for pack in packs]
    assert results[0][0][2] != pytest.approx(results[0][1][2], rel=1e-3)  # the rate is per trial
    for one, *others in zip(*results, strict=True):
        assert all(one == pytest.approx(other, rel=1e-12) for other in others)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_callers_random_state_stays(data, engine):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    pack = Pack(make_config(**NETS["mlp"]), data, [TrialSpec(0)], engine=engine)
    pack.run_epoch()
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("net", NETS)
def test_evaluation_in_small_chunks_gives_the_same(data, net, monkeypatch):
    monkeypatch.setattr("hpsearch.training.engine.CPU_CHUNK", 1)
    config = make_config(epochs=1, **NETS[net])
    result = Pack(config, data, [TrialSpec(0)]).run_epoch().results[0]
    plain = PlainTrial(config, data).run()
    assert dataclasses.astuple(result)[2:9] == pytest.approx(plain.epochs[0], rel=1e-9)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("engine", "net"), [*((engine, "convnet") for engine in ENGINES), ("fused", "mlp")])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_gpu_gives_what_a_cpu_gives(data, engine, net, optimizer):
    tensors = {name: getattr(data, name).cuda() for name in ("x_train_NCHW", "y_train_N", "x_val_NCHW", "y_val_N")}
    config = make_config(
        epochs=2, train__optimizer=optimizer, **(NETS[net] | {"model__batch_norm": True, "model__dropout": 0.0})
    )
    # Without dropout, whose noise is the device's own; trial 1 explodes.
    specs = [TrialSpec(0, {"reg": 0.01}), TrialSpec(1, {"lr": 1e200}), TrialSpec(2, {"train.l1": 0.01})]
    cpu, gpu = (Pack(config, d, specs, engine=engine) for d in (data, dataclasses.replace(data, **tensors)))
    reports = [(cpu.run_epoch(), gpu.run_epoch()) for _ in range(2)]
    assert [explosion.step for explosion in reports[0][0].explosions] == [
        explosion.step for explosion in reports[0][1].explosions
    ]
    for number in cpu.numbers:
        for which in ("last", "best"):
            on_cpu = {name: tensor.cpu() for name, tensor in gpu.state(number, which).items()}
            assert_same_state(on_cpu, cpu.state(number, which))
