"""Averages and forward selection, against plain recounting on small arrays."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpsearch.search.ensemble_selection import GAIN, averaged, greedy_weights


def accuracy(p_NC, y_N):
    """Equal probabilities are equal in whatever order they were added up."""
    return float((p_NC.round(9).argmax(1) == y_N).mean())


def negative_loss(p_NC, y_N):
    return float(np.log(np.maximum(p_NC[np.arange(len(y_N)), y_N], 1e-300)).mean())


@st.composite
def answers(draw, most_nets=5):
    """Probabilities T,N,C, coarse enough for ties, and labels."""
    num_nets, num_images, num_classes = (
        draw(st.integers(1, most_nets)),
        draw(st.integers(1, 6)),
        draw(st.integers(2, 4)),
    )
    seed, steps = draw(st.integers(0, 2**31)), draw(st.sampled_from([2, 3, 1000]))
    generator = np.random.default_rng(seed)
    raw = generator.integers(1, steps + 1, (num_nets, num_images, num_classes)).astype(float)
    return raw / raw.sum(2, keepdims=True), generator.integers(0, num_classes, num_images)


def recounted(p_TNC, y_N, goodness, rounds):
    """The same selection, with lists of members and every average taken anew."""

    def of(members):
        return goodness(np.mean([p_TNC[t] for t in members], axis=0), y_N)

    ranked = sorted(range(len(p_TNC)), key=lambda t: (-of([t]), t))
    members = ranked[:1]
    for num in range(2, len(ranked) + 1):
        if of(ranked[:num]) > of(members) + GAIN:
            members = ranked[:num]
    for _ in range(rounds):
        extended = [[*members, t] for t in ranked]
        best = extended[0]
        for each in extended[1:]:
            if of(each) > of(best) + GAIN:
                best = each
        if of(best) <= of(members) + GAIN:
            break
        members = best
    return np.bincount(members, minlength=len(p_TNC))


@pytest.mark.parametrize("goodness", [accuracy, negative_loss])
@settings(max_examples=60, deadline=None)
@given(answers(), st.integers(0, 6))
def test_it_is_forward_selection_as_one_would_write_it(goodness, drawn, rounds):
    p_TNC, y_N = drawn
    found, expected = (select(p_TNC, y_N, goodness, rounds) for select in (greedy_weights, recounted))
    assert found.dtype == np.int64
    # Where rounding decides between equals, the average is as good.
    if found.tolist() != expected.tolist():
        together = [goodness(averaged(p_TNC, counts), y_N) for counts in (found, expected)]
        assert together[0] == pytest.approx(together[1], abs=1e-8)


@pytest.mark.parametrize("goodness", [accuracy, negative_loss])
@settings(max_examples=60, deadline=None)
@given(answers(most_nets=3))
def test_no_net_that_could_be_added_makes_it_better(goodness, drawn):
    """And among all mixtures of up to four nets, tried one by one, those it passed by are no better than it."""
    p_TNC, y_N = drawn
    counts = greedy_weights(p_TNC, y_N, goodness)
    found = goodness(averaged(p_TNC, counts), y_N)
    if counts.sum() < 100:
        for t in range(len(p_TNC)):
            more = counts + np.eye(len(p_TNC), dtype=int)[t]
            assert goodness(averaged(p_TNC, more), y_N) <= found + 2 * GAIN
    singles = [goodness(p_NC, y_N) for p_NC in p_TNC]
    assert found >= max(singles) - 1e-12
    pairs = list(itertools.combinations(np.argsort([-value for value in singles], kind="stable"), 2))
    if pairs and counts.sum() == 1:  # it stayed with one net: the pair of the best two is not better
        best = pairs[0]
        assert goodness(p_TNC[list(best)].mean(0), y_N) <= found + 2 * GAIN


def test_it_may_beat_every_mixture_of_equal_weights():
    """Weights other than alike are what replacement is for."""
    own_T = np.array([[0.8, 0.8, 0.3], [0.3, 0.4, 0.9]])
    p_TNC = np.stack([own_T, 1 - own_T], axis=2)
    y_N = np.array([0, 0, 0])
    counts = greedy_weights(p_TNC, y_N, negative_loss)
    alike = [
        negative_loss(p_TNC[list(members)].mean(0), y_N)
        for num in (1, 2)
        for members in itertools.combinations(range(2), num)
    ]
    assert len(set(counts.tolist())) == 2
    assert negative_loss(averaged(p_TNC, counts), y_N) > max(alike)


def test_of_equal_nets_the_first_one_is_taken_once():
    p_NC = np.array([[0.7, 0.3], [0.4, 0.6]])
    assert greedy_weights(np.stack([p_NC] * 4), np.array([0, 0]), negative_loss).tolist() == [1, 0, 0, 0]
    worse = np.array([[0.6, 0.4], [0.3, 0.7]])
    assert greedy_weights(np.stack([worse, p_NC, p_NC]), np.array([0, 0]), negative_loss).tolist() == [0, 1, 0]


def test_what_is_no_number_is_never_chosen():
    p_TNC = np.array([[[0.5, 0.5]], [[0.2, 0.8]]])

    def picky(p_NC, _):
        return math.nan if p_NC[0, 0] < 0.5 else 0.0

    assert greedy_weights(p_TNC, np.array([1]), picky).tolist() == [1, 0]


@settings(max_examples=80, deadline=None)
@given(answers(), st.data())
def test_the_loss_of_an_average_is_at_most_the_average_of_the_losses(drawn, data):
    """Jensen's inequality, whatever the weights: the logarithm is concave."""
    p_TNC, y_N = drawn
    weights = data.draw(st.lists(st.integers(0, 5), min_size=len(p_TNC), max_size=len(p_TNC)).filter(any))
    together = -negative_loss(averaged(p_TNC, np.array(weights)), y_N)
    apart = np.average([-negative_loss(p_NC, y_N) for p_NC in p_TNC], weights=weights)
    assert together <= apart + 1e-12
    assert averaged(p_TNC, np.array(weights)) == pytest.approx(np.average(p_TNC, axis=0, weights=weights))
