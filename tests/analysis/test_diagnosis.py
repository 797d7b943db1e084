"""Verdicts on trials with known faults, trained for real, and tables of curves at the edges of the rules."""

import dataclasses
import itertools
import math

import pytest
import torch

from hpsearch.analysis import attributes
from hpsearch.analysis.diagnosis import VERDICTS, diagnose, diagnose_trials
from hpsearch.analysis.trial_curves import smoothed
from hpsearch.config import StudyConfig
from hpsearch.config.metric import Metric
from hpsearch.datasets.device import TrainingData
from hpsearch.datasets.normalization import fit
from hpsearch.results import EpochResult, TrialSpec
from hpsearch.storage import TrialRow
from hpsearch.training import Pack

NUM_CLASSES = 4


def templates(num_train, num_val, noise, seed):
    """Classes that a linear net can tell apart: a template each, plus noise."""
    generator = torch.Generator().manual_seed(seed)
    means = torch.randn(NUM_CLASSES, 1, 6, 6, generator=generator)

    def part(num):
        y_N = torch.arange(num) % NUM_CLASSES
        return means[y_N] + noise * torch.randn(num, 1, 6, 6, generator=generator), y_N

    return pack_data(part(num_train), part(num_val), NUM_CLASSES)


def quadrants(num_train, num_val, seed):
    """Two classes that no linear net can tell apart: the product of two signs."""
    generator = torch.Generator().manual_seed(seed)
    axes = torch.randn(2, 36, generator=generator)

    def part(num):
        signs = torch.randint(0, 2, (num, 2), generator=generator) * 2.0 - 1
        x_N = signs @ axes + 0.3 * torch.randn(num, 36, generator=generator)
        return x_N.reshape(num, 1, 6, 6), (signs.prod(1) > 0).long()

    return pack_data(part(num_train), part(num_val), 2)


def pack_data(train, val, num_classes):
    return TrainingData(
        *(*train, *val),
        shape=(1, 6, 6),
        class_names=tuple(map(str, range(num_classes))),
        normalization=fit("none", train[0].numpy(), 1.0),
        augment=(),
        fingerprint="",
    )


def trained(data, epochs, params, seed=0, explosion=3.0, **structure):
    """The epochs of each spec's trial and whether it exploded, from one pack."""
    values = {"train.batch_size": 20, "train.lr_decay": 1.0, "train.seed": seed, **structure}
    config = StudyConfig().with_params({name.replace("__", "."): value for name, value in values.items()})
    config = config.model_copy(
        update={"train": config.train.model_copy(update={"epochs": epochs, "explosion": explosion})}
    )
    pack = Pack(config, data, [TrialSpec(number, each) for number, each in enumerate(params)], engine="fused")
    curves, exploded = [[] for _ in params], [False] * len(params)
    while not pack.done:
        report = pack.run_epoch()
        for result in report.results:
            curves[result.number].append(result)
        for explosion in report.explosions:
            exploded[explosion.number] = True
    return list(zip(curves, exploded, strict=True))


@pytest.mark.parametrize("seed", range(3))
def test_rates_too_low_right_and_too_high(seed):
    params = [{"lr": lr} for lr in (1e-6, 1e-5, 1e-2, 3e-2, 1e3)]
    data = templates(400, 200, 1.0, seed)
    found = [
        diagnose(epochs, exploded=exploded, num_classes=NUM_CLASSES, best_val_acc=1.0)
        for epochs, exploded in trained(data, 10, params, seed, model__hidden=(20,))
    ]
    assert [each.verdict for each in found] == ["lr too low", "lr too low", "healthy", "healthy", "exploded"]
    assert "raise lr" in found[0].advice
    assert "far below" in found[0].notes[0]
    assert "lower lr" in found[4].advice


