"""The fused engine is the others, faster: random nets agree, explosions stay alone, trials move between engines."""

import logging

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_training import make_config, make_data
from recorded_steps import Rehearsed
from torch import nn

from hpsearch.errors import EngineError
from hpsearch.results import TrialSpec
from hpsearch.training import Pack
from hpsearch.training.choice import ENGINES
from hpsearch.training.fused import convolutions as fused_conv
from hpsearch.training.fused import engine as fused
from hpsearch.training.fused.engine import FusedEngine
from hpsearch.training.recorded_steps import WARM_UP

ACTIVATIONS = (nn.ReLU, nn.Tanh, nn.Sigmoid, nn.GELU)
OPTIMIZERS = ["sgd", "momentum", "nesterov", "adam", "adamw"]
NETS = {
    "mlp": {"model__hidden": (6, 5), "model__batch_norm": True},
    "convnet": {"model__name": "convnet", "model__channels": (3, 4), "model__hidden": (5,), "model__batch_norm": True},
    "lenet": {"model__name": "lenet", "train__precision": "float32"},  # convolutions by another library
}
EVERYTHING = {
    "lr": 3e-3, "reg": 1e-2, "train.l1": 1e-3, "train.momentum": 0.5, "train.beta2": 0.9, "train.weight_decay": 0.1,
    "train.label_smoothing": 0.2, "model.dropout": 0.3, "model.init_scale": 0.5,
}  # fmt: skip


@pytest.fixture(scope="module")
def data():
    return make_data(num_train=23, num_val=9, shape=(2, 5, 4), num_classes=3)


WAYS_OF_UPDATE = {"stacked": 10**9, "compiled": 0}  # all weights by stacked operators, or all of them trial by trial


def update_by(way, monkeypatch):
    monkeypatch.setattr(fused, "LARGE", WAYS_OF_UPDATE[way])


@pytest.fixture(params=WAYS_OF_UPDATE)
def ways_of_update(request, monkeypatch):
    update_by(request.param, monkeypatch)


@st.composite
def trials(draw):
    def number(low, high):
        return draw(st.one_of(st.just(low), st.floats(low, high)))

    return [
        {
            "lr": draw(st.floats(1e-4, 1e-2)), "reg": number(0, 0.1), "train.l1": number(0, 0.01),
            "train.momentum": number(0, 0.95), "train.beta2": draw(st.floats(0.5, 0.999)),
            "train.weight_decay": number(0, 0.1), "train.label_smoothing": number(0, 0.5),
            "model.dropout": number(0, 0.8), "model.init_scale": draw(st.floats(0.3, 2)),
        }
        for _ in range(draw(st.integers(1, 4)))
    ]  # fmt: skip


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(
    structure=st.fixed_dictionaries(
        {
            "model__name": st.sampled_from(["mlp", "mlp", "linear", "convnet", "convnet", "lenet"]),
            "model__hidden": st.lists(st.integers(1, 6), min_size=1, max_size=3).map(tuple),
            "model__channels": st.lists(st.integers(1, 4), min_size=1, max_size=2).map(tuple),
            "model__convs": st.integers(1, 2),
            "model__pool": st.booleans(),
            "model__activation": st.sampled_from(["relu", "tanh", "sigmoid", "gelu"]),
            "model__batch_norm": st.booleans(),
            "train__optimizer": st.sampled_from(OPTIMIZERS),
            "train__batch_size": st.integers(4, 23),
        }
    ),
    params=trials(),
    way_of_update=st.sampled_from(list(WAYS_OF_UPDATE)),
    at_a_time=st.sampled_from([1, 4000, 10**9]),
    leaving=st.integers(0, 3),
)
def test_all_engines_agree_on_random_nets(data, structure, params, way_of_update, at_a_time, leaving):
    if structure["model__name"] == "convnet" and structure["model__batch_norm"]:
        # A normalization may follow another one's shift, whose gradient is 0 then: Adam would scale what rounding left.
        structure["train__optimizer"] = (
            structure["train__optimizer"].replace("adamw", "sgd").replace("adam", "momentum")
        )
    if structure["model__name"] == "lenet":  # has no dropout
        params = [{key: value for key, value in each.items() if key != "model.dropout"} for each in params]
    config = make_config(epochs=3, explosion=1e9, **structure)
    specs = [TrialSpec(number, each) for number, each in enumerate(params)]
    results, tensors = {}, {}
    with pytest.MonkeyPatch.context() as patch:
        update_by(way_of_update, patch)
        patch.setattr(fused_conv, "CPU_NUMBERS", at_a_time)
        for engine in ENGINES:
            pack = Pack(config, data, specs, engine=engine)
            results[engine] = [[result.cost, result.val_loss] for result in pack.run_epoch().results]
            if leaving < len(specs) > 1:
                pack.drop([leaving])
            results[engine] += [[r.cost, r.train_loss, r.update_ratio] for r in pack.run_epoch().results]
            tensors[engine] = [pack.snapshot(number).tensors for number in pack.numbers]
            assert pack.engine == engine
    for engine in set(ENGINES) - {"loop"}:
        for found, expected in zip(results[engine], results["loop"], strict=True):
            assert found == pytest.approx(expected, rel=1e-8)
        for found, expected in zip(tensors[engine], tensors["loop"], strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-10)


