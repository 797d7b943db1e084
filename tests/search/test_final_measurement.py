"""The test set's one use."""

import json
import math

import numpy as np
import pytest
import torch

from hpsearch.analysis import attributes
from hpsearch.analysis.study_trials import read_study
from hpsearch.datasets import preparing
from hpsearch.datasets.preparing import prepare_test
from hpsearch.errors import ConfigError, DataError, RefusedError
from hpsearch.models import build
from hpsearch.results import TrialSpec
from hpsearch.search import final_measurement as final_test
from hpsearch.search.final_measurement import confusion_matrix, joined
from hpsearch.search.final_result import wilson_interval
from hpsearch.search.stage_run import run_stage
from hpsearch.search.stored_trials import retrain
from hpsearch.stages.fine_planning import plan_fine
from hpsearch.stages.planning import plan_coarse
from hpsearch.storage import find_study
from hpsearch.training import Pack
from hpsearch.training.images import load_images

SETTINGS = {"data__synthetic__test": 60, "data__synthetic__noise": 2.0}


def search(db, settings, name="coarse"):
    plan = plan_coarse(settings, name)
    return run_stage(db, plan, settings.run, checks=False)


def measure(db, settings, study="coarse", number=None, **options):
    return final_test.final_test(db, settings.run, study, number, **options)


def uses(db, study="coarse"):
    return find_study(db, study).attrs[attributes.TESTS]


@pytest.mark.parametrize(
    ("accuracy", "num", "low", "high"),
    [(0.5, 100, 0.4038, 0.5962), (0.9, 10, 0.5958, 0.9821), (1.0, 20, 0.8389, 1.0), (0.0, 20, 0.0, 0.1611)],
)
def test_wilsons_interval(accuracy, num, low, high):
    assert wilson_interval(accuracy, num) == pytest.approx((low, high), abs=1e-4)


def test_a_confusion_matrix_has_true_classes_in_rows():
    matrix = confusion_matrix(torch.tensor([0, 0, 1, 2]), torch.tensor([0, 2, 1, 1]), 4)
    assert matrix.tolist() == [[1, 0, 1, 0], [0, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]]


def test_the_best_trial_is_trained_again_and_measured_as_plain_pytorch_would(db, tiny):
    settings = tiny(**SETTINGS)
    best = search(db, settings).best
    result = measure(db, settings)
    assert (result.number, result.params, result.val_acc) == (best.number, best.params, best.value)
    assert (result.epochs, result.num_test, result.seeds) == (2, 60, (0,))
    assert (result.trained_epochs, result.measured_epochs) == ((2,), (best.attrs[attributes.BEST_EPOCH],))

    config = plan_coarse(settings).trial_config.with_params(best.params)
    data = load_images(config, settings.run)
    pack = Pack(config, data, [TrialSpec(best.number)])
    while not pack.done:
        pack.run_epoch()
    net = build(config.model, data.shape, data.num_classes)
    net.load_state_dict(pack.state(best.number))
    x, y = prepare_test(config.data, data)
    predicted = net.eval()(x).argmax(1)
    assert result.accuracies == (float((predicted == y).double().mean()),)
    assert result.mean == result.accuracies[0] == result.confusion.trace() / 60
    assert result.confusion.sum(1).tolist() == torch.bincount(y, minlength=3).tolist()
    assert result.per_class == [float((predicted[y == c] == c).double().mean()) for c in range(3)]
    assert result.interval == wilson_interval(result.mean, 60)
    assert result.std is None


