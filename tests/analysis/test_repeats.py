import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from hpsearch.analysis.repeats import (
    MOST_SEEDS,
    Repeated,
    Repeats,
    by_mean,
    curse_text,
    in_order_of_means,
    interval_of_mean,
    repeated_text,
    stored_repeats,
)
from hpsearch.config.metric import ACCURACY, Metric
from hpsearch.space import Observation, boundary_verdicts
from hpsearch.space.observation import rank

LOSS = Metric("loss", "minimize")
REPEATS = Repeats(
    2,
    {5: 0.99, 9: 0.98, 2: 0.97},
    {5: {1: 0.90, 2: 0.92}, 9: {1: 0.96, 2: 0.95}, 2: {1: 0.97, 2: None}},
)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=MOST_SEEDS))
def test_the_interval_is_that_of_student(values):
    each = Repeated(0, 0.5, tuple(values))
    sem = stats.sem(values)
    half = stats.t.ppf(0.975, len(values) - 1) * sem
    low, high = each.interval
    assert each.mean == pytest.approx(sum(values) / len(values))
    assert (low + high) / 2 == pytest.approx(each.mean)
    assert (high - low) / 2 == pytest.approx(half, rel=1e-3, abs=1e-12)


def test_of_many_values_it_is_a_little_too_wide():
    values = [0.5, 0.6] * 50
    low, high = interval_of_mean(values)
    half = stats.t.ppf(0.975, 99) * stats.sem(values)
    assert half < (high - low) / 2 < 1.05 * half


def test_one_value_has_no_interval_and_none_no_mean():
    assert interval_of_mean([0.4]) is None
    assert Repeated(0, 0.5, (0.4,)).interval is None
    assert Repeated(0, 0.5, (), 3).mean is None
    assert Repeated(0, 0.5, (), 3).interval is None


def test_the_winner_is_the_best_mean_and_an_explosion_is_no_winner():
    assert [each.number for each in by_mean(REPEATS, "maximize")] == [9, 5, 2]
    whole = Repeats(2, REPEATS.first, {**REPEATS.values, 2: {1: 0.97, 2: 0.96}})
    assert [each.number for each in by_mean(whole, "maximize")] == [2, 9, 5]
    assert [each.number for each in by_mean(whole, "minimize")] == [5, 9, 2]


def test_there_is_no_winner_before_all_are_trained():
    part = Repeats(2, REPEATS.first, {5: {1: 0.90, 2: 0.92}, 9: {1: 0.96}})
    assert not part.is_whole
    assert by_mean(part, "maximize") == []
    assert by_mean(None, "maximize") == []
    more = part.with_values({9: {2: 0.95}, 2: {1: 0.97, 2: None}})
    assert more == REPEATS


def test_what_is_stored_reads_back():
    assert stored_repeats(json.loads(json.dumps(REPEATS.as_dict()))) == REPEATS


@pytest.mark.parametrize("stored", [None, 3, {}, {"seeds": 1, "first": {"a": 1}, "values": {}},
                                    {"seeds": 1, "first": {}, "values": {"1": 2}}])  # fmt: skip
def test_what_another_program_left_there_is_nothing(stored):
    assert stored_repeats(stored) is None


def observations(values):
    return [Observation(number, {"lr": 10.0**-number}, value, "complete") for number, value in values.items()]


def test_ranges_go_by_the_order_of_the_means():
    seen = observations({0: 0.5, 2: 0.97, 5: 0.99, 7: 0.6, 9: 0.98})
    ordered = in_order_of_means(seen, REPEATS, "maximize")
    assert [o.number for o in rank(ordered, "complete", "maximize")] == [9, 5, 2, 7, 0]
    assert sorted(o.value for o in ordered) == sorted(o.value for o in seen)
    assert in_order_of_means(seen, None, "maximize") == seen


TIES = st.lists(st.sampled_from([0.2, 0.5]), min_size=3, max_size=3)


@given(st.permutations([1, 4, 6]), st.sampled_from(["maximize", "minimize"]), TIES)
def test_equal_first_scores_do_not_decide(order, direction, first):
    sign = 1 if direction == "maximize" else -1
    ranked = sorted(zip([1, 4, 6], first, strict=True), key=lambda pair: -sign * pair[1])
    values = {number: {1: sign * -float(place), 2: sign * -float(place)} for place, number in enumerate(order)}
    repeats = Repeats(2, dict(ranked), values)
    found = in_order_of_means(observations(dict(ranked)), repeats, direction)
    assert [o.number for o in rank(found, "complete", direction)] == order


def test_boundary_verdicts_are_of_the_winner():
    from hpsearch.config import FloatRange

    seen = in_order_of_means(observations({2: 0.97, 5: 0.99, 9: 0.98}), REPEATS, "maximize")
    [verdict] = boundary_verdicts({"lr": FloatRange(1e-9, 1.0, log=True)}, seen, "maximize")
    assert verdict.best == 1e-9
    assert verdict.verdict == "lower"


@pytest.mark.parametrize(
    ("each", "metric", "text"),
    [
        (Repeated(5, 0.9896, (0.97, 0.98, 0.99)), ACCURACY, "trial 5: 0.9896 at first, again 0.9800 [0.9552, 1.0048]"),
        (Repeated(5, 0.5, (0.4,), 2), ACCURACY, "trial 5: 0.5000 at first, again 0.4000, 2 exploded"),
        (Repeated(5, 0.5, (0.4,), counts_first=True), ACCURACY, "trial 5: 0.5000 at first, again 0.4000, mean 0.4500"),
        (Repeated(5, 0.5, (), 2), ACCURACY, "trial 5: 0.5000 at first, again none, 2 exploded"),
    ],
)
def test_words(each, metric, text):
    assert repeated_text(each, metric) == text


@pytest.mark.parametrize(
    ("order", "metric", "text"),
    [
        ([Repeated(5, 0.99, (0.97, 0.97)), Repeated(6, 0.98, (0.97, 0.97))], ACCURACY,
         "the first scores of 2 trials were 0.0150 better than what they give again: chosen for a score, chosen for "
         "luck"),
        ([Repeated(5, 0.3, (0.4, 0.4))], LOSS,
         "the first score of 1 trial was 0.1000 better than what it gives again: chosen for a score, chosen for luck"),
        ([Repeated(5, 0.9, (0.95, 0.97))], ACCURACY,
         "the first score of 1 trial was no better than what it gives again"),
        ([Repeated(5, 0.9, (), 3)], ACCURACY, "none of them was trained to the end with another seed"),
    ],
)  # fmt: skip
def test_the_curse_in_a_line(order, metric, text):
    assert curse_text(order, metric) == text


def test_calls_without_a_value_have_no_mean_and_are_no_trainings():
    failed = Repeated(5, 0.5, (0.4,), 2, counts_first=True)
    assert failed.mean is None
    assert repeated_text(failed, ACCURACY) == "trial 5: 0.5000 at first, again 0.4000, 2 without a value"
    none = Repeated(5, 0.5, (), 2, counts_first=True)
    assert curse_text([none], ACCURACY) == "none of them gave a value when it was called again"


def test_nothing_is_better_than_the_winner_of_any_size():
    assert math.isfinite(in_order_of_means(observations({2: 0.97, 5: 0.99, 9: 0.98}), REPEATS, "maximize")[0].value)