@pytest.mark.parametrize("seed", range(3))
def test_few_noisy_images_and_many_units_overfit(seed):
    params = [{"lr": 2e-2}, {"lr": 2e-2, "reg": 30.0}]
    (free, _), (held, _) = trained(templates(60, 200, 3.0, seed), 40, params, seed, model__hidden=(200,))
    found = diagnose(free, exploded=False, num_classes=NUM_CLASSES, best_val_acc=max(x.val_acc for x in free))
    assert found.verdict == "overfitting"
    assert {"train.reg", "model.dropout", "data.augment", "model.hidden"} <= words(found.advice)
    assert any("above validation accuracy" in note for note in found.notes)
    assert diagnose(held, exploded=False, num_classes=NUM_CLASSES).verdict == "underfitting"


@pytest.mark.parametrize("seed", range(3))
def test_too_little_capacity_underfits_and_more_of_it_is_healthy(seed):
    data = quadrants(400, 200, seed)
    [(linear, _), (bouncing, _)] = trained(data, 15, [{"lr": 1e-3}, {"lr": 3e-2}], seed, model__name="linear")
    [(deep, _)] = trained(data, 15, [{"lr": 3e-2}], seed, model__hidden=(30,))
    best = max(x.val_acc for x in deep)
    found = diagnose(linear, exploded=False, num_classes=2, best_val_acc=best)
    assert found.verdict == "underfitting"
    assert diagnose(bouncing, exploded=False, num_classes=2, best_val_acc=best).verdict == "lr too high"
    assert "model.hidden" in words(found.advice)
    assert diagnose(deep, exploded=False, num_classes=2, best_val_acc=1.0).verdict == "healthy"


@pytest.mark.parametrize("seed", range(3))
def test_too_much_regularization_underfits_whatever_the_rate(seed):
    params = [{"lr": lr, "reg": 100.0 * 1e-2 / lr} for lr in (1e-3, 1e-2)]
    data = templates(400, 200, 1.0, seed)
    for epochs, exploded in trained(data, 10, params, seed, model__hidden=(20,)):
        assert not exploded
        found = diagnose(epochs, exploded=False, num_classes=NUM_CLASSES, best_val_acc=1.0)
        assert found.verdict == "underfitting"
        assert found.advice.startswith("less regularization")


def words(text):
    return {word.strip("().,;:") for word in text.split()}


def epochs_of(cost=None, update_ratio=1e-3, **curves):
    """Epochs from whole curves; what is not given does not move."""
    num = len(next(iter(curves.values())))
    level = {"train_loss": 1.0, "train_acc": 0.7, "val_loss": 1.0, "val_acc": 0.7}
    full = {name: curves.get(name, [value] * num) for name, value in level.items()}
    costs = cost or full["train_loss"]
    rows = zip(*full.values(), costs, strict=True)
    return [
        EpochResult(0, epoch, row[4], *row[:4], update_ratio=update_ratio, lr=0.1)
        for epoch, row in enumerate(rows, start=1)
    ]


def curve(first, last, num=20):
    """Falls or rises quickly first, then slowly."""
    return [last + (first - last) * math.exp(-4 * i / (num - 1)) for i in range(num)]


LEARNS = {"train_loss": curve(2.3, 0.3), "val_loss": curve(2.3, 0.4), "train_acc": curve(0.1, 0.9)}
STUCK = {"train_loss": curve(2.303, 2.29), "val_loss": curve(2.303, 2.295), "train_acc": curve(0.1, 0.12)}
PEAKED = [*curve(2.3, 1.2, 8), *curve(1.2, 1.8, 12)]
ABOVE = {"train_loss": [2.36] * 20, "train_acc": [0.11] * 20, "val_loss": [2.37] * 20, "val_acc": [0.11] * 20}
DEAD = {"train_loss": [2.3] * 20, "train_acc": [0.115] * 20, "val_loss": [2.3] * 20, "val_acc": [0.11] * 20}
MEMORIZES = {"train_loss": curve(2.3, 0.01), "train_acc": curve(0.1, 1.0)}