def test_views_are_measured_beside_the_image_as_it_is(db, tiny):
    settings = tiny(data__synthetic__noise=4.0, data__synthetic__test=60)
    search(db, settings)
    result, plain = measure(db, settings, views="flip", num_seeds=2), measure(db, settings, num_seeds=2)
    assert result.accuracies == plain.accuracies
    assert (plain.views, plain.view_accuracies, plain.view_mean) == (None, (), None)
    stored = final_test.stored_trial(read_study(db, "coarse"), result.number)
    data = load_images(stored.config, settings.run)
    x, y = prepare_test(stored.config.data, data)
    expected = []
    for seed in (0, 1):
        net = build(stored.config.model, data.shape, data.num_classes)
        net.load_state_dict(retrain(stored.config, data, seed).state)
        with torch.no_grad():
            p = net.eval()(x).softmax(1) + net(x.flip(-1)).softmax(1)
        expected.append(float((p.argmax(1) == y).double().mean()))
    assert result.view_accuracies == result.view_scores == tuple(expected)
    assert result.view_mean == np.mean(expected)
    kept = uses(db)[0]
    assert (kept["views"], kept["view_mean"]) == ("flip", result.view_mean)
    assert "views" not in uses(db)[1]
    with pytest.raises(ConfigError, match="--views x is not allowed"):
        measure(db, settings, views="x")


def test_the_weights_are_those_of_the_epoch_that_is_the_best_on_the_validation_images(db, tiny, monkeypatch):
    settings = tiny(coarse__epochs=4, **SETTINGS)
    early = next(t for t in search(db, settings).trials if t.attrs.get(attributes.BEST_EPOCH) == 2)
    config = plan_coarse(settings).trial_config.with_params(early.params)
    data = load_images(config, settings.run)
    pack = Pack(config, data, [TrialSpec(0)])
    for _ in range(2):
        pack.run_epoch()
    measured, scores = [], final_test.class_scores
    monkeypatch.setattr(
        final_test, "class_scores", lambda m, state, x, n: measured.append(state) or scores(m, state, x, n)
    )
    result = measure(db, settings, number=early.number)
    assert (result.trained_epochs, result.measured_epochs) == ((4,), (2,))
    assert result.as_dict()["measured_epochs"] == [2]
    expected = pack.state(0, "last")
    assert all(torch.equal(tensor, expected[name]) for name, tensor in measured[0].items())


def test_several_seeds_are_several_trainings(db, tiny):
    settings = tiny(train__seed=3, **SETTINGS)
    search(db, settings)
    result = measure(db, settings, num_seeds=3)
    assert result.seeds == (3, 4, 5)
    assert len(set(result.accuracies)) > 1
    assert result.mean == pytest.approx(np.mean(result.accuracies))
    assert result.std == pytest.approx(np.std(result.accuracies, ddof=1))
    assert result.confusion.sum() == 180
    assert result.accuracies[0] == measure(db, settings).mean
    assert result.interval == wilson_interval(result.mean, 60)


def test_another_trial_than_the_best_one(db, tiny):
    settings = tiny(**SETTINGS)
    evidence = search(db, settings)
    other = next(t for t in evidence.trials if t.state == "COMPLETE" and t.number != evidence.best.number)
    assert measure(db, settings, number=other.number).params == other.params


def test_training_on_val_too_ends_after_the_best_epoch(db, tiny, monkeypatch):
    settings = tiny(coarse__epochs=4, **SETTINGS)
    evidence = search(db, settings)
    early = next(t for t in evidence.trials if t.attrs.get(attributes.BEST_EPOCH) == 2)
    seen = []

    def spy(config, data, seed, **options):
        seen.append((data.num_train, options["epochs"], config.train.epochs))
        return retrain(config, data, seed, **options)

    monkeypatch.setattr(final_test, "retrain", spy)
    result = measure(db, settings, number=early.number, train_on_val=True)
    assert seen == [(90, 2, 4)]
    assert (result.num_train, result.epochs, result.train_on_val) == (90, 2, True)
    assert measure(db, settings, number=early.number).num_train == 72


def test_joined_images_keep_their_normalization(tiny):
    settings = tiny()
    data = load_images(settings.study, settings.run)
    both = joined(data)
    assert both.normalization is data.normalization
    assert torch.equal(both.x_train_NCHW[: data.num_train], data.train_images())
    assert torch.equal(both.y_train_N[data.num_train :], data.y_val_N)


