"""Updates from several minibatches: those of a plain loop, and of batches so many times as large."""

import dataclasses
import itertools

import pytest
import torch
from plain_training import dealt, make_config, make_data, trained
from recorded_steps import Rehearsed

from hpsearch.results import TrialSpec
from hpsearch.training import Pack
from hpsearch.training import pack as pack_module
from hpsearch.training.accumulation import ALONE, Accumulation, Place, num_updates
from hpsearch.training.choice import ENGINES
from hpsearch.training.device_memory import largest, trial_bytes
from hpsearch.training.fused.engine import FusedEngine

NETS = {
    "mlp": {"model__hidden": (7, 5), "model__dropout": 0.2},
    "convnet": {"model__name": "convnet", "model__channels": (3, 4), "model__hidden": (5,), "model__batch_norm": True},
}
VECTORS = [
    {},
    {"lr": 3e-2, "reg": 1e-2, "train.l1": 1e-3},
    {"train.label_smoothing": 0.2, "train.ema": 0.8, "train.warmup": 1.2, "train.clip_norm": 0.4},
]


@pytest.fixture(scope="module")
def data():
    """11 minibatches of 6 images, the last one of 4: with 4 of them, updates are from 24, 24 and 16 images."""
    return make_data(num_train=64)


def config_of(net="mlp", epochs=2, accumulate=4, **others):
    others = {"train__optimizer": "momentum"} | NETS[net] | others
    return make_config(epochs, explosion=1e9, train__accumulate=accumulate, **others)


def same(state, expected):
    for name, tensor in expected.items():
        torch.testing.assert_close(state[name], tensor, rtol=1e-9, atol=1e-9, msg=name)


def run(pack):
    while not pack.done:
        report = pack.run_epoch()
    return {result.number: result for result in report.results}


def as_numbers(result):
    return list(dataclasses.astuple(result)[2:9])