@pytest.mark.parametrize(
    ("verdict", "best", "curves"),
    [
        ("healthy", 0.88, LEARNS | {"val_acc": curve(0.1, 0.87)}),
        ("healthy", None, LEARNS | {"val_acc": curve(0.1, 0.87)}),
        ("underfitting", 0.9, LEARNS | {"train_acc": curve(0.1, 0.66), "val_acc": curve(0.1, 0.65)}),
        ("healthy", 0.66, LEARNS | {"train_acc": curve(0.1, 0.66), "val_acc": curve(0.1, 0.65)}),
        ("underfitting", None, LEARNS | {"train_acc": curve(0.1, 0.4), "val_acc": curve(0.1, 0.4)}),
        ("lr too low", 0.9, STUCK | {"val_acc": curve(0.1, 0.11), "update_ratio": 1e-5}),
        ("lr too low", None, STUCK | {"val_acc": curve(0.1, 0.11), "update_ratio": 1e-5}),
        ("underfitting", 0.9, STUCK | {"val_acc": curve(0.1, 0.11), "update_ratio": 1e-2}),
        ("underfitting", 0.9, STUCK | {"val_acc": curve(0.1, 0.11), "update_ratio": 1e-5, "cost": curve(900, 3)}),
        ("overfitting", 0.7, MEMORIZES | {"val_loss": PEAKED}),
        ("overfitting", 0.7, MEMORIZES | {"val_loss": [*curve(2.3, 1.2, 8), *[1.2] * 12]}),
        ("overfitting", 0.7, MEMORIZES | {"val_loss": [2.3 - 0.08 * epoch for epoch in range(20)]}),
        ("overfitting", 0.41, LEARNS | {"train_acc": curve(0.1, 0.6), "val_acc": curve(0.1, 0.41)}),
        ("healthy", 0.84, LEARNS | {"train_acc": curve(0.1, 0.95), "val_acc": curve(0.1, 0.83)}),
        ("lr too high", 0.9, STUCK | {"val_acc": curve(0.1, 0.11), "update_ratio": 5e-2}),
        ("lr too high", 0.9, ABOVE | {"update_ratio": 2e-2}),
        ("lr too high", 0.9, ABOVE | {"update_ratio": 1e-4, "train_loss": [2.3, 3.1, *[2.36] * 18]}),
        ("lr too low", 0.9, ABOVE | {"update_ratio": 1e-4, "train_loss": curve(3.4, 2.5)}),
    ],
)
def test_verdicts_on_drawn_curves(verdict, best, curves):
    epochs = epochs_of(**curves)
    assert diagnose(epochs, exploded=False, num_classes=10, best_val_acc=best).verdict == verdict
    jitter = torch.Generator().manual_seed(1)
    for _ in range(20):  # validation as noisy as a few hundred images make it
        noise = torch.randn(2, len(epochs), generator=jitter).tolist()
        shaken = [
            dataclasses.replace(epoch, val_acc=epoch.val_acc + 0.01 * a, val_loss=epoch.val_loss * (1 + 0.01 * b))
            for epoch, a, b in zip(epochs, *noise, strict=True)
        ]
        assert diagnose(shaken, exploded=False, num_classes=10, best_val_acc=best).verdict == verdict


@pytest.mark.parametrize(
    ("verdict", "curves"),
    [
        ("dead", {"update_ratio": 1e-2}),
        ("dead", {"update_ratio": 0.0}),
        ("dead", {"update_ratio": 1e-2, "cost": curve(10, 2.3)}),
        ("underfitting", {"update_ratio": 1e-2, "cost": curve(300, 2.3)}),  # the penalty took the weights away
        ("lr too low", {"update_ratio": 1e-9}),  # small first weights: the same answers, but nothing has moved yet
        ("underfitting", {"update_ratio": 1e-2, "val_acc": [0.11, 0.12] * 10}),  # answers change
        ("underfitting", {"update_ratio": 1e-2, "val_acc": [0.6] * 20}),  # they are not guesses
        ("overfitting", {"update_ratio": 1e-2, "train_acc": [1.0] * 20, "train_loss": [0.01] * 20}),  # nor are these
    ],
)
def test_a_net_is_dead_when_no_answer_changes_any_more(verdict, curves):
    found = diagnose(epochs_of(**(DEAD | curves)), exploded=False, num_classes=10, best_val_acc=0.9)
    assert found.verdict == verdict
    if verdict == "dead":
        assert "model.init" in words(found.advice)
        assert ("train.reg" in words(found.advice)) == ("cost" in curves)


