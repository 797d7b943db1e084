"""What to try after a training, by its verdict."""

import pytest

from hpsearch.analysis.remedy import remedy
from hpsearch.config import StudyConfig
from hpsearch.results import EpochResult


def epochs(*, cost=1.0, train_loss=1.0, ratio=2e-3, num=4):
    return [EpochResult(0, e + 1, cost, train_loss, 0.4, 1.0, 0.4, ratio, 0.1) for e in range(num)]


@pytest.mark.parametrize(
    ("verdict", "given", "curves", "changes"),
    [
        ("healthy", {}, epochs(), {}),
        ("a verdict of another version", {}, epochs(), {}),
        ("exploded", {"lr": 0.3}, [], {"train.lr": 0.03}),
        ("exploded", {"lr": 0.3, "reg": 1e3}, [], {"train.reg": 0.33}),  # lr x reg is far above 1
        ("exploded", {"lr": 1e3, "reg": 1.0}, [], {"train.lr": 100.0}),  # it is not reg that is wrong here
        ("lr too low", {"lr": 1e-6}, epochs(), {"train.lr": 1e-5}),
        ("overfitting", {}, epochs(), {"train.reg": 1e-3}),
        ("overfitting", {"reg": 2e-4}, epochs(), {"train.reg": 2e-3}),
        ("underfitting", {"reg": 1.0}, epochs(cost=9.0), {"train.reg": 0.1}),
        ("underfitting", {"reg": 1.0, "l1": 0.5}, epochs(cost=9.0), {"train.reg": 0.1, "train.l1": 0.05}),
        ("underfitting", {"lr": 0.01}, epochs(ratio=1e-4), {"train.lr": 0.03}),
        ("underfitting", {"lr": 0.1}, epochs(ratio=0.05), {"train.lr": 0.033}),
        ("underfitting", {"reg": 1e-6}, epochs(), {"train.epochs": 20}),
        ("underfitting", {}, epochs(ratio=float("nan")), {"train.epochs": 20}),
    ],
)
def test_one_thing_is_changed_by_what_the_curves_say(verdict, given, curves, changes):
    config = StudyConfig().with_params(given)
    assert remedy(verdict, curves, config) == changes
    config.with_params({key: value for key, value in changes.items() if key != "train.epochs"})
