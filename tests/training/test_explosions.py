"""An exploding trial freezes at its very step, on time, and nobody else notices."""

import math

import pytest
import torch
from plain_training import dealt, make_config, make_data, trained

from hpsearch.results import TrialSpec
from hpsearch.training import CHECK_STEPS, Pack
from hpsearch.training.choice import ENGINES
from hpsearch.training.explosion import ExplosionWatch
from hpsearch.training.state import PackState

CONFIGS = {
    "mlp": {"model__name": "mlp", "model__hidden": (6,), "model__batch_norm": True},
    "momentum": {"model__name": "mlp", "model__hidden": (6,)},
    "nesterov": {"model__name": "mlp", "model__hidden": (6,), "train__optimizer": "nesterov"},
    "adam": {"model__name": "mlp", "model__hidden": (6,), "train__optimizer": "adam"},
    "adamw": {"model__name": "mlp", "model__hidden": (6,), "train__optimizer": "adamw", "train__weight_decay": 0.1},
    "sgd": {"model__name": "mlp", "model__hidden": (6,), "train__optimizer": "sgd"},
}


@pytest.fixture(scope="module")
def data():
    return make_data()


def explosion_step(plain, factor=3.0):
    """The first step whose cost is not finite or above the limit; None where there is none."""
    limit = factor * max(plain.costs[0], math.log(plain.data.num_classes))
    return next((i for i, cost in enumerate(plain.costs) if not math.isfinite(cost) or cost > limit), None)


@pytest.fixture
def no_dropping(monkeypatch):
    """Exploded trials stay in the pack, frozen, so that a test can look at them."""
    monkeypatch.setattr(Pack, "_remove", lambda self, exploded: [])


PLANTED = [
    {"lr": 0.0205, "reg": 100.0},  # the weights grow by 1.05 a step
    {"lr": 0.021, "reg": 100.0},
    {"lr": 1.0},
    {"lr": 1e3},
    {"lr": 1e30},
]


def planted_config():
    return make_config(epochs=2, model__hidden=(6,), train__optimizer="sgd", train__lr_decay=1.0)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("params", PLANTED, ids=str)
def test_explodes_at_the_step_of_a_plain_loop(data, engine, params):
    config = planted_config()
    plain = trained(config.with_params(params), data)
    expected = explosion_step(plain)
    pack = Pack(config, data, [TrialSpec(0, {"lr": 1e-4}), TrialSpec(1, params)], engine=engine)
    explosions = [explosion for _ in range(2) for explosion in pack.run_epoch().explosions]
    assert expected is not None
    assert [explosion.number for explosion in explosions] == [1]
    assert explosions[0].step == expected
    assert explosions[0].epoch == expected // 10 + 1
    assert explosions[0].cost == pytest.approx(plain.costs[expected], rel=1e-6, nan_ok=True)
    assert explosions[0].first_cost == pytest.approx(plain.costs[0])
    assert pack.numbers == (0,)


def test_the_steps_above_are_early_and_late_in_an_epoch(data):
    steps = {explosion_step(trained(planted_config().with_params(params), data)) for params in PLANTED}
    assert {1, 6, 11} <= steps


@pytest.mark.parametrize(("engine", "name"), dealt(CONFIGS))
def test_frozen_as_before_the_step(data, engine, name, no_dropping):
    config = make_config(epochs=2, **CONFIGS[name])
    params = {"lr": 1.0, "reg": 10.0}
    plain = trained(config.with_params(params), data)
    step = explosion_step(plain)
    assert step is not None
    pack = Pack(config, data, [TrialSpec(0), TrialSpec(1, params), TrialSpec(2)], engine=engine)
    pack.run_epoch()
    at_the_end_of_epoch_1 = pack.state(1, "last")
    optimizer_state = [t[1].clone() for name, t in pack._state.everything().items() if name.startswith("optimizer/")]
    assert step < 10
    for tensor_name, tensor in at_the_end_of_epoch_1.items():
        torch.testing.assert_close(tensor, plain.states[step][tensor_name], rtol=1e-9, atol=1e-9)
    pack.run_epoch()
    for tensor_name, tensor in pack.state(1, "last").items():
        assert torch.equal(tensor, at_the_end_of_epoch_1[tensor_name])
    after = [t[1] for name, t in pack._state.everything().items() if name.startswith("optimizer/")]
    assert all(torch.equal(*pair) for pair in zip(optimizer_state, after, strict=True))


