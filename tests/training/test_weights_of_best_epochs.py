"""The weights of a trial are those of its best epoch, whatever its pack goes through."""

import logging

import pytest
import torch
from plain_training import make_config, make_data

from hpsearch.errors import EngineError
from hpsearch.models import build
from hpsearch.results import TrialSpec, best_epoch
from hpsearch.training import Pack
from hpsearch.training.checkpoints import Checkpoint, Checkpoints
from hpsearch.training.choice import ENGINES

NET = {"model__hidden": (6,), "model__batch_norm": True, "train__lr_decay": 1.0}
SPECS = [
    TrialSpec(number, {"lr": lr}) for number, lr in ((3, 0.3), (4, 0.03), (6, 0.5), (8, 1.0))
]  # it goes up and down


@pytest.fixture(scope="module")
def data():
    return make_data(noise=3.0)


def make(data, config, engine="auto", **options):
    return Pack(config, data, SPECS, engine=engine, **options)


def config_of(precision="float64", epochs=8):
    return make_config(epochs, explosion=1e9, **NET, train__precision=precision)


def run(pack, results, states, until=None):
    """Train on, and note what each trial reported and what its weights were after each epoch."""
    while not pack.done and pack.epoch != until:
        for result in pack.run_epoch().results:
            results.setdefault(result.number, []).append(result)
            states.setdefault(result.number, []).append(pack.state(result.number, "last"))


def assert_best(pack, results, states):
    """Its weights, to the bit, for every trial; at least one of them had its best epoch before the last."""
    epochs = {number: best_epoch(results[number]).epoch for number in pack.numbers}
    assert any(epoch < pack.epoch for epoch in epochs.values())
    for number, epoch in epochs.items():
        found, expected = pack.state(number), states[number][epoch - 1]
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in found)


def accuracy(config, data, state):
    module = build(config.model, data.shape, data.num_classes).to(data.x_val_NCHW.dtype)
    module.load_state_dict(state)
    with torch.no_grad():
        return (module.eval()(data.x_val_NCHW).argmax(1) == data.y_val_N).double().mean().item()


PRECISIONS = [(engine, "float64") for engine in ENGINES] + [("loop", "bfloat16"), ("fused", "bfloat16")]


@pytest.mark.parametrize(("engine", "precision"), PRECISIONS)
def test_they_are_those_of_the_best_epoch(data, engine, precision):
    if precision == "bfloat16":
        data = make_data(noise=3.0, dtype=torch.float32)
    config, results, states = config_of(precision), {}, {}
    pack = make(data, config, engine)
    untrained = pack.state(3)
    assert all(torch.equal(tensor, untrained[name]) for name, tensor in pack.state(3, "last").items())
    while not pack.done:  # after each epoch
        run(pack, results, states, until=pack.epoch + 1)
        if pack.epoch > 4:
            assert_best(pack, results, states)
    if precision == "float64":
        for number in pack.numbers:
            assert accuracy(config, data, pack.state(number)) == best_epoch(results[number]).val_acc


@pytest.mark.parametrize("engine", ENGINES)
def test_trials_that_leave_take_only_their_own_along(data, engine):
    results, states = {}, {}
    pack = make(data, config_of(), engine)
    run(pack, results, states, until=3)
    pack.drop([4])
    run(pack, results, states, until=6)
    pack.drop([3])
    run(pack, results, states)
    assert pack.numbers == (6, 8)
    assert_best(pack, results, states)