def test_each_use_is_kept_and_counted_over_the_family(db, tiny):
    settings = tiny(**SETTINGS)
    coarse = search(db, settings)
    plan = plan_fine(coarse, settings)
    run_stage(db, plan, settings.run, checks=False)
    search(db, settings, "stranger")
    counts = []
    for study in ("fine", "coarse", "fine", "stranger"):
        result = measure(db, settings, study)
        [(family, of_family)] = result.uses.by_family.items()
        counts.append((result.uses.by_stage[study], of_family, family, result.uses.num))
    # The stranger descends from none of them, and looks at the same images.
    assert counts == [(1, 1, "coarse", 1), (1, 2, "coarse", 2), (2, 3, "coarse", 3), (1, 1, "stranger", 4)]
    first, second = uses(db, "fine")
    assert "confusion" not in first
    assert second["confusion"] == measure(db, settings, "fine").confusion.tolist()
    assert first["accuracies"] == second["accuracies"] == [second["mean"]]
    assert {"time", "trial", "seeds", "train_on_val", "epochs", "interval", "num_test"} <= set(first)


def test_what_is_kept_stays_small(db, tiny):
    settings = tiny(data__synthetic__classes=30, data__synthetic__train=180, data__synthetic__test=60)
    search(db, settings)
    for _ in range(3):
        result = measure(db, settings)
    assert result.confusion.shape == (30, 30)
    assert all("confusion" not in use for use in uses(db))
    assert len(json.dumps(uses(db))) < 3000


def test_a_data_set_without_a_test_split_is_named(db, tiny, tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "x.npz", x_train=rng.random((60, 16)), y_train=np.arange(60) % 3)
    settings = tiny(data__source=f"npz:{tmp_path}/x.npz")
    search(db, settings)
    with pytest.raises(DataError, match="x_test"):
        measure(db, settings)
    assert attributes.TESTS not in find_study(db, "coarse").attrs


def test_other_images_are_refused(db, tiny, tmp_path):
    def save(seed):
        rng = np.random.default_rng(seed)
        x, y = rng.random((60, 16)), np.arange(60) % 3
        np.savez(tmp_path / "x.npz", x_train=x, y_train=y, x_test=x[:9], y_test=y[:9])

    save(0)
    settings = tiny(data__source=f"npz:{tmp_path}/x.npz")
    search(db, settings)
    assert measure(db, settings).num_test == 9
    save(1)
    with pytest.raises(RefusedError, match="does not hold the images"):
        measure(db, settings)


def test_trials_without_a_result_are_refused(db, tiny):
    settings = tiny(space=["lr=log(1e-3,1e8)", "reg=none"], **SETTINGS)
    evidence = search(db, settings)
    exploded = next(trial for trial in evidence.trials if trial.state == "PRUNED")
    with pytest.raises(RefusedError, match="is PRUNED"):
        measure(db, settings, number=exploded.number)
    with pytest.raises(ConfigError, match=r"no trial 99.\nAllowed: 0 ... 11"):
        measure(db, settings, number=99)


def test_seeds_that_explode_are_said_and_left_out(db, tiny, monkeypatch):
    settings = tiny(**SETTINGS)
    search(db, settings)

    def explode(config, data, seed, **options):
        lr = {"lr": 1e8} if seed in exploding else {}
        return retrain(config.with_params(lr), data, seed, **options)

    monkeypatch.setattr(final_test, "retrain", explode)
    exploding = {1}
    result = measure(db, settings, num_seeds=3)
    assert result.accuracies[1] is None
    assert len(result.measured) == 2
    assert not math.isnan(result.mean)
    assert result.confusion.sum() == 120
    exploding = {0}
    with pytest.raises(RefusedError, match="exploded with every seed: 0"):
        measure(db, settings)
    assert len(uses(db)) == 1


def test_nothing_but_the_final_test_reads_the_test_split(db, tiny, monkeypatch):
    def never(*_arguments):
        raise AssertionError("the test split was read")

    monkeypatch.setattr(preparing, "load_test", never)
    settings = tiny()
    search(db, settings)
    assert read_study(db, "coarse").best is not None
    with pytest.raises(AssertionError, match="was read"):
        measure(db, settings)