def test_the_most_frequent_class_is_a_guess_too():
    """A net that always says the class of nine images in ten is dead, however accurate."""
    says_one = {"train_loss": [0.33] * 5, "val_loss": [0.33] * 5, "train_acc": [0.9] * 5, "val_acc": [0.9] * 5}
    epochs = epochs_of(**says_one, update_ratio=1e-2)
    assert diagnose(epochs, exploded=False, num_classes=2, chance=0.9).verdict == "dead"
    assert diagnose(epochs, exploded=False, num_classes=2, chance=0.5).verdict == "healthy"


def test_steps_that_kill_every_unit_leave_a_dead_net():
    """Trained for real, at rates at which the stop on explosions is all that is between a net and its end."""
    found = []
    for seed in range(3):
        data, params = templates(400, 200, 1.0, seed), [{"lr": 0.2 + 0.06 * step} for step in range(12)]
        for epochs, exploded in trained(data, 8, params, seed, explosion=20.0, model__hidden=(20, 20, 20, 20)):
            if not exploded and {epoch.train_acc for epoch in epochs[-3:]} == {1 / NUM_CLASSES}:
                found.append(diagnose(epochs, exploded=False, num_classes=NUM_CLASSES, best_val_acc=1.0).verdict)
    assert found
    assert set(found) == {"dead"}


@pytest.mark.parametrize(
    ("note", "curves"),
    [
        ("far above", LEARNS | {"update_ratio": 2e-2}),
        ("far below", LEARNS | {"update_ratio": 5e-5}),
        ("jumped in epoch 3", LEARNS | {"train_loss": [1.2, 0.8, 1.3, *curve(0.9, 0.3, 17)]}),
        ("still rises", {"val_acc": [0.3 + 0.01 * e for e in range(20)], "val_loss": curve(1.2, 0.9)}),
        ("best at epoch 7 of 20", {"val_acc": [*curve(0.1, 0.7, 7), *curve(0.68, 0.6, 13)], "val_loss": PEAKED}),
        ("0.30 above validation", {"val_acc": [0.5] * 20, "train_acc": [0.8] * 20}),
    ],
)
def test_notes(note, curves):
    notes = diagnose(epochs_of(**curves), exploded=False, num_classes=10).notes
    assert any(note in each for each in notes), notes
    assert not any(
        note in each for each in diagnose(epochs_of(val_acc=[0.7] * 20), exploded=False, num_classes=10).notes
    )


CREEPS = {"train_loss": curve(2.3026, 2.3018), "val_loss": curve(2.3026, 2.3019)}
CS231N = CREEPS | {"train_acc": curve(0.1, 0.18), "val_acc": curve(0.11, 0.2), "update_ratio": 2e-5}


@pytest.mark.parametrize(
    ("verdict", "noted", "curves"),
    [
        ("lr too low", True, CS231N),  # "loss barely changing: learning rate is probably too low", and accuracy at 20%
        ("underfitting", True, CS231N | {"train_acc": curve(0.1, 0.3)}),  # which is no learning yet
        ("underfitting", True, CS231N | {"update_ratio": 2e-3}),
        ("lr too low", True, CS231N | {"train_loss": curve(2.31, 2.09)}),
        ("lr too low", False, CS231N | {"train_acc": curve(0.1, 0.12)}),
        ("lr too low", False, CS231N | {"val_acc": curve(0.1, 0.12)}),  # of a sample that chance favours
        ("underfitting", False, CS231N | {"train_loss": curve(2.31, 1.9)}),  # the loss has moved
        ("lr too low", False, CS231N | {"train_loss": curve(3.5, 2.5)}),  # large first weights: not alike at all
        ("healthy", False, LEARNS | {"val_acc": curve(0.1, 0.87)}),
    ],
)
def test_accuracy_that_rises_while_the_loss_hardly_falls_is_explained(verdict, noted, curves):
    found = diagnose(epochs_of(**curves), exploded=False, num_classes=10)
    notes = [note for note in found.notes if "nearly alike" in note]
    assert (found.verdict, len(notes)) == (verdict, int(noted))
    if noted:
        acc, loss = (smoothed(curves[key])[-1] for key in ("train_acc", "train_loss"))
        assert notes[0].startswith(
            f"accuracy is {acc:.2f}, though the loss, {loss:.3f}, is about that of guessing, 2.303"
        )


