"""The interval of a gain: scikit-learn's measures on the same draws, and what is known of it for accuracy."""

import math

import numpy as np
import pytest
import sklearn.metrics as sk

from hpsearch.config import usercode
from hpsearch.config.metric import Metric
from hpsearch.search.paired_difference import NUM_DRAWS, SEED, measured, paired_difference

OWN = """
def brier(scores, labels):
    return ((scores - (labels[:, None] == range(scores.shape[1]))) ** 2).sum(1).mean()
brier.minimize = True
def rare(scores, labels):
    if (labels == 3).sum() < 2:
        raise KeyError("too few of class 3")
    return scores[labels == 3, 3].mean()
"""
MEASURES = {
    "accuracy": lambda y, p: sk.accuracy_score(y, p.argmax(1)),
    "balanced_accuracy": lambda y, p: sk.balanced_accuracy_score(y, p.argmax(1)),
    "macro_f1": lambda y, p: sk.f1_score(y, p.argmax(1), average="macro", labels=np.unique(y), zero_division=0),
    "auroc": lambda y, p: sk.roc_auc_score(y, p, multi_class="ovr", labels=range(p.shape[1])),
    "top5": lambda y, p: sk.top_k_accuracy_score(y, p, k=5, labels=range(p.shape[1])),
    "loss": lambda y, p: sk.log_loss(y, p, labels=range(p.shape[1])),
    "paired_measures:brier": lambda y, p: ((p - np.eye(p.shape[1])[y]) ** 2).sum(1).mean(),
}


@pytest.fixture(autouse=True)
def _own_measures(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("own")
    (folder / "paired_measures.py").write_text(OWN)
    monkeypatch.syspath_prepend(folder)
    usercode.trust("paired_measures")


def classifiers(num_images=120, num_classes=6, seed=0):
    """Two nets, the first one clearer, and labels."""
    generator = np.random.default_rng(seed)
    y = generator.integers(0, num_classes, num_images)
    logits = generator.normal(size=(2, num_images, num_classes))
    logits[0, np.arange(num_images), y] += 1.5
    logits[1, np.arange(num_images), y] += 1.0
    p = np.exp(logits)
    return *(p / p.sum(2, keepdims=True)), y


@pytest.mark.parametrize("name", MEASURES)
def test_it_is_the_measure_on_the_same_draws_for_both(name, monkeypatch):
    monkeypatch.setattr("hpsearch.search.paired_difference.NUM_DRAWS", 30)
    monkeypatch.setattr("hpsearch.search.paired_difference.FEWEST_DRAWS", 30)
    one, other, y = classifiers()
    metric = Metric(name, "minimize" if name in ("loss", "paired_measures:brier") else "maximize")
    sign, of = (-1 if metric.direction == "minimize" else 1), MEASURES[name]
    found = paired_difference(metric, one, other, y)
    assert measured(metric, one, y) == pytest.approx(of(y, one), abs=1e-9)
    assert found.gain == pytest.approx(sign * (of(y, one) - of(y, other)), abs=1e-9)
    generator, gains = np.random.default_rng(SEED), []
    for _ in range(30):
        rows = generator.integers(0, len(y), len(y))
        gains.append(sign * (of(y[rows], one[rows]) - of(y[rows], other[rows])))
    assert (found.low, found.high) == pytest.approx(np.quantile(gains, [0.025, 0.975]), abs=1e-9)
    assert found.num_images == 120


def test_for_accuracy_it_is_what_the_discordant_images_allow():
    """The variance of the difference is that of McNemar's table: (b + c - (b - c)^2 / n) / n^2."""
    one, other, y = classifiers(num_images=2000)
    right = [p.argmax(1) == y for p in (one, other)]
    b, c = (right[0] & ~right[1]).sum(), (~right[0] & right[1]).sum()
    std = math.sqrt(b + c - (b - c) ** 2 / 2000) / 2000
    found = paired_difference(Metric(), one, other, y)
    assert found.gain == pytest.approx((b - c) / 2000)
    assert (found.high - found.low) / (2 * 1.96 * std) == pytest.approx(1, abs=0.1)


def test_it_covers_the_truth_as_often_as_it_says(monkeypatch):
    monkeypatch.setattr("hpsearch.search.paired_difference.NUM_DRAWS", 250)
    metric, num = Metric("loss", "minimize"), 60
    one, other, y = classifiers(num_images=60_000, seed=1)
    parts = np.split(np.arange(60_000), num)
    found = [paired_difference(metric, one[part], other[part], y[part]) for part in parts]
    truth = np.mean([each.gain for each in found])  # a loss is a mean over images, and so that of all of them
    covered = sum(each.low <= truth <= each.high for each in found)
    assert covered / num >= 0.85  # 0.95 but for chance: below 0.85 once in 500


def test_a_net_gains_nothing_over_itself_and_the_draws_are_always_the_same(monkeypatch):
    monkeypatch.setattr("hpsearch.search.paired_difference.NUM_DRAWS", 100)
    monkeypatch.setattr("hpsearch.search.paired_difference.FEWEST_DRAWS", 100)
    one, other, y = classifiers()
    for name in ("accuracy", "macro_f1", "loss", "auroc"):
        same = paired_difference(Metric(name), one, one, y)
        assert (same.gain, same.low, same.high) == (0, 0, 0)
    assert paired_difference(Metric(), one, other, y) == paired_difference(Metric(), one, other, y)


def test_draws_on_which_a_measure_raises_do_not_count():
    one, other, y = classifiers(num_images=40)
    y[y == 3] = 2
    y[:2] = 3
    found = paired_difference(Metric("paired_measures:rare"), one, other, y)
    assert found.low <= found.gain <= found.high
    one, other, y = one[:3], other[:3], np.array([3, 3, 0])
    assert NUM_DRAWS >= 1000
    assert paired_difference(Metric("auroc"), one[:2], other[:2], np.array([1, 1])).low is None
