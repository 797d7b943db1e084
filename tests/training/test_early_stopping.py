"""When a validation curve has not got better for long enough."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpsearch.training.early_stopping import SMOOTHED, stopped_early


def stop(values, patience):
    """The epoch after which a trial with this curve ends; None if it goes through all."""
    epochs = range(1, len(values) + 1)
    return next((epoch for epoch in epochs if stopped_early(values[:epoch], patience)), None)


@pytest.mark.parametrize(
    ("values", "patience", "epoch"),
    [
        ([], 1, None),
        ([0.5], 1, None),
        ([0.5, 0.5], 1, 2),  # nothing new for one epoch
        ([0.5, 0.4], 1, 2),
        ([0.5, 0.6, 0.7, 0.8], 1, None),
        ([0.5, 0.6, 0.5, 0.6, 0.6], 2, None),  # means 0.5, 0.55, 0.533, 0.567, 0.567
        ([0.5, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6], 2, 6),  # the mean rises up to epoch 4
        ([0.5, 0.6, 0.9, 0.6, 0.6, 0.6, 0.6], 3, 7),  # one lucky epoch lifts the means of three
        ([0.9, 0.1, 0.2, 0.3, 0.4], 4, 5),  # rises, but is below where it began
        ([0.9, 0.8, 0.7], 9, None),
    ],
)
def test_the_epoch_of_the_stop(values, patience, epoch):
    assert stop(values, patience) == epoch


ACCURACIES = st.lists(st.integers(0, 20).map(lambda correct: correct / 20), max_size=30)


@given(ACCURACIES, st.integers(1, 8))
def test_it_is_what_its_definition_says(values, patience):
    """In whole numbers, where nothing rounds: 6 times each mean of up to three."""
    correct = [round(20 * value) for value in values]
    means = [sum(part := correct[max(0, end - SMOOTHED) : end]) * 6 // len(part) for end in range(1, len(values) + 1)]
    best = max(range(len(means)), key=means.__getitem__, default=0)  # the earliest among equals
    assert stopped_early(values, patience) == (len(values) - 1 - best >= patience)


@given(ACCURACIES, st.integers(1, 8))
def test_more_patience_stops_no_sooner(values, patience):
    sooner, later = (stop(values, each) or 99 for each in (patience, patience + 1))
    assert patience < sooner <= later


@given(st.floats(0, 1), st.integers(1, 5))
def test_a_flat_curve_stops_at_once_whatever_rounding_makes_of_its_means(value, patience):
    assert stop([value] * 20, patience) == patience + 1


@given(ACCURACIES, st.integers(1, 5))
def test_a_curve_that_always_rises_never_stops(values, patience):
    assert stop(sorted(set(values)), patience) is None
