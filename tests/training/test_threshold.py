"""The threshold of two classes, against all that can be tried, and scikit-learn's measures."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score

from hpsearch.errors import DataError
from hpsearch.training.threshold import OF_COUNTS, Threshold, best_threshold, find_threshold, score_at

MEASURES = {
    "accuracy": accuracy_score,
    "balanced_accuracy": balanced_accuracy_score,
    "macro_f1": lambda y, taken: f1_score(y, taken, average="macro", labels=[0, 1], zero_division=0),
}
probabilities = st.one_of(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), st.floats(0, 1).map(lambda p: round(p, 3)))
images = st.lists(st.tuples(probabilities, st.integers(0, 1)), min_size=2, max_size=12).filter(
    lambda pairs: len({label for _, label in pairs}) == 2
)


def tried(p_N, y_N, metric):
    """Each way to tell images apart by a threshold in [0, 1], and that by 0.5, with its value."""
    ends = [t for t in (0.0, *sorted(set(p_N)), 1.0) if 0 < (p_N > t).sum() < len(p_N)]
    return [MEASURES[metric](y_N, p_N > t) for t in (*ends, 0.5)]


@pytest.mark.parametrize("metric", list(OF_COUNTS))
@settings(deadline=None, max_examples=15)
@given(pairs=images)
def test_none_is_better_and_none_as_good_is_nearer_to_a_half(metric, pairs):
    p_N, y_N = (np.array(column) for column in zip(*pairs, strict=True))
    value = best_threshold(p_N, y_N, metric)
    assert 0 <= value <= 1
    own = MEASURES[metric](y_N, p_N > value)
    assert own == pytest.approx(max(tried(p_N, y_N, metric)))
    if MEASURES[metric](y_N, p_N > 0.5) == pytest.approx(own):
        assert value == 0.5
    assert best_threshold(p_N[::-1], y_N[::-1], metric) == value


def test_a_rare_class_is_named_or_the_likelier_class_counts():
    p_N, y_N = np.array([0.1, 0.2, 0.6, 0.9]), np.array([0, 1, 0, 0])
    assert best_threshold(p_N, y_N, "accuracy") == 0.75  # above 0.9, never: 0.75 of these images, for nothing


@pytest.mark.parametrize("p", [1e-6, 0.3, 0.5032, 0.7, 0.999, 1 - 1e-6])
def test_images_that_differ_by_rounding_alone_are_not_told_apart(p):
    """One image twice, with two labels, and one far from it: whatever the batch, both are the same class."""
    twice = np.float32([p, np.nextafter(np.float32(p), np.float32(1))]).astype(np.float64)
    for p_N in (np.array([*twice, 0.1]), np.array([*twice[::-1], 0.1])):
        value = best_threshold(p_N, np.array([0, 1, 0]), "accuracy")
        assert value == 0.5 or not twice[0] - 2e-7 <= value <= twice[1] + 2e-7


@pytest.mark.parametrize(("low", "high"), [(0.7, 0.7001), (1e-6, 1.1e-6), (1 - 2e-6, 1 - 1e-6)])
def test_near_probabilities_can_be_told_apart(low, high):
    value = best_threshold(np.array([low, high]), np.array([0, 1]), "accuracy")
    assert low < value < high


def test_where_there_is_nothing_to_find():
    assert best_threshold(np.array([0.2, 0.8]), np.array([1, 1]), "accuracy") is None
    assert best_threshold(np.array([0.2, np.nan]), np.array([0, 1]), "accuracy") is None
    y_N = torch.tensor([0, 1, 1])
    assert find_threshold("accuracy", torch.zeros(3, 3), y_N) is None  # three classes
    for metric in ("auroc", "loss", "mine:kappa"):
        assert find_threshold(metric, torch.zeros(3, 2), y_N) is None


def test_what_is_found_on_some_images_is_used_on_others():
    p_N = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    logits_NC = torch.stack([1 - p_N, p_N], dim=1).log()
    found = find_threshold("balanced_accuracy", logits_NC, torch.tensor([0, 0, 1, 1]))
    assert found == Threshold(pytest.approx(0.25), "balanced_accuracy", 1.0, 0.5)
    assert score_at(found.value, "balanced_accuracy", logits_NC, torch.tensor([0, 1, 1, 1])) == pytest.approx(5 / 6)
    assert Threshold.read(found.metadata()) == found
    assert Threshold.read({}) is None
    with pytest.raises(DataError, match="threshold cannot be read"):
        Threshold.read({"threshold": "{}"})
