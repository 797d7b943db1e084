"""What to try after a training with given values, by its verdict, and the command for it."""

import shlex

import pytest

from hpsearch.analysis.commands import resume_command, train_command
from hpsearch.analysis.diagnosis import Diagnosis, diagnose
from hpsearch.analysis.other_values import other_values
from hpsearch.analysis.stage_names import next_name
from hpsearch.config import StudyConfig
from hpsearch.results import EpochResult

SHAPE = (1, 8, 8)


def said(verdict, cause=None, still_rises=False):
    return Diagnosis(verdict, "", (), 0.4, still_rises, cause)


@pytest.mark.parametrize(
    ("diagnosis", "given", "changes"),
    [
        (said("healthy"), {}, None),
        (None, {"lr": 0.3}, {"train.lr": 0.03}),  # every run exploded
        (said("dead"), {"lr": 0.3}, {"train.lr": 0.03}),
        (said("exploded"), {"lr": 0.3, "reg": 1e3}, {"train.reg": 0.33}),  # lr x reg is far above 1
        (said("exploded"), {"lr": 1e3, "reg": 1.0}, {"train.lr": 100.0}),  # it is not reg that is wrong here
        (said("lr too low"), {"lr": 1e-6}, {"train.lr": 1e-5}),
        (said("overfitting"), {}, {"data.augment": ["crop:1"]}),
        (said("underfitting", "penalty"), {"reg": 1.0, "l1": 0.5}, {"train.reg": 0.1, "train.l1": 0.05}),
        (said("underfitting", "short steps"), {"lr": 0.01}, {"train.lr": 0.03}),
        (said("underfitting", "long steps"), {"lr": 0.1}, {"train.lr": 0.033}),
        (said("underfitting", still_rises=True), {}, {"train.epochs": 20}),
        (said("underfitting"), {"model.name": "linear"}, {"model.name": "mlp"}),
    ],
)
def test_one_thing_is_changed_by_what_the_curves_say(diagnosis, given, changes):
    config = StudyConfig().with_params(given)
    remedy = other_values(diagnosis, config.plain(), SHAPE)
    assert (remedy.changes if remedy else None) == changes


def test_what_held_back_an_underfitting_trial_is_read_off_its_curves():
    def cause(**values):
        row = {"cost": 2.0, "train_loss": 2.0, "train_acc": 0.3, "val_loss": 2.0, "val_acc": 0.3, **values}
        epochs = [EpochResult(0, e, lr=0.1, **{"update_ratio": 2e-3, **row}) for e in range(1, 9)]
        found = diagnose(epochs, exploded=False, num_classes=10)
        assert found.verdict == "underfitting"
        return found.cause

    assert cause(cost=20.0) == "penalty"
    assert cause(update_ratio=1e-4) == "short steps"
    assert cause(update_ratio=0.05) == "long steps"
    assert cause() is None


@pytest.mark.parametrize(("epochs", "then"), [(1, 5), (2, 5), (3, 6)])
def test_after_a_look_it_trains_as_long_as_a_coarse_search(epochs, then):
    config = StudyConfig().plain()
    config["train"]["epochs"] = epochs
    assert other_values(said("underfitting", "few epochs"), config, SHAPE).changes == {"train.epochs": then}


@pytest.mark.parametrize(
    ("losses", "verdict", "words"),
    [
        ([1.8], "underfitting", "train longer, 1 epoch cannot tell"),
        ([2.0, 1.8], "underfitting", "train longer, 2 epochs cannot tell"),
        ([1.8, 2.0], "underfitting", "a lower lr, the steps are too long to settle"),  # it rose
        ([2.0, 1.9, 1.8], "underfitting", "a lower lr"),
        ([2.36], "lr too high", "lower lr"),  # above a guess
    ],
)
def test_steps_are_called_too_long_where_the_loss_rose_or_did_not_settle(losses, verdict, words):
    epochs = [
        EpochResult(0, e, loss, loss, 0.38, loss, 0.4, update_ratio=0.02, lr=0.1) for e, loss in enumerate(losses, 1)
    ]
    found = diagnose(epochs, exploded=False, num_classes=10)
    assert found.verdict == verdict
    assert words in found.advice
    few = "cannot tell" in words
    assert (found.cause == "few epochs") is few
    assert few is ("lower lr" not in found.advice)


def test_the_command_says_all_that_is_not_as_by_default():
    values = {"train.lr": 1e-3, "model.name": "lenet", "train.batch_size": 50}
    config = StudyConfig().with_params(values).plain()
    words = train_command(config, {"train.lr": 1e-2, "space.lr": {"log": [1, 2]}}, "train-2", 3)
    expected = "hpsearch train --name train-2 --seeds 3 --epochs 10 --model lenet --set train.batch_size=50"
    assert shlex.join(words) == expected
    again = resume_command("train", "train", None, config, None, [])
    assert (
        shlex.join(again) == "hpsearch train --epochs 10 --model lenet --set train.batch_size=50 --set train.lr=0.001"
    )


def test_names_count_up_to_the_first_free_one():
    assert next_name("train", []) == "train-2"
    assert next_name("train-2", ["train", "train-2", "train-3"]) == "train-4"
    assert next_name("two-layers", ["two-layers"]) == "two-layers-2"