@st.composite
def convolutional(draw):
    """Convolutions and pools of any geometry that fits images of (2, 9, 8), then a linear layer."""
    layers, shape = [], (2, 9, 8)

    def pair(low, high):
        return draw(st.one_of(st.integers(low, high), st.tuples(st.integers(low, high), st.integers(low, high))))

    for _ in range(draw(st.integers(1, 4))):
        kernel, stride, dilation = pair(1, 3), pair(1, 2), draw(st.integers(1, 2))
        smallest = min(kernel) if isinstance(kernel, tuple) else kernel
        if layers and draw(st.booleans()):
            padding, ceil_mode = draw(st.integers(0, smallest // 2)), draw(st.booleans())
            # A window that sees nothing but padding lets PyTorch write beyond its memory.
            added = [nn.MaxPool2d(kernel, stride, padding, 1 if padding else dilation, ceil_mode=ceil_mode)]
        else:
            channels, bias = draw(st.integers(1, 4)), draw(st.booleans())
            added = [nn.Conv2d(shape[0], channels, kernel, stride, pair(0, 2), dilation, bias=bias)]
            added += [nn.BatchNorm2d(channels)] if draw(st.booleans()) else []
        convolved = [each for each in layers + added if not isinstance(each, nn.MaxPool2d)]
        if not isinstance(convolved[-1], ACTIVATIONS):  # one after another is not known
            added += draw(st.sampled_from([[], *([each()] for each in ACTIVATIONS)]))
        try:
            shape = nn.Sequential(*added).eval()(torch.zeros(2, *shape)).shape[1:]
        except RuntimeError:  # shrunk to nothing
            break
        layers += added
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(shape.numel() if layers else 144, 3)).double()


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(module=convolutional(), num_trials=st.integers(1, 4), at_a_time=st.sampled_from([1, 10_000, 10**9]))
def test_convolutions_of_any_geometry_have_autograds_gradients(module, num_trials, at_a_time):
    data = make_data(num_train=14, shape=(2, 9, 8), num_classes=3)
    specs = [TrialSpec(number, {"model.init_scale": 1 + number}) for number in range(num_trials)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fused_conv, "CPU_NUMBERS", at_a_time)
        patch.setattr("hpsearch.training.initial_state.build_initialized", lambda *_: module)
        found, expected = (Pack(make_config(), data, specs, engine=name)._engine for name in ("fused", "loop"))
        sample = data.train_images()[:6], data.y_train_N[:6], 0
        module.train()
        loss_K, gradients, buffers = expected.gradients(*sample)
        theirs = loss_K, expected.state.nets.parameters_in(gradients), expected.state.nets.buffers_in(buffers)
        for mine, its in zip(found.gradients(*sample), theirs, strict=True):
            torch.testing.assert_close(mine, its, rtol=1e-9, atol=1e-9)
        x = data.x_val_NCHW
        torch.testing.assert_close(found.logits(x), expected.logits(x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(  # updates know of no layers, see tests/training/test_exactness.py
    ("net", "optimizer"), [*(("mlp", each) for each in OPTIMIZERS), ("convnet", "momentum"), ("lenet", "adam")]
)
def test_an_explosion_changes_no_bit_of_its_neighbours(data, optimizer, net, ways_of_update, monkeypatch):
    monkeypatch.setattr(Pack, "_remove", lambda self, exploded: [])
    config = make_config(epochs=2, train__optimizer=optimizer, **NETS[net])

    def train(lr):
        everything = {key: value for key, value in EVERYTHING.items() if net != "lenet" or key != "model.dropout"}
        specs = [TrialSpec(0, everything), TrialSpec(1, {"lr": lr}), TrialSpec(2)]
        pack = Pack(config, data, specs, engine="fused")
        after = [(pack.run_epoch(), [pack.snapshot(number).tensors for number in range(3)])[1] for _ in range(2)]
        return after, pack._state.watch.active_K.tolist()

    calm, everybody = train(1e-3)
    beside_an_explosion, active = train(1e30 if net == "lenet" else 1e300)
    assert (everybody, active) == ([True, True, True], [True, False, True])
    for epoch in range(2):
        for number in (0, 2):
            for name, tensor in calm[epoch][number].items():
                assert torch.equal(tensor, beside_an_explosion[epoch][number][name]), name
    first, second = (tensors[1] for tensors in beside_an_explosion)  # the exploded one froze in the first epoch
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items() if not name.startswith("watch"))
    assert first["parameters/fc1.weight"].isfinite().any()


@pytest.mark.parametrize(
    ("first", "then", "optimizer"),
    [
        ("fused", "vmap", "momentum"),
        ("vmap", "fused", "adamw"),
        ("fused", "loop", "adamw"),
        ("vmap", "fused", "momentum"),
    ],
)
def test_a_trial_goes_on_with_another_engine(data, optimizer, first, then, ways_of_update):
    config = make_config(epochs=4, model__hidden=(6,), model__batch_norm=True, train__optimizer=optimizer)
    specs = [TrialSpec(0), TrialSpec(1, EVERYTHING)]
    whole, begun = Pack(config, data, specs, engine="loop"), Pack(config, data, specs, engine=first)
    for _ in range(2):
        whole.run_epoch()
        begun.run_epoch()
    snapshots = {number: begun.snapshot(number) for number in (1, 0)}
    ended = Pack(config, data, specs, engine=then, snapshots=snapshots)
    for _ in range(2):
        expected, found = whole.run_epoch(), ended.run_epoch()
        assert [r.cost for r in found.results] == pytest.approx([r.cost for r in expected.results], rel=1e-9)
    for number in (0, 1):
        torch.testing.assert_close(ended.snapshot(number).tensors, whole.snapshot(number).tensors, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("engine", "way"), [("loop", "stacked"), *(("fused", way) for way in WAYS_OF_UPDATE)])
@pytest.mark.parametrize("net", NETS)
def test_bfloat16_products_stay_near_float32(engine, way, net, monkeypatch):
    update_by(way, monkeypatch)
    data = make_data(dtype=torch.float32)
    dropout = {} if net == "lenet" else {"model__dropout": 0.2}
    params = {**NETS[net], **dropout, "model__hidden": (16,), "train__optimizer": "momentum"}
    specs = [TrialSpec(0, {"lr": 1e-3, "reg": 1e-3}), TrialSpec(1, {"lr": 3e-4})]
    costs = {}
    for precision in ("float32", "bfloat16"):
        pack = Pack(make_config(3, 1e9, **params | {"train__precision": precision}), data, specs, engine=engine)
        costs[precision] = [[result.cost for result in pack.run_epoch().results] for _ in range(3)]
        assert {t.dtype for t in pack.snapshot(0).tensors.values() if t.is_floating_point()} == {torch.float32}
    assert costs["bfloat16"] != costs["float32"]
    for found, expected in zip(costs["bfloat16"], costs["float32"], strict=True):
        assert found == pytest.approx(expected, rel=0.05 if net == "lenet" else 0.02)


def test_bfloat16_is_none_for_vmap():
    config = make_config(train__precision="bfloat16")
    with pytest.raises(EngineError, match="'bfloat16' does not run under vmap"):
        Pack(config, make_data(dtype=torch.float32), [TrialSpec(0)], engine="vmap")


@pytest.mark.parametrize("net", NETS)
def test_a_step_makes_no_graph_and_leaves_no_noise(data, net):
    pack = Pack(make_config(1, **NETS[net]), data, [TrialSpec(0)], engine="fused")
    x = data.train_images()[:6].to(pack._state.cost_sum_K.dtype, memory_format=torch.channels_last, copy=True)
    before = x.clone()
    pack._engine.step(x, data.y_train_N[:6], 0)
    assert not any(tensor.requires_grad for tensor in pack._state.everything().values())
    assert torch.equal(x, before)  # activations overwrite their input, never the images


class Leaky(nn.Sequential):
    """A net of a layer that the engine knows with another slope."""

    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(40, 5), nn.LeakyReLU(0.2), nn.Linear(5, 3))


def test_other_nets_fall_back_with_a_note(data, monkeypatch, caplog):
    monkeypatch.setattr("hpsearch.training.initial_state.build_initialized", lambda *_: Leaky().double())
    with caplog.at_level(logging.WARNING, logger="hpsearch"):
        pack = Pack(make_config(), data, [TrialSpec(0)])
    assert pack.engine == "vmap"
    assert "fused cannot train model mlp, so vmap does: 2 is a LeakyReLU" in caplog.text
    with pytest.raises(EngineError, match="engine fused cannot train model mlp: 2 is a LeakyReLU"):
        Pack(make_config(), data, [TrialSpec(0)], engine="fused")


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([nn.Conv2d(2, 4, 3, groups=2)], "0 is a convolution in groups"),
        ([nn.Conv2d(2, 4, 3, padding="same")], "with another padding"),
        ([nn.Conv2d(2, 4, 3, padding=1, padding_mode="circular")], "with another padding"),
        ([nn.MaxPool2d(2)], "0 is a MaxPool2d, in this place"),
        ([nn.Conv2d(2, 4, 1), nn.ReLU(), nn.Tanh()], "2 is a Tanh, in this place"),
        ([nn.Conv2d(2, 4, 1), nn.AdaptiveAvgPool2d(1)], "1 is a AdaptiveAvgPool2d"),
        ([nn.Conv2d(2, 4, 1), nn.BatchNorm2d(4, affine=False)], "without momentum, weight or statistics"),
    ],
)
def test_convolutional_layers_that_are_not_known_are_named(data, layers, message, monkeypatch):
    net = nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(3))
    net(data.train_images().float())
    monkeypatch.setattr("hpsearch.training.initial_state.build_initialized", lambda *_: net.double())
    with pytest.raises(EngineError, match=message):
        Pack(make_config(), data, [TrialSpec(0)], engine="fused")


