"""float16 with scaled losses: what torch.amp.GradScaler does for one net, for each trial of a pack."""

import logging

import pytest
import torch
from plain_training import make_config, make_data
from torch.nn.functional import cross_entropy

from hpsearch.errors import EngineError
from hpsearch.models import build, initialize
from hpsearch.results import TrialSpec
from hpsearch.training import Pack, loss_scaling
from hpsearch.training.loop import LoopEngine
from hpsearch.training.loss_scaling import LossScaling

ENGINES = ["loop", "graph"]
NETS = {
    "mlp": {"model__hidden": (7, 5), "model__batch_norm": True},
    "convnet": {"model__name": "convnet", "model__channels": (3, 4), "model__hidden": (5,)},
}
VECTORS = [{}, {"model.init_scale": 8.0, "lr": 1e-3}, {"model.init_scale": 0.5, "lr": 3e-2, "train.clip_norm": 0.3}]
EPOCHS = 3


@pytest.fixture(scope="module")
def data():
    return make_data(dtype=torch.float32)


@pytest.fixture
def restless(monkeypatch):
    """Scales that are too high at first, and soon try again."""
    monkeypatch.setattr(loss_scaling, "FIRST_SCALE", 2.0**24)
    monkeypatch.setattr(loss_scaling, "GROWTH_UPDATES", 5)


def config_of(net="mlp", explosion=1e9, **others):
    values = {"train__precision": "float16", "train__optimizer": "adam"} | NETS[net] | others
    return make_config(EPOCHS, explosion, **values)


def run(pack):
    while not pack.done:
        report = pack.run_epoch()
    return report