@pytest.mark.parametrize("engine", ENGINES)
def test_they_go_along_into_another_pack(tmp_path, data, engine):
    results, states = {}, {}
    first = make(data, config_of(), engine)
    run(first, results, states, until=5)
    checkpoints = Checkpoints(tmp_path, "study")
    for number in (8, 3, 6):
        checkpoints.save(number, Checkpoint(first.snapshot(number), results[number]))
    for found in (checkpoints.load(number) for number in (8, 3, 6)):
        is_last = best_epoch(found.results).epoch == 5
        assert found.snapshot.best == best_epoch(found.results)
        assert bool(found.snapshot.best_weights) != is_last  # nothing is stored twice
    snapshots = {number: checkpoints.load(number).snapshot for number in (8, 3, 6)}
    specs = [spec for spec in reversed(SPECS) if spec.number in snapshots]
    second = Pack(config_of(), data, specs, engine=engine, snapshots=snapshots)
    for number in second.numbers:
        assert all(torch.equal(t, first.state(number)[name]) for name, t in second.state(number).items())
    run(second, results, states)
    assert_best(second, results, states)


def test_an_interrupted_epoch_changes_nothing(data, monkeypatch):
    results, states = {}, {}
    pack = make(data, config_of())
    run(pack, results, states, until=5)
    step, count = pack._engine.step, []

    def interrupt(*arguments):
        count.append(1)
        if len(count) == 3:
            raise KeyboardInterrupt
        step(*arguments)

    monkeypatch.setattr(pack._engine, "step", interrupt)
    with pytest.raises(KeyboardInterrupt):
        pack.run_epoch()
    assert not torch.equal(pack.state(3, "last")["fc1.weight"], states[3][-1]["fc1.weight"])
    assert_best(pack, results, states)


def test_where_there_is_one_epoch_the_best_is_the_last_and_no_copy_is_made(data):
    pack = make(data, config_of(epochs=1))
    pack.run_epoch()
    assert not pack._state.nets.best
    assert all(torch.equal(tensor, pack.state(3, "last")[name]) for name, tensor in pack.state(3).items())


def test_whoever_keeps_no_weights_has_no_copy(tmp_path, data, caplog):
    """Nor has its checkpoint, which does for those who keep none; others pass it over."""
    results, states = {}, {}
    pack = make(data, config_of(), keeps_best=False)
    run(pack, results, states, until=6)
    assert not pack._state.nets.best
    with pytest.raises(EngineError, match="keeps no weights of best epochs"):
        pack.state(3)
    number = next(number for number in pack.numbers if best_epoch(results[number]).epoch < 6)
    careless, careful = (Checkpoints(tmp_path, "study", needs_best=needs) for needs in (False, True))
    careless.save(number, Checkpoint(pack.snapshot(number), results[number]))
    spec = [spec for spec in SPECS if spec.number == number]
    snapshots = {number: careless.load(number).snapshot}
    assert Pack(config_of(), data, spec, snapshots=snapshots, keeps_best=False).epoch == 6
    with pytest.raises(EngineError, match="without the weights of its best epoch"):
        Pack(config_of(), data, spec, snapshots=snapshots)
    logging.getLogger("hpsearch").propagate = True
    with caplog.at_level(logging.WARNING):
        assert careful.load(number) is None
    assert "no weights of its best epoch: an older version wrote it" in caplog.text


def test_a_checkpoint_with_best_weights_does_for_those_who_keep_none(data):
    results, states = {}, {}
    first = make(data, config_of())
    run(first, results, states, until=6)
    pack = make(data, config_of(), snapshots={n: first.snapshot(n) for n in first.numbers}, keeps_best=False)
    run(pack, results, states)
    assert not pack._state.nets.best


def test_a_trial_that_explodes_after_its_best_epoch_leaves_no_weights():
    config = make_config(epochs=10, model__hidden=(6,), train__optimizer="sgd", train__lr_decay=1.0)
    pack = Pack(config, make_data(), [TrialSpec(0, {"lr": 0.0201, "reg": 100.0}), TrialSpec(1, {"lr": 1e-4})])
    explosions = []
    while not pack.done:
        explosions += pack.run_epoch().explosions
    assert [(each.number, each.epoch > 2) for each in explosions] == [(0, True)]
    with pytest.raises(EngineError, match="trial 0 is not in the pack"):
        pack.state(0)
    assert pack.state(1)["fc1.weight"].isfinite().all()
    assert len(pack._state.nets.best["fc1.weight"]) == 1
