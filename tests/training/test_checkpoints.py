"""A trial that goes on from a checkpoint gives the numbers of one that never stopped."""

import logging

import pytest
import torch
from plain_training import make_config, make_data

from hpsearch.errors import EngineError
from hpsearch.results import TrialSpec
from hpsearch.training import Pack
from hpsearch.training.checkpoints import Checkpoint, CheckpointError, Checkpoints

SPECS = [TrialSpec(number, {"lr": 1e-3 * (number + 1), "model.dropout": 0.1 * number}) for number in range(4)]


@pytest.fixture(scope="module")
def data():
    return make_data()


def finish(pack, results=()):
    collected = {number: [] for number in pack.numbers}
    for result in results:
        collected[result.number].append(result)
    while not pack.done:
        for result in pack.run_epoch().results:
            collected[result.number].append(result)
    return collected


@pytest.mark.parametrize(
    ("optimizer", "model"),
    [
        *((each, {"model__hidden": (6,), "model__batch_norm": True}) for each in ("sgd", "momentum", "adam", "adamw")),
        ("nesterov", {"model__name": "lenet"}),
    ],
    ids=str,
)
def test_going_on_in_another_pack_changes_nothing(tmp_path, data, optimizer, model):
    config = make_config(epochs=4, train__optimizer=optimizer, **model)
    whole = finish(Pack(config, data, SPECS))

    first = Pack(config, data, SPECS)
    begun = [*first.run_epoch().results, *first.run_epoch().results]
    checkpoints = Checkpoints(tmp_path, "study")
    for number in (1, 3):
        own = [result for result in begun if result.number == number]
        checkpoints.save(number, Checkpoint(first.snapshot(number), own))
    loaded = {number: checkpoints.load(number) for number in (3, 1)}
    specs = [SPECS[3], SPECS[1]]  # another width and another order
    second = Pack(config, data, specs, snapshots={number: found.snapshot for number, found in loaded.items()})
    assert second.epoch == 2
    resumed = finish(second, [result for found in loaded.values() for result in found.results])
    for number in (3, 1):
        for found, expected in zip(resumed[number], whole[number], strict=True):
            assert found.as_plain() == pytest.approx(
                expected.as_plain(), rel=1e-9
            )  # sums of another width, other order


def test_a_resumed_trial_still_knows_its_first_cost(data):
    """A rate that explodes late, against the cost of the very first step, not of the first one after resuming."""
    config = make_config(epochs=40, model__hidden=(6,), train__optimizer="sgd", train__lr_decay=1.0)
    spec = [TrialSpec(0, {"lr": 0.0205, "reg": 100.0})]
    pack, explosions = Pack(config, data, spec), []
    snapshot = None
    while not pack.done:
        explosions += pack.run_epoch().explosions
        if pack.numbers and pack.epoch == 1:
            snapshot = pack.snapshot(0)
    assert explosions
    assert explosions[0].epoch > 1
    again, found = Pack(config, data, spec, snapshots={0: snapshot}), []
    while not again.done:
        found += again.run_epoch().explosions
    assert found == explosions


def test_two_generations_are_kept_and_a_damaged_one_is_passed_over(tmp_path, data, caplog):
    config = make_config(epochs=5, model__hidden=(6,))
    pack, checkpoints, results = Pack(config, data, SPECS[:1]), Checkpoints(tmp_path, "study"), []
    for _ in range(4):
        results += pack.run_epoch().results
        checkpoints.save(0, Checkpoint(pack.snapshot(0), list(results)))
    folder = tmp_path / "study" / "0"
    assert sorted(path.name for path in folder.iterdir()) == ["3.json", "3.safetensors", "4.json", "4.safetensors"]

    newest = folder / "4.safetensors"
    content = bytearray(newest.read_bytes())
    content[-1] ^= 1
    newest.write_bytes(content)
    logging.getLogger("hpsearch").propagate = True
    with caplog.at_level(logging.WARNING):
        assert checkpoints.load(0).snapshot.epoch == 3
    assert "checksum mismatch" in caplog.text
    newest.write_bytes(content[:10])
    assert checkpoints.load(0).snapshot.epoch == 3
    (folder / "3.json").write_text("{}")
    assert checkpoints.load(0) is None
    checkpoints.remove(0)
    assert not folder.exists()
    assert checkpoints.load(0) is None


def test_a_checkpoint_that_was_not_announced_does_not_exist(tmp_path, data):
    pack, checkpoints = Pack(make_config(epochs=2, model__hidden=(6,)), data, SPECS[:1]), Checkpoints(tmp_path, "study")
    results = pack.run_epoch().results
    checkpoints.save(0, Checkpoint(pack.snapshot(0), results))
    (tmp_path / "study" / "0" / "1.json").unlink()
    assert checkpoints.load(0) is None


def test_an_unwritable_folder_is_named_with_the_room_on_its_disk(tmp_path, data):
    pack = Pack(make_config(epochs=2, model__hidden=(6,)), data, SPECS[:1])
    results = pack.run_epoch().results
    (tmp_path / "study").write_text("a file where the folder should be")
    with pytest.raises(CheckpointError, match=r"trial 0 .*\n.*bytes"):
        Checkpoints(tmp_path, "study").save(0, Checkpoint(pack.snapshot(0), results))


def test_snapshots_of_another_net_or_epoch_are_refused(data):
    config = make_config(epochs=3, model__hidden=(6,))
    pack = Pack(config, data, SPECS[:2])
    pack.run_epoch()
    early = pack.snapshot(0)
    pack.run_epoch()
    late = pack.snapshot(1)
    with pytest.raises(EngineError, match="not one pack's"):
        Pack(config, data, SPECS[:2], snapshots={0: early, 1: late})
    with pytest.raises(EngineError, match="another net"):
        Pack(make_config(epochs=3, model__hidden=(7,)), data, SPECS[:1], snapshots={0: early})
    assert all(tensor.device == torch.device("cpu") for tensor in early.tensors.values())