class PlainScaled:
    """One trial by torch.amp; `skipped` counts updates that were left out."""

    def __init__(self, config, data):
        train = config.train
        self.module = build(config.model, data.shape, data.num_classes)
        initialize(self.module, config.model.init, train.seed)
        with torch.no_grad():
            for parameter in self.module.parameters():
                parameter.mul_(config.model.init_scale if parameter.ndim > 1 else 1)
        self.module.float().to(memory_format=torch.channels_last)  # as the engines: another order rounds otherwise
        make = {
            "adam": lambda: torch.optim.Adam(self.module.parameters(), train.lr, (train.momentum, train.beta2)),
            "momentum": lambda: torch.optim.SGD(self.module.parameters(), train.lr, train.momentum),
        }
        self.optimizer = make[train.optimizer]()
        options = {"init_scale": loss_scaling.FIRST_SCALE, "growth_interval": loss_scaling.GROWTH_UPDATES}
        self.scaler = torch.amp.GradScaler("cpu", **options)
        self.skipped, self.num_updates, self.clip_norm = 0, 0, train.clip_norm
        for epoch in range(1, train.epochs + 1):
            self.module.train()
            self.optimizer.param_groups[0]["lr"] = train.lr * train.lr_decay ** (epoch - 1)
            batches = list(data.batches(train.seed, epoch, train.batch_size))
            for first in range(0, len(batches), train.accumulate):
                self.step(batches[first : first + train.accumulate])

    def step(self, batches):
        """From the mean of gradients, each taken with the whole scale."""
        parameters = list(self.module.parameters())
        for parameter in parameters:
            parameter.grad = torch.zeros_like(parameter)
        num_images = sum(len(y_B) for _, y_B in batches)
        for x_BCHW, y_B in batches:
            with torch.autocast("cpu", torch.float16, cache_enabled=False):
                logits_BC = self.module(x_BCHW.contiguous(memory_format=torch.channels_last))
            loss = self.scaler.scale(cross_entropy(logits_BC.float(), y_B))
            for parameter, found in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
                parameter.grad += found * len(y_B) / num_images
        before = self.scaler.get_scale()
        if clip_norm := self.clip_norm:
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(parameters, clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        skipped = self.scaler.get_scale() < before
        self.skipped += skipped
        self.num_updates += not skipped


@pytest.mark.parametrize(  # each two of them together
    ("engine", "net", "optimizer", "accumulate"),
    [
        ("loop", "mlp", "adam", 1),
        ("loop", "convnet", "momentum", 4),
        ("graph", "mlp", "momentum", 4),
        ("graph", "convnet", "adam", 1),
    ],
)
def test_each_trial_has_the_scale_and_the_updates_of_a_gradscaler(
    data, restless, rehearsed, engine, net, optimizer, accumulate
):
    config = config_of(net, train__optimizer=optimizer, train__accumulate=accumulate)
    pack = Pack(config, data, [TrialSpec(n, params) for n, params in enumerate(VECTORS)], engine=engine)
    pack.run_epoch()
    pack.drop([0])  # scales go with their trials
    run(pack)
    scaling, watch = pack._state.scaling, pack._state.watch
    for slot, number in enumerate(pack.numbers):
        plain = PlainScaled(config.with_params(VECTORS[number]), data)
        assert plain.skipped > 0
        assert scaling.scale_K[slot] == plain.scaler.get_scale()
        assert scaling.everything()["good_updates"][slot] == plain.scaler._get_growth_tracker()
        assert watch.num_updates_K[slot] == plain.num_updates
        off = 1e-3 if optimizer == "adam" else 1e-5  # it makes as much of a small gradient that is rounded otherwise
        for name, tensor in plain.module.state_dict().items():
            torch.testing.assert_close(pack.state(number, "last")[name], tensor, rtol=off, atol=off, msg=name)
    assert scaling.scale_K[0] != scaling.scale_K[1]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_trial_goes_on_with_its_scale_to_the_bit(data, restless, rehearsed, engine):
    config = config_of()
    specs = [TrialSpec(n, params | {"train.ema": 0.5}) for n, params in enumerate(VECTORS)]
    pack = Pack(config, data, specs, engine=engine)
    pack.run_epoch()
    snapshots = {number: pack.snapshot(number) for number in pack.numbers}
    assert "scaling/scale" in snapshots[0].tensors
    again = Pack(config, data, specs, engine=engine, snapshots=snapshots)
    for _ in range(EPOCHS - 1):
        assert again.run_epoch() == pack.run_epoch()
    for number in pack.numbers:
        for name, tensor in pack.snapshot(number).tensors.items():
            assert torch.equal(again.snapshot(number).tensors[name], tensor), name


def test_a_free_place_is_taken_with_a_scale_of_its_own(data, restless, rehearsed):
    config = config_of()
    pack = Pack(config, data, [TrialSpec(0), TrialSpec(1, VECTORS[1])], engine="graph", refills=True)
    pack.run_epoch()
    pack.drop([0])
    pack.admit([TrialSpec(2, VECTORS[2])])
    pack.run_epoch()
    pack.run_epoch()
    pack.drop([1])
    pack.run_epoch()
    alone = Pack(config, data, [TrialSpec(2, VECTORS[2])], engine="loop")
    run(alone)
    for name, tensor in alone.state(2, "last").items():
        torch.testing.assert_close(pack.state(2, "last")[name], tensor, rtol=1e-5, atol=1e-6, msg=name)


def test_costs_and_explosions_know_no_scale(data, restless):
    """The first updates are left out: costs stay near ln C, and none of them is an explosion."""
    pack, exact = (
        Pack(config_of("mlp", 3.0, train__precision=precision, lr=1e-4), data, [TrialSpec(0)], engine="loop")
        for precision in ("float16", "float32")
    )
    found, expected = pack.run_epoch(), exact.run_epoch()
    assert not found.explosions
    assert found.results[0].cost == pytest.approx(expected.results[0].cost, rel=0.05)
    pack = Pack(config_of("mlp", 3.0), data, [TrialSpec(0, {"lr": 1e30}), TrialSpec(1)], engine="loop")
    assert [explosion.number for explosion in pack.run_epoch().explosions] == [0]


def test_the_rule_is_that_of_gradscaler_at_its_own_numbers():
    nan, inf = torch.nan, torch.inf
    scaling = LossScaling(torch.zeros(4))
    assert scaling.scale_K.tolist() == [2.0**16] * 4
    active_K = torch.tensor([True, True, True, False])
    gradients = {"w": torch.tensor([[2.0**16], [nan], [1.0], [inf]]), "b": torch.tensor([[1.0], [1.0], [-inf], [1.0]])}
    assert scaling.unscale(gradients, active_K).tolist() == [True, False, False, False]
    assert gradients["w"][0] == 1.0
    assert scaling.scale_K.tolist() == [2.0**16, 2.0**15, 2.0**15, 2.0**16]
    for _ in range(1999):
        scaling.unscale({"w": torch.ones(4, 1)}, active_K)
    assert scaling.scale_K.tolist() == [2.0**17, 2.0**15, 2.0**15, 2.0**16]
    scaling.unscale({"w": torch.ones(4, 1)}, active_K)
    assert scaling.scale_K.tolist() == [2.0**17, 2.0**16, 2.0**16, 2.0**16]
    scaling.scale_K.fill_(3e38)
    for _ in range(2001):
        scaling.unscale({"w": torch.ones(4, 1)}, active_K)
    assert scaling.scale_K.isfinite().all()


@pytest.mark.parametrize("engine", ["fused", "vmap"])
def test_engines_that_scale_nothing_refuse_and_auto_takes_one_that_does(data, engine, caplog):
    with pytest.raises(EngineError, match="'float16' does not run under"):
        Pack(config_of(), data, [TrialSpec(0)], engine=engine)
    with caplog.at_level(logging.WARNING, "hpsearch"):
        assert Pack(config_of(), data, [TrialSpec(0)]).engine == "loop"
    assert not caplog.records


def test_a_device_without_the_operators_is_named(data, monkeypatch):
    def refuse(*_args, **_options):
        raise RuntimeError("\"conv\" not implemented for 'Half'")

    monkeypatch.setattr(LoopEngine, "gradients", refuse)
    with pytest.raises(EngineError, match=r"(?s)float16.*cpu.*not implemented for 'Half'.*Allowed: float32"):
        Pack(config_of(), data, [TrialSpec(0)])