@pytest.mark.parametrize("net", ["mlp", "convnet"])
def test_recorded_steps_train_as_plain_ones(data, net, monkeypatch):
    """The fused step may be captured: it works in place on tensors that stay, and reads nothing back in between."""
    config = make_config(epochs=3, train__optimizer="adam", **NETS[net])
    specs = [TrialSpec(0), TrialSpec(1, EVERYTHING), TrialSpec(2)]
    plain, recorded = (Pack(config, data, specs, engine="fused") for _ in range(2))
    recorders = []

    def prepare():
        FusedEngine._prepare(recorded._engine)
        recorders.append(Rehearsed())
        recorded._engine._steps = recorded._engine._record_steps(recorders[-1])

    monkeypatch.setattr(recorded._engine, "_prepare", prepare)
    prepare()
    for epoch in range(3):
        assert plain.run_epoch() == recorded.run_epoch()
        if epoch == 0:
            plain.drop([2])
            recorded.drop([2])  # another width is another recording
    # Three full batches an epoch, and a smaller one: three steps of each size warm up, and trial 1 draws noise.
    assert [recorder.num_recorded for recorder in recorders] == [0, 2]
    assert recorders[1].num_replayed == 2 * (2 * 3 - WARM_UP)
    for number in (0, 1):
        torch.testing.assert_close(recorded.snapshot(number).tensors, plain.snapshot(number).tensors, rtol=0, atol=0)
