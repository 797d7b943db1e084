"""Of noisy values, which trial all of them together say is best."""

import math
import random

import numpy as np
import pytest

from hpsearch.config import Choice, FloatRange, IntRange
from hpsearch.stages.expected_values import ExpectedValues, Tried

SPACE = {"lr": FloatRange(1e-5, 1e-1, log=True), "reg": FloatRange(0.0, 1.0)}
NOISE = 0.03


def bowl(params):
    return 0.9 - 0.1 * (math.log10(params["lr"]) + 3) ** 2 - (params["reg"] - 0.3) ** 2


def noisy_trials(num, rng, sign=1.0):
    """Drawn around the optimum, as a sampler that has learned proposes them, each called once."""
    drawn = [{"lr": 10 ** rng.gauss(-3, 0.7), "reg": rng.uniform(0.0, 0.8)} for _ in range(num)]
    return [Tried(params, [sign * (bowl(params) + rng.gauss(0, NOISE))]) for params in drawn]


@pytest.mark.parametrize(("direction", "sign"), [("maximize", 1.0), ("minimize", -1.0)])
def test_it_expects_most_nearer_to_the_optimum_than_where_the_best_value_is(direction, sign):
    lost_by_value, lost_by_expected = [], []
    for seed in range(12):
        tried = noisy_trials(40, random.Random(seed), sign)
        expected = ExpectedValues(SPACE, direction)
        expected.learn(tried)
        found = expected.of([each.params for each in tried])
        by_expected, by_value = np.argmax(found), np.argmax([sign * each.values[0] for each in tried])
        lost_by_expected.append(0.9 - bowl(tried[by_expected].params))
        lost_by_value.append(0.9 - bowl(tried[by_value].params))
    assert np.mean(lost_by_expected) < np.mean(lost_by_value) / 2


def test_more_calls_of_a_trial_count_more():
    """Ten trials at one end, of which one has the highest value; nine more calls of it say that this was luck."""
    places = [{"lr": 1e-3, "reg": 0.1 * place} for place in range(10)]
    values = [0.5, 0.52, 0.48, 0.51, 0.5, 0.49, 0.5, 0.51, 0.47, 0.9]

    def of_the_last(calls):
        expected = ExpectedValues(SPACE, "maximize")
        tried = [Tried(params, [value]) for params, value in zip(places, values, strict=True)]
        expected.learn([*tried[:-1], Tried(places[-1], [values[-1], *calls])])
        found = expected.of(places)
        return found[-1] - max(found[:-1])

    assert of_the_last([]) > of_the_last([0.5] * 9)


@pytest.mark.parametrize(
    ("space", "tried"),
    [
        (SPACE, []),
        (SPACE, [Tried({"lr": 1e-3, "reg": 0.1}, [0.5])]),
        (SPACE, [Tried({"lr": 1e-3, "reg": 0.1}, [0.5]), Tried({"lr": 1e-4, "reg": 0.1}, [0.5])]),  # all gave the same
        (SPACE, [Tried({"lr": 1e-3, "reg": 0.1}, [0.5]), Tried({"lr": 1e-4}, [0.6])]),  # code ended before it asked
        ({"net": Choice(("mlp",))}, [Tried({"net": "mlp"}, [0.5]), Tried({"net": "mlp"}, [0.6])]),
        ({}, [Tried({}, [0.5]), Tried({}, [0.6])]),
    ],
)
def test_nothing_is_expected_where_nothing_can_be_learned(space, tried):
    expected = ExpectedValues(space, "maximize")
    expected.learn(tried)
    assert expected.of([each.params for each in tried]) is None


def test_nor_of_trials_that_lack_a_hyperparameter():
    expected = ExpectedValues(SPACE, "maximize")
    expected.learn(noisy_trials(10, random.Random(0)))
    assert expected.of([{"lr": 1e-3}]) is None


def test_it_learns_on_as_trials_come_and_of_whole_numbers_and_choices():
    rng = random.Random(0)
    space = {"layers": IntRange(1, 5), "net": Choice(("mlp", "conv"))}
    drawn = [{"layers": rng.randint(1, 5), "net": rng.choice(["mlp", "conv"])} for _ in range(30)]
    values = [0.1 * p["layers"] + 0.2 * (p["net"] == "conv") + rng.gauss(0, 0.01) for p in drawn]
    expected = ExpectedValues(space, "maximize")
    for num in (10, 20, 30):
        expected.learn([Tried(params, [value]) for params, value in zip(drawn[:num], values, strict=False)])
    best, worst = expected.of([{"layers": 5, "net": "conv"}, {"layers": 1, "net": "mlp"}])
    assert best > worst + 1