def test_a_net_that_leads_by_little_is_told_from_one_that_says_the_most_frequent_class():
    says_one = {"train_acc": [0.4] * 20, "val_acc": [0.4] * 20, "update_ratio": 2e-5}
    found = [diagnose(epochs_of(**CREEPS | says_one), exploded=False, num_classes=10, chance=c) for c in (0.1, 0.4)]
    assert [any("nearly alike" in note for note in each.notes) for each in found] == [True, False]


@pytest.mark.parametrize(("loss", "guessing"), [("hinge", 9.0), ("squared", 0.9)])
def test_curves_of_other_losses_are_judged_by_what_guessing_costs_them(loss, guessing):
    """The curves above, so many times as high."""
    metric = Metric(loss=loss)
    for verdict, curves in (
        ("healthy", LEARNS | {"val_acc": curve(0.1, 0.87)}),
        ("lr too low", STUCK | {"val_acc": curve(0.1, 0.11), "update_ratio": 1e-5}),
        ("lr too high", ABOVE | {"update_ratio": 2e-2}),
        ("dead", DEAD | {"update_ratio": 1e-2}),
    ):
        scale = guessing / math.log(10)
        own = {key: [scale * value for value in curve] if "loss" in key else curve for key, curve in curves.items()}
        found = diagnose(epochs_of(**own), exploded=False, num_classes=10, metric=metric)
        assert found.verdict == verdict


def test_a_ratio_within_a_factor_of_ten_is_not_noted():
    for ratio in (1.1e-4, 1e-3, 9.9e-3):
        assert diagnose(epochs_of(val_acc=[0.7] * 5, update_ratio=ratio), exploded=False, num_classes=10).notes == ()


def test_short_and_odd_trials_get_a_verdict():
    one = epochs_of(val_acc=[0.7])
    assert diagnose(one, exploded=False, num_classes=10).verdict == "healthy"
    assert diagnose(one, exploded=True, num_classes=10).verdict == "exploded"
    assert diagnose([], exploded=True, num_classes=10).verdict == "exploded"
    without_weights = epochs_of(**STUCK, update_ratio=math.nan)
    assert diagnose(without_weights, exploded=False, num_classes=10).verdict in VERDICTS
    for verdict, exploded in itertools.product((one, without_weights), (False, True)):
        assert diagnose(verdict, exploded=exploded, num_classes=10).advice


def test_smoothing_follows_the_curve():
    assert smoothed([1.0, 3.0]) == [1.0, 3.0]
    assert smoothed([1.0] * 9 + [2.0]) == [1.0] * 9 + [1.5]
    assert max(smoothed([0.0] * 50 + [5.0] + [0.0] * 49)) == 1.0


def test_trials_that_say_nothing_have_no_diagnosis():
    epochs = {number: epochs_of(val_acc=[0.7] * 3) for number in (0, 2, 3)}
    trials = [
        TrialRow(10, 0, "COMPLETE", 0.7),
        TrialRow(11, 1, "PRUNED", 0.0, attrs={attributes.REASON: attributes.EXPLODED}),
        TrialRow(12, 2, "FAIL"),
        TrialRow(13, 3, "RUNNING"),
        TrialRow(14, 4, "RUNNING"),
        TrialRow(15, 5, "WAITING"),
    ]
    found = diagnose_trials(trials, epochs, 10)
    assert {number: each.verdict for number, each in found.items()} == {0: "healthy", 1: "exploded", 3: "healthy"}
    assert diagnose_trials(trials, epochs, None) == {}