@pytest.mark.parametrize("engine", ENGINES)
def test_neighbours_do_not_change_by_one_bit(data, engine, no_dropping):
    config = make_config(epochs=2, model__hidden=(6,), model__batch_norm=True, model__dropout=0.2)

    def train(lr):
        pack = Pack(config, data, [TrialSpec(0), TrialSpec(1, {"lr": lr}), TrialSpec(2, {"reg": 0.1})], engine=engine)
        for _ in range(2):
            pack.run_epoch()
        return [*pack.state(0).values(), *pack.state(2).values()], pack._state.watch.active_K.tolist()

    calm, all_active = train(lr=1e-3)
    beside_an_explosion, active = train(lr=float("1e300"))
    assert all_active == [True, True, True]
    assert active == [True, False, True]
    assert all(torch.equal(one, other) for one, other in zip(calm, beside_an_explosion, strict=True))


@pytest.mark.parametrize("engine", ENGINES)
def test_neighbours_go_on_as_a_plain_loop_after_it_left(data, engine):
    config = make_config(epochs=2, model__hidden=(6,))
    pack = Pack(config, data, [TrialSpec(0, {"lr": 1e10}), TrialSpec(1)], engine=engine)
    assert [explosion.number for explosion in pack.run_epoch().explosions] == [0]
    pack.run_epoch()
    expected = trained(config, data).state()
    for name, tensor in pack.state(1, "last").items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-9, atol=1e-9)


def test_leaves_within_a_long_epoch_and_a_pack_without_trials_stops(monkeypatch):
    data = make_data(num_train=6 * 3 * CHECK_STEPS)
    pack = Pack(make_config(model__hidden=(3,)), data, [TrialSpec(0, {"lr": 1e10}), TrialSpec(1, {"lr": 1e12})])
    steps = []
    step = type(pack._engine).step
    monkeypatch.setattr(type(pack._engine), "step", lambda *args: (steps.append(1), step(*args))[1])
    report = pack.run_epoch()
    assert len(steps) == CHECK_STEPS
    assert [explosion.number for explosion in report.explosions] == [0, 1]
    assert report.results == []
    assert pack.numbers == ()
    assert pack.done


def test_masks_and_the_way_without_them_agree(data, monkeypatch):
    """A CPU skips the masks while nobody is frozen; other devices never do."""
    config = make_config(epochs=1, model__hidden=(6,), model__batch_norm=True, train__optimizer="adamw")
    pack = Pack(config, data, [TrialSpec(0), TrialSpec(1)])
    pack.run_epoch()
    masked = Pack(config, data, [TrialSpec(0), TrialSpec(1)])
    monkeypatch.setattr(PackState, "_frozen", lambda self, active_K: ~active_K)
    masked.run_epoch()
    for name, tensor in pack.state(1).items():
        assert torch.equal(tensor, masked.state(1)[name])


@pytest.mark.parametrize(
    ("costs", "step"),
    [
        ([2.0, 5.9, 6.1, 1.0], 2),
        ([0.1, 3.2, 3.4], 2),  # a first cost below ln 3 counts as ln 3
        ([2.0, math.nan, 1.0], 1),
        ([2.0, math.inf], 1),
        ([math.inf, 1.0], 0),
        ([math.nan, 1.0], 0),
        ([1e308, math.inf], 1),  # 3 times the first cost is infinite itself
    ],
)
def test_watch(costs, step):
    watch = ExplosionWatch(2, 3.0, math.log(3), torch.empty(0, dtype=torch.float64))
    for cost in costs:
        watch.observe(torch.tensor([1.0, cost], dtype=torch.float64))
    assert watch.active_K.tolist() == [True, False]
    assert watch.num_updates_K.tolist() == [len(costs), step]
    assert watch.cost_K.tolist() == pytest.approx([1.0, costs[step]], nan_ok=True)
    assert watch.first_cost_K.tolist() == pytest.approx([1.0, costs[0]], nan_ok=True)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_trial_lost_by_the_very_last_update_has_exploded_too(data, engine):
    """No step follows that would see the cost, and a net of NaN must not be told as a result."""
    config = make_config(epochs=1, model__hidden=(6,), train__optimizer="sgd", train__batch_size=len(data.y_train_N))
    pack = Pack(config, data, [TrialSpec(0, {"lr": 1e300}), TrialSpec(1, {"lr": 0.1})], engine=engine)
    report = pack.run_epoch()
    assert [result.number for result in report.results] == [1]
    [explosion] = report.explosions
    assert (explosion.number, explosion.epoch, explosion.step) == (0, 1, 1)
    assert math.isnan(explosion.cost)