@pytest.mark.parametrize(
    ("engine", "case"), dealt(itertools.product(NETS, [("sgd", "exponential"), ("adamw", "one-cycle")]))
)
def test_updates_are_those_of_a_plain_loop(data, rehearsed, engine, case):
    net, (optimizer, schedule) = case
    config = config_of(net, train__optimizer=optimizer, train__lr_schedule=schedule)
    pack = Pack(config, data, [TrialSpec(n, params) for n, params in enumerate(VECTORS)], engine=engine)
    pack.run_epoch()
    pack.drop([0])
    results = run(pack)
    for number in (1, 2):
        plain = trained(config.with_params(VECTORS[number]), data)
        assert len(plain.costs) == 2 * 3
        same(pack.state(number, "last"), plain.averaged.state_dict())
        assert as_numbers(results[number]) == pytest.approx(plain.epochs[-1], rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("class_weights", ["none", "balanced"])
def test_they_are_those_of_a_batch_so_many_times_as_large(data, rehearsed, engine, class_weights):
    few = (data.y_train_N != 1) | (torch.arange(64) % 3 == 0)  # of one class a third
    data = dataclasses.replace(data, x_train_NCHW=data.x_train_NCHW[few], y_train_N=data.y_train_N[few])
    others = {"train__class_weights": class_weights, "model__dropout": 0.0}
    parts, whole = config_of(**others), config_of(accumulate=1, train__batch_size=24, **others)
    packs = [Pack(config, data, [TrialSpec(0), TrialSpec(1, VECTORS[1])], engine=engine) for config in (parts, whole)]
    found, expected = map(run, packs)
    for number in (0, 1):
        assert as_numbers(found[number]) == pytest.approx(as_numbers(expected[number]), rel=1e-9, abs=1e-9)
        same(packs[0].state(number, "last"), packs[1].state(number, "last"))


@pytest.mark.parametrize("engine", ENGINES)
def test_mixed_labels_count_as_their_images(data, rehearsed, engine):
    config = config_of(model__dropout=0.0, train__class_weights="balanced")
    mixed = dataclasses.replace(data, augment=("mixup:0.4",))
    pack = Pack(config, mixed, [TrialSpec(0), TrialSpec(1, VECTORS[1])], engine=engine)
    run(pack)
    same(pack.state(1, "last"), trained(config.with_params(VECTORS[1]), mixed).state())


@pytest.mark.parametrize("engine", ENGINES)
def test_an_explosion_is_seen_at_its_update_and_leaves_in_the_middle_of_another(data, rehearsed, engine, monkeypatch):
    monkeypatch.setattr(pack_module, "CHECK_STEPS", 6)  # minibatches: the second of the second update
    config = config_of(model__dropout=0.0, train__optimizer="sgd")
    config = config.model_copy(update={"train": config.train.model_copy(update={"explosion": 3.0})})
    specs = [TrialSpec(0, {"lr": 1e200}), TrialSpec(1, {"lr": 1e-3})]
    pack, whole = (
        Pack(each, data, specs, engine=engine)
        for each in (config, config.with_params({"train.accumulate": 1, "train.batch_size": 24}))
    )
    found, expected = pack.run_epoch(), whole.run_epoch()
    (explosion,), (other,) = found.explosions, expected.explosions
    assert (explosion.number, explosion.step, explosion.first_cost) == (0, other.step, pytest.approx(other.first_cost))
    same(pack.state(1), whole.state(1))
    assert as_numbers(found.results[0]) == pytest.approx(as_numbers(expected.results[0]), rel=1e-9)


@pytest.mark.parametrize("precision", ["float64", "bfloat16"])
def test_large_weights_wait_for_their_update(precision, monkeypatch):
    monkeypatch.setattr("hpsearch.training.fused.engine.LARGE", 0)
    few = make_data(num_train=64, dtype=torch.float64 if precision == "float64" else torch.float32)
    config = config_of(model__dropout=0.0, train__precision=precision)
    packs = [Pack(config, few, [TrialSpec(0), TrialSpec(1, VECTORS[1])], engine=engine) for engine in ("fused", "loop")]
    tolerance = 1e-9 if precision == "float64" else 3e-2
    for found, expected in zip(*(run(pack).values() for pack in packs), strict=True):
        assert found.val_loss == pytest.approx(expected.val_loss, rel=tolerance)


def recorded_by_hand(pack, recorder, monkeypatch):
    """The fused engine as on CUDA."""

    def prepare():
        FusedEngine._prepare(pack._engine)
        pack._engine._steps = pack._engine._record_steps(recorder)

    monkeypatch.setattr(pack._engine, "_prepare", prepare)
    prepare()


@pytest.mark.parametrize("engine", ["graph", "fused"])
@pytest.mark.parametrize("accumulate", [2, 20])
def test_recorded_steps_know_their_place(engine, accumulate, rehearsed, monkeypatch):
    data = make_data(num_train=142)  # 24 minibatches, the last one smaller
    config = config_of("mlp", 4, accumulate, model__batch_norm=True, model__dropout=0.0)
    specs = [TrialSpec(0), TrialSpec(1, {"reg": 0.1, "train.ema": 0.9})]
    recorded, plain = Pack(config, data, specs, engine=engine), Pack(config, data, specs, engine="loop")
    recorder = rehearsed[-1] if engine == "graph" else Rehearsed()
    if engine == "fused":
        recorded_by_hand(recorded, recorder, monkeypatch)
    results, expected = run(recorded), run(plain)
    assert recorder.num_replayed > 20
    for number in (0, 1):
        assert as_numbers(results[number]) == pytest.approx(as_numbers(expected[number]), rel=1e-8)
        same(recorded.state(number), plain.state(number))


def test_a_free_place_is_taken_where_updates_are_from_several(data, rehearsed):
    config = config_of(model__dropout=0.0)
    pack = Pack(config, data, [TrialSpec(0), TrialSpec(1)], engine="graph", refills=True)
    pack.run_epoch()
    pack.drop([0])
    pack.admit([TrialSpec(5, VECTORS[1])])
    pack.run_epoch()
    pack.drop([1])
    pack.run_epoch()
    same(pack.state(5, "last"), trained(config.with_params(VECTORS[1]), data).state())


@pytest.mark.parametrize(("num_batches", "num"), list(itertools.product((1, 2, 5, 6), (2, 3, 7))))
def test_each_minibatch_is_of_one_update(num_batches, num):
    blocks = {"w": torch.zeros(1, 2)}
    places = [Accumulation(num, blocks, torch.zeros(1)).place_of(step, num_batches) for step in range(num_batches)]
    assert sum(place.begins for place in places) == sum(place.ends for place in places) == num_updates(num_batches, num)
    assert (places[0].begins, places[-1].ends) == (True, True)
    assert all(one.ends == other.begins for one, other in itertools.pairwise(places))


def test_sums_are_means_of_images_and_begin_anew():
    each = Accumulation(3, {"w": torch.zeros(2, 1)}, torch.zeros(2))
    nan = torch.full((2,), torch.nan)
    for place, weight, number in (
        (Place(True, False), 6.0, torch.nan), (Place(True, False), 6.0, 1.0), (Place(False, True), 2.0, 5.0),
    ):  # fmt: skip
        each.place = place
        each.weight_K.fill_(weight)
        loss_K, gradients = each.add(nan.nan_to_num(0) + number, {"w": torch.full((2, 1), number)})
    assert loss_K.tolist() == [2.0, 2.0]
    assert gradients["w"].tolist() == [[2.0], [2.0]]
    each.place = ALONE
    given = {"w": torch.ones(2, 1)}
    assert each.add(loss_K, given)[1] is given


def test_memory_has_room_for_what_may_be_searched():
    net, like = torch.nn.Linear(12, 2).double(), torch.empty(0, dtype=torch.float64)
    config = config_of(accumulate=1)
    few, many = (trial_bytes(net, (12,), train, like) for train in (config.train, largest(config)))
    assert few == many
    searched = config.model_copy(update={"space": {"train.ema": None, "train.accumulate": None}})
    assert trial_bytes(net, (12,), largest(searched), like) == few + 2 * 8 * (12 * 2 + 2)
