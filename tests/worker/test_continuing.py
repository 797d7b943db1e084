"""The states of the best trials of a stage, and trials that go on from them: as one long training, to the bit."""

import dataclasses

import pytest
import torch
from plain_training import make_config, make_data
from recorded_steps import rehearsed

from hpsearch.analysis import attributes
from hpsearch.analysis.origins import Origin
from hpsearch.config.metric import ACCURACY, known_metric
from hpsearch.results import TrialSpec
from hpsearch.storage import Lease
from hpsearch.training.checkpoints import Checkpoints
from hpsearch.training.folds import make_pack
from hpsearch.worker.continuing import Continuing
from hpsearch.worker.held import HeldTrial
from hpsearch.worker.top_snapshots import TopSnapshots

__all__ = ["rehearsed"]

SHORT, LONG = 2, 5
PARAMS = {3: {"lr": 0.02}, 5: {"lr": 0.05}, 8: {"lr": 0.01}}
NEW = {3: 0, 5: 1, 8: 2}  # numbers in the stage that goes on


def train(pack, results):
    while not pack.done:
        for result in pack.run_epoch().results:
            results.setdefault(result.number, []).append(result)
    return pack


def begin(folder, data, config, *, engine="loop", num=3, numbers=PARAMS):
    """The first stage: what it keeps of these trials."""
    specs, results = [TrialSpec(number, PARAMS[number]) for number in numbers], {}
    pack = train(make_pack(config, data, specs, engine=engine), results)
    held = {n: HeldTrial(Lease(n, n, 1, PARAMS[n]), results[n]) for n in numbers}
    notes = []
    top = TopSnapshots(Checkpoints(folder, "coarse-1"), num, ACCURACY, notes.append)
    top.beside(pack, lambda completed: {})(held)
    assert not notes
    return held


def lease_of(number, states="coarse-1", epoch=SHORT):
    origin = Origin("coarse", number, epoch, states)
    return Lease(90 + number, NEW[number], 1, PARAMS[number], {attributes.CONTINUED: origin.as_dict()})


def go_on(folder, data, config, *, engine="loop"):
    """The second stage: its pack, and what it has reported with what was reported before."""
    continuing = Continuing(folder, pytest.fail, needs_best=True, direction="maximize")
    begun = {NEW[n]: continuing.begin(lease_of(n), LONG) for n in PARAMS}
    specs = [TrialSpec(NEW[n], params) for n, params in PARAMS.items()]
    snapshots = {n: checkpoint.snapshot for n, checkpoint in begun.items()}
    pack = make_pack(config, data, specs, engine=engine, snapshots=snapshots)
    results = {n: list(checkpoint.results) for n, checkpoint in begun.items()}
    return train(pack, results), results


def assert_is_one_long_training(folder, data, make, engine):
    begin(folder, data, make(SHORT), engine=engine)
    pack, results = go_on(folder, data, make(LONG), engine=engine)
    whole = {}
    specs = [TrialSpec(NEW[n], params) for n, params in PARAMS.items()]
    expected = train(make_pack(make(LONG), data, specs, engine=engine), whole)
    assert results == whole
    for number in NEW.values():
        for which in ("best", "last"):
            own, other = pack.state(number, which), expected.state(number, which)
            assert all(torch.equal(own[name], other[name]) for name in other)


@pytest.mark.parametrize("engine", ["loop", "vmap", "fused", "graph"])
def test_it_is_one_long_training(tmp_path, engine, rehearsed):
    options = {"model__hidden": (6,), "train__optimizer": "adam"}
    assert_is_one_long_training(tmp_path, make_data(), lambda epochs: make_config(epochs, 1e9, **options), engine)
    assert bool(rehearsed) == (engine == "graph")


OTHERS = {
    "averages": {"train__ema": 0.9},
    "accumulation": {"train__accumulate": 3},
    "momentum and batch norm": {"train__momentum": 0.9, "model__batch_norm": True},
    "dropout": {"model__dropout": 0.3},
    "step": {"train__lr_schedule": "step", "train__lr_step": 2, "train__lr_decay": 0.5},
    "sgdr": {"train__lr_schedule": "sgdr", "train__lr_period": 3},
    "inverse-sqrt": {"train__lr_schedule": "inverse-sqrt"},
    "warm-up longer than the first stage": {"train__warmup": 3.5, "train__lr_schedule": "constant"},
}


@pytest.mark.parametrize("options", OTHERS.values(), ids=OTHERS)
def test_all_that_a_trial_is_made_of_comes_along(tmp_path, options):
    net = {"model__hidden": (6,), **options}
    assert_is_one_long_training(tmp_path, make_data(), lambda epochs: make_config(epochs, 1e9, **net), "fused")


def test_folds_come_along(tmp_path):
    data = make_data()
    other = dataclasses.replace(make_data(num_train=48))
    folded = dataclasses.replace(data, other_folds=(other,))
    assert_is_one_long_training(tmp_path, folded, lambda epochs: make_config(epochs, 1e9, model__hidden=(6,)), "loop")