def test_trials_of_different_losses_are_judged_each_by_its_own():
    """A loss of 0.9 after 1.0, at the same accuracies: little as hinge of 10 classes, a guess as squared error."""
    stuck = epochs_of(**STUCK | {"train_loss": curve(1.0, 0.9), "val_loss": curve(1.0, 0.9)}, update_ratio=1e-5)
    trials = [
        TrialRow(n, n, "COMPLETE", 0.12, params={"train.loss": loss}) for n, loss in enumerate(("hinge", "squared"))
    ]
    found = diagnose_trials(trials, dict.fromkeys((0, 1), stuck), 10)
    assert [found[number].verdict for number in (0, 1)] == ["underfitting", "lr too low"]


def test_an_accuracy_that_moves_against_the_loss_is_not_noted():
    """With few validation images, one of them moves the accuracy by more than training does."""
    for accuracies, losses in (
        ([0.3 + 0.01 * e for e in range(20)], curve(0.9, 1.2)),
        (curve(0.8, 0.7), curve(1.2, 0.9)),
    ):
        found = diagnose(epochs_of(val_acc=accuracies, val_loss=losses), exploded=False, num_classes=10)
        assert not any("rises" in note or "best at" in note for note in found.notes)


@pytest.mark.parametrize(("num_epochs", "cause"), [(1, "few epochs"), (2, "few epochs"), (6, "long steps")])
def test_few_epochs_do_not_show_that_steps_are_too_long(num_epochs, cause):
    """One epoch at a good rate of digits: 0.40 by steps of 1e-2 of the weights; a third of the rate gave 0.14."""
    row = {"cost": 2.6, "train_loss": 1.79, "train_acc": 0.38, "val_loss": 1.79, "val_acc": 0.4, "update_ratio": 0.011}
    epochs = [EpochResult(number=0, epoch=epoch, lr=0.01, **row) for epoch in range(1, num_epochs + 1)]
    found = diagnose(epochs, exploded=False, num_classes=10, best_val_acc=0.4)
    assert (found.verdict, found.cause) == ("underfitting", cause)
    assert ("a lower lr" in found.advice) == (cause == "long steps")


def by_metric(losses, accuracies, metric):
    epochs = [
        EpochResult(0, number, loss, loss, 0.9, loss, accuracy, 1e-3, 0.1, score=loss)
        for number, (loss, accuracy) in enumerate(zip(losses, accuracies, strict=True), start=1)
    ]
    return diagnose(epochs, exploded=False, num_classes=NUM_CLASSES, metric=metric)


def test_what_counts_says_whether_a_trial_still_gets_better_and_when_it_was_best():
    loss = Metric("loss", "minimize")
    falling, flat = [1.0 - 0.08 * number for number in range(10)], [0.85] * 10
    assert "val_loss still gets better at the end: train longer (epochs)" in by_metric(falling, flat, loss).notes
    assert by_metric(falling, flat, loss).still_rises
    rising = [0.30, 0.20, 0.10, 0.16, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    assert any(note.startswith("best at epoch 3 of 10, worse since") for note in by_metric(rising, flat, loss).notes)
    plain = [dataclasses.replace(EpochResult(0, n, x, x, 0.9, x, 0.85, 1e-3, 0.1)) for n, x in enumerate(falling, 1)]
    assert not diagnose(plain, exploded=False, num_classes=NUM_CLASSES).still_rises  # by accuracy, which stays


def test_low_in_a_study_by_loss_is_told_by_the_accuracy_of_its_best_trial():
    study_by_loss, high = Metric("loss", "minimize"), {attributes.BEST_ACC: 0.95}
    trials = [TrialRow(n, n, "COMPLETE", value, attrs=dict(high)) for n, value in enumerate((0.1, 1.2))]
    epochs = {
        number: [EpochResult(number, n, 1.0, 1.0 / n, acc, 1.0 / n, acc, 1e-3, 0.1, score=1.0 / n) for n in (1, 2, 3)]
        for number, acc in enumerate((0.95, 0.6))
    }
    found = diagnose_trials(trials, epochs, NUM_CLASSES, metric=study_by_loss)
    assert [found[number].verdict for number in (0, 1)] == ["healthy", "underfitting"]
