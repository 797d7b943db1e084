"""The optimizers that have no kernels of their own: those of torch.optim, and Lion of its paper, in every engine."""

import pytest
import torch
from plain_training import dealt, make_config, make_data, trained
from small_updates import SIZES, everything, make_updated, run

from hpsearch.results import TrialSpec
from hpsearch.training import Pack, one_pass
from hpsearch.training.fused.update import LargeUpdate
from hpsearch.training.one_pass import make_updater
from hpsearch.training.optimizers import IN_ONE_PASS
from hpsearch.training.updater import StackedOperators

OPTIMIZERS = ["nadam", "rmsprop", "adagrad", "lion"]
# Without batch normalization: a bias before one has a gradient that is only rounded off, whose sign is Lion's step.
NETS = {
    "mlp": {"model__name": "mlp", "model__hidden": (7, 5), "model__dropout": 0.2},
    "lenet": {"model__name": "lenet", "model__activation": "tanh"},
}
VECTORS = [
    {"lr": 1e-3},
    {"lr": 3e-3, "reg": 1e-2, "train.momentum": 0.5, "train.weight_decay": 0.3, "train.beta2": 0.9},
    {"lr": 2e-3, "train.l1": 1e-2, "train.momentum": 0.0, "train.clip_norm": 0.5, "train.warmup": 1.5},
]


@pytest.fixture(scope="module")
def data():
    return make_data(num_train=22)


def specs_of(all_params):
    return [TrialSpec(number, params) for number, params in enumerate(all_params)]


def assert_plain(pack, config, data, number, params):
    plain = trained(config.with_params(params), data)
    for name, tensor in plain.state().items():
        torch.testing.assert_close(pack.state(number, "last")[name], tensor, rtol=1e-9, atol=1e-9, msg=name)


@pytest.mark.parametrize(("engine", "case"), dealt([*(("mlp", each) for each in OPTIMIZERS), ("lenet", "nadam")]))
def test_packs_train_as_a_plain_loop_does(data, engine, case):
    """After one has exploded, too, and the others have gone on from snapshots."""
    net, optimizer = case
    config = make_config(3, explosion=1e6, train__optimizer=optimizer, **NETS[net])  # RMSprop's first steps are large
    all_params = [*VECTORS, {"lr": 1e200}]
    pack = Pack(config, data, specs_of(all_params), engine=engine)
    assert [explosion.number for explosion in pack.run_epoch().explosions] == [3]
    snapshots = {number: pack.snapshot(number) for number in (1, 2)}
    resumed = Pack(config, data, specs_of(VECTORS)[1:], engine=engine, snapshots=snapshots)
    for each in (pack, resumed):
        while not each.done:
            each.run_epoch()
    for number, params in enumerate(VECTORS):
        assert_plain(pack, config, data, number, params)
        if number in snapshots:
            assert_plain(resumed, config, data, number, params)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_those_that_come_begin_at_nothing(data, optimizer):
    config = make_config(2, 1e9, train__optimizer=optimizer, **NETS["mlp"])
    pack = Pack(config, data, specs_of(VECTORS[:2]), engine="graph", refills=True)
    pack.run_epoch()
    pack.drop([0])
    pack.admit([TrialSpec(2, VECTORS[2])])
    pack.run_epoch()
    assert_plain(pack, config, data, 1, VECTORS[1])
    pack.drop([1])
    pack.run_epoch()
    assert_plain(pack, config, data, 2, VECTORS[2])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_frozen_trial_stays_as_it_is(optimizer, dtype):
    """From the first step on, when corrections are no numbers, or later."""
    updated, two_steps = make_updated(optimizer, dtype=dtype), make_updated(optimizer, dtype=dtype)

    def changing(updated):
        return [*everything(updated), *updated.optimizer.products.values()]

    begun = [tensor.clone() for tensor in changing(updated)]
    masks = [torch.tensor([step >= 2, step >= 0, False]) for step in range(5)]
    run(StackedOperators, updated, 5, masks.__getitem__)
    run(StackedOperators, two_steps, 2)
    for tensor, before, after_two in zip(changing(updated), begun, changing(two_steps), strict=True):
        assert torch.equal(tensor[1], before[1])
        assert torch.equal(tensor[0], after_two[0])
        assert not torch.equal(tensor[2], after_two[2])
        assert tensor.isfinite().all()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_float32_is_close_to_float64(optimizer):
    wide, narrow = make_updated(optimizer), make_updated(optimizer, dtype=torch.float32)
    for updated in (wide, narrow):
        run(StackedOperators, updated, 4)
    for name in SIZES:
        torch.testing.assert_close(narrow.blocks[name].double(), wide.blocks[name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_they_take_several_passes_wherever_they_run(data, optimizer, monkeypatch):
    monkeypatch.setattr(LargeUpdate, "__init__", None)
    monkeypatch.setattr("hpsearch.training.fused.engine.LARGE", 16)
    config = make_config(1, 1e9, train__optimizer=optimizer, **NETS["mlp"])
    pack = Pack(config, data, specs_of(VECTORS[:1]), engine="fused")
    pack.run_epoch()
    assert_plain(pack, config, data, 0, VECTORS[0])
    monkeypatch.setattr(one_pass, "OnePass", None)
    assert optimizer not in IN_ONE_PASS
    assert isinstance(make_updater(make_updated(optimizer)), StackedOperators)
