"""Cross-validation: a pack on all folds is what separate trainings on each of them are, epoch by epoch."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from plain_training import PlainTrial, make_config, make_data

from hpsearch.datasets.folds import draw_folds
from hpsearch.errors import EngineError
from hpsearch.results import EpochResult, FoldedResult, TrialSpec
from hpsearch.training import Pack
from hpsearch.training.checkpoints import Checkpoint, Checkpoints
from hpsearch.training.folds import FoldedPack, make_pack, mean_result

SPECS = [
    TrialSpec(0, {"lr": 2e-3, "reg": 0.1}),
    TrialSpec(1, {"lr": 3e-3, "model.dropout": 0.3}),
    TrialSpec(2, {"lr": 5e-3, "train.momentum": 0.5}),
]
NAMES = ("cost", "train_loss", "train_acc", "val_loss", "val_acc", "update_ratio", "lr")
NUM_FOLDS = 3


def folded(num_images=60, num_folds=NUM_FOLDS):
    whole = make_data(num_train=num_images, noise=2.0)
    whole = replace(whole, x_train_NCHW=0.3 * whole.x_train_NCHW)
    y = whole.y_train_N.numpy()
    parts = []
    for val in draw_folds(y, num_folds, 0):
        train = np.setdiff1d(np.arange(len(y)), val)
        parts.append(
            replace(
                whole,
                x_train_NCHW=whole.x_train_NCHW[train],
                y_train_N=whole.y_train_N[train],
                x_val_NCHW=whole.x_train_NCHW[val],
                y_val_N=whole.y_train_N[val],
            )
        )
    return replace(parts[0], other_folds=tuple(parts[1:]))


@pytest.fixture(scope="module")
def data():
    return folded()


def run(pack, until=None):
    results, explosions = [], []
    while not pack.done and (until is None or pack.epoch < until):
        report = pack.run_epoch()
        results += report.results
        explosions += report.explosions
    return results, explosions


def row(result):
    return [getattr(result, name) for name in NAMES]


def test_images_of_all_folds_are_counted(data):
    assert data.num_val == 60
    assert [fold.num_val for fold in data.folds] == [20, 20, 20]
    assert [len(fold.other_folds) for fold in data.folds] == [0, 0, 0]


@pytest.mark.parametrize("engine", ["loop", "vmap", "fused"])
def test_each_epoch_is_the_mean_of_plain_trainings_on_each_fold(data, engine):
    config = make_config(epochs=3, model__hidden=(6,))
    results, explosions = run(make_pack(config, data, SPECS, engine=engine))
    assert not explosions
    for spec in SPECS:
        plain = [PlainTrial(config.with_params(spec.params), fold).run() for fold in data.folds]
        own = [result for result in results if result.number == spec.number]
        if "model.dropout" in spec.params and engine != "loop":
            continue  # noise that plain PyTorch draws otherwise
        for epoch, result in enumerate(own):
            expected = [trial.epochs[epoch] for trial in plain]
            assert row(result) == pytest.approx(np.mean(expected, axis=0), rel=1e-7, abs=1e-9)
            assert result.folds == pytest.approx([each[NAMES.index("val_acc")] for each in expected])


def test_a_pack_of_folds_is_a_pack_on_each(data):
    config = make_config(epochs=4, model__hidden=(6,))
    config = config.model_copy(update={"train": config.train.model_copy(update={"metric": "macro_f1"})})
    results, _ = run(make_pack(config, data, SPECS))
    alone = [run(Pack(config, fold, SPECS))[0] for fold in data.folds]
    assert results == [mean_result(same) for same in zip(*alone, strict=True)]
    assert results[0].val_score == pytest.approx(np.mean([each[0].val_score for each in alone]))


def test_a_trial_explodes_in_all_folds_if_it_does_in_one():
    """The images of one fold are large, so that a rate is too high for them which is not for the others."""
    data = folded()
    huge = replace(data.other_folds[0], x_train_NCHW=data.other_folds[0].x_train_NCHW * 4)
    data = replace(data, other_folds=(huge, data.other_folds[1]))
    config = make_config(epochs=3, model__hidden=(6,))
    config = config.model_copy(update={"train": config.train.model_copy(update={"explosion": 6.0})})
    specs = [TrialSpec(0, {"lr": 0.1}), TrialSpec(1, {"lr": 1e-4})]
    assert not any(run(Pack(config, fold, specs[:1]))[1] for fold in (data.folds[0], data.folds[2]))
    pack = make_pack(config, data, specs)
    results, explosions = run(pack)
    _, alone = run(Pack(config, huge, specs))
    assert explosions == alone
    assert [explosion.number for explosion in explosions] == [0]
    assert {each.numbers for each in pack.packs} == {(1,)}
    assert [result.epoch for result in results if result.number == 0] == list(range(1, explosions[0].epoch))
    expected = [run(Pack(config, fold, specs[1:]))[0] for fold in data.folds]
    for found, same in zip([r for r in results if r.number == 1], zip(*expected, strict=True), strict=True):
        assert row(found) == pytest.approx(row(mean_result(same)), rel=1e-9)


def test_a_pack_in_which_all_explode_is_done(data):
    pack = make_pack(make_config(epochs=3, model__hidden=(6,)), data, [TrialSpec(n, {"lr": 1e6}) for n in range(2)])
    results, explosions = run(pack)
    assert not results
    assert sorted(explosion.number for explosion in explosions) == [0, 1]
    assert pack.done
    assert pack.numbers == ()


def test_the_weights_that_are_kept_are_those_of_the_best_mean(data):
    config = make_config(epochs=8, model__hidden=(6,), train__lr_decay=1.0)
    pack = make_pack(config, data, [TrialSpec(0, {"lr": 0.03})])
    results, _ = run(pack)
    best = max(results, key=lambda result: (result.val_acc, -result.epoch))
    assert 1 < best.epoch < 8
    alone = Pack(config, data.folds[0], [TrialSpec(0, {"lr": 0.03})])
    own, _ = run(alone, until=best.epoch)
    expected = alone.state(0, "last")
    for name, tensor in pack.state(0).items():
        torch.testing.assert_close(tensor, expected[name])
    of_fold = max(own, key=lambda result: (result.val_acc, -result.epoch))
    assert pack.state(0, "last").keys() == expected.keys()
    assert (best.val_acc, of_fold.val_acc) == (np.mean(best.folds), pytest.approx(max(r.val_acc for r in own)))


@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
def test_going_on_from_a_checkpoint_changes_nothing(data, tmp_path, optimizer):
    config = make_config(epochs=5, model__hidden=(6,), model__batch_norm=True, train__optimizer=optimizer)
    whole = make_pack(config, data, SPECS)
    results, _ = run(whole)
    first = make_pack(config, data, SPECS)
    begun, _ = run(first, until=3)
    checkpoints = Checkpoints(tmp_path, "study")
    for number in (2, 1):
        own = [result for result in begun if result.number == number]
        checkpoints.save(number, Checkpoint(first.snapshot(number), own))
    loaded = {number: checkpoints.load(number) for number in (2, 1)}
    assert all(found is not None for found in loaded.values())
    second = make_pack(config, data, [SPECS[2], SPECS[1]], snapshots={n: c.snapshot for n, c in loaded.items()})
    assert (second.epoch, second.numbers) == (3, (2, 1))
    rest, _ = run(second)
    for number in (2, 1):
        expected = [result for result in results if result.number == number]
        found = [*loaded[number].results, *(result for result in rest if result.number == number)]
        assert [r.epoch for r in found] == [1, 2, 3, 4, 5]
        for mine, other in zip(found, expected, strict=True):
            assert row(mine) == pytest.approx(row(other), rel=1e-9)
            assert mine.folds == pytest.approx(other.folds)
        for name, tensor in second.state(number).items():
            torch.testing.assert_close(tensor, whole.state(number)[name], rtol=1e-8, atol=1e-10)


def test_a_trial_that_is_dropped_changes_nothing_for_the_others(data):
    config = make_config(epochs=3, model__hidden=(6,))
    results, _ = run(make_pack(config, data, SPECS))
    pack = make_pack(config, data, SPECS)
    first = pack.run_epoch().results
    pack.drop([0])
    rest, _ = run(pack)
    expected = [result for result in results if result.number != 0]
    for mine, other in zip([r for r in [*first, *rest] if r.number != 0], expected, strict=True):
        assert row(mine) == pytest.approx(row(other), rel=1e-9)


def test_without_folds_a_pack_is_a_pack(data):
    pack = make_pack(make_config(epochs=1, model__hidden=(6,)), data.folds[0], SPECS, refills=False)
    assert isinstance(pack, Pack)
    with pytest.raises(EngineError):
        make_pack(make_config(epochs=1, model__hidden=(6,)), data, SPECS).admit([TrialSpec(9)])
    assert isinstance(make_pack(make_config(epochs=1, model__hidden=(6,)), data, SPECS, refills=True), FoldedPack)


def test_a_result_of_folds_is_read_as_it_was_written():
    result = FoldedResult(3, 1, 1.0, 1.0, 0.5, 1.0, 0.5, 1e-3, 0.1, folds=[0.25, float("nan")])
    again = EpochResult.of_plain(result.as_plain())
    assert again.folds[0] == 0.25
    assert np.isnan(again.folds[1])
    plain = EpochResult(3, 1, 1.0, 1.0, 0.5, 1.0, 0.5, 1e-3, 0.1)
    assert "folds" not in plain.as_plain()
    assert EpochResult.of_plain(plain.as_plain()) == plain