def test_augmentation_goes_on(tmp_path):
    def make(epochs):
        return make_config(epochs, 1e9, model__hidden=(6,), data__augment=["crop:1", "hflip"])

    data = make_data().augmented_by(make(SHORT).data.augment)
    assert data.augment
    assert_is_one_long_training(tmp_path, data, make, "fused")


def test_one_that_explodes_later_does_so_where_it_would_have(tmp_path, monkeypatch):
    """The cost that it is judged by is that of its first epoch, which was in the earlier stage."""
    monkeypatch.setitem(PARAMS, 3, {"lr": 2.0})

    def make(epochs):
        return make_config(epochs, 1.5, model__hidden=(6,), train__warmup=20.0, train__lr_schedule="constant")

    data = make_data()
    begin(tmp_path, data, make(SHORT))
    found = Continuing(tmp_path, pytest.fail, needs_best=True, direction="maximize").begin(lease_of(3), LONG)
    explosions = []
    for snapshots in ({}, {0: found.snapshot}):
        pack = make_pack(make(LONG), data, [TrialSpec(0, PARAMS[3])], engine="loop", snapshots=snapshots)
        report = pack.run_epoch()
        while not report.explosions:
            report = pack.run_epoch()
        explosions.append(report.explosions)
    assert explosions[0] == explosions[1]
    assert explosions[0][0].epoch > SHORT


class TestWhichAreKept:
    def keeping(self, folder, values, num, metric=ACCURACY):
        """Trials of these values end one by one, each with a worker of its own."""

        class Pack:
            num_epochs = SHORT

            def __init__(self, number):
                self.number = number

            def epochs_of(self, number):
                return SHORT

            def snapshot(self, number):
                return made[number].snapshot

        data, made = make_data(), {}
        config = make_config(SHORT, 1e9, model__hidden=(3,))
        pack = train(make_pack(config, data, [TrialSpec(0, {})], engine="loop"), results := {})
        states = Checkpoints(folder, "coarse-1", direction=metric.direction)
        for number, value in values.items():
            own = [dataclasses.replace(r, number=number, val_acc=value, score=value) for r in results[0]]
            best = dataclasses.replace(own[0])
            snapshot = dataclasses.replace(pack.snapshot(0), best=None)
            made[number] = HeldTrial(Lease(number, number, 1), own, metric=metric)
            made[number].snapshot = dataclasses.replace(snapshot, best=best)
            top = TopSnapshots(states, num, metric, pytest.fail)
            top.beside(Pack(number), lambda completed: {})({number: made[number]})
        return sorted(int(path.name) for path in (folder / "coarse-1").glob("*"))

    def test_the_best_and_of_equals_the_lowest_numbers(self, tmp_path):
        assert self.keeping(tmp_path, {4: 0.5, 2: 0.9, 7: 0.9, 1: 0.7, 0: 0.7}, 3) == [0, 2, 7]

    def test_those_of_the_lowest_loss(self, tmp_path):
        loss = known_metric("loss", "minimize")
        assert self.keeping(tmp_path, {4: 0.5, 2: 0.9, 7: 0.1}, 2, loss) == [4, 7]

    def test_none_unless_asked(self, tmp_path):
        begin(tmp_path, make_data(), make_config(SHORT, 1e9), num=0)
        assert list(tmp_path.iterdir()) == []


class TestWithoutAState:
    def begun(self, folder, lease, num_epochs=LONG):
        notes = []
        continuing = Continuing(folder, notes.append, needs_best=True, direction="maximize")
        return continuing.begin(lease, num_epochs), notes

    def test_it_is_trained_from_its_first_epoch_and_says_so(self, tmp_path):
        found, notes = self.begun(tmp_path, lease_of(3))
        assert found is None
        assert "coarse trial 3 is not in" in notes[0]
        assert "trial 0 is trained from its first epoch, which gives the same" in notes[0]

    def test_also_where_the_state_is_damaged(self, tmp_path):
        begin(tmp_path, make_data(), make_config(SHORT, 1e9))
        (tmp_path / "coarse-1" / "3" / f"{SHORT}.safetensors").write_bytes(b"no weights")
        assert self.begun(tmp_path, lease_of(3))[0] is None
        assert self.begun(tmp_path, lease_of(5))[0] is not None

    def test_a_state_of_another_epoch_is_none(self, tmp_path):
        begin(tmp_path, make_data(), make_config(SHORT, 1e9))
        assert self.begun(tmp_path, lease_of(3, epoch=1))[0] is None

    @pytest.mark.parametrize("states", ["../elsewhere", "..", ".", "", "/etc"])
    def test_no_folder_elsewhere_is_read(self, tmp_path, states):
        begin(tmp_path, make_data(), make_config(SHORT, 1e9))
        assert self.begun(tmp_path, lease_of(3, states=states)) == (None, [])

    def test_trials_of_no_more_epochs_and_all_others_begin_by_themselves(self, tmp_path):
        begin(tmp_path, make_data(), make_config(SHORT, 1e9))
        assert self.begun(tmp_path, lease_of(3), SHORT) == (None, [])
        assert self.begun(tmp_path, Lease(1, 1, 1)) == (None, [])
