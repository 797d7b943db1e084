"""How many trials' differences a Gaussian process leaves unexplained."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpsearch.config import Choice, FloatRange, IntRange
from hpsearch.space import Observation
from hpsearch.stages.unexplained import MOST, compared_trials, explain

FOUR = {name: FloatRange(1e-5, 1.0, log=True) for name in ("a", "b", "c", "d")}


def unexplained_trials(space, seen, direction):
    return explain(space, seen, direction).left


def searched(space, value, num=40, seed=0):
    """Trials drawn from the ranges, on their scales; `value` is of places between 0 and 1."""
    rng = np.random.default_rng(seed)
    seen = []
    for number in range(num):
        params, places = {}, {}
        for name, range_ in space.items():
            unit = rng.uniform()
            if isinstance(range_, Choice):
                params[name] = places[name] = range_.values[int(unit * len(range_.values))]
            elif isinstance(range_, IntRange):
                params[name] = range_.low + round(unit * (range_.high - range_.low))
                places[name] = (params[name] - range_.low) / (range_.high - range_.low)
            else:
                params[name] = 10 ** (-5 + 5 * unit)
                places[name] = unit
        found = value(places, rng)
        seen.append(Observation(number, params, found, "exploded" if found is None else "complete"))
    return seen


def bowl(places, rng):
    return 0.3 + 0.6 * math.exp(-sum((place - 0.4) ** 2 for place in places.values()) / 0.3) + rng.normal(0, 0.01)


def ridges(places, rng):
    """Two sums along lines that no axis follows."""
    off = ((places["a"] + places["b"] - 1) / 0.2) ** 2 + ((places["c"] - places["d"]) / 0.3) ** 2
    return 0.3 + 0.6 * math.exp(-off) + rng.normal(0, 0.01)


def needle(places, rng):
    """Flat, but at one place that is small in four dimensions."""
    return 0.3 + 0.6 * math.exp(-sum((place - 0.4) ** 2 for place in places.values()) / 0.03) + rng.normal(0, 0.01)


@pytest.mark.slow
@pytest.mark.parametrize(("num", "seed"), [(40, 0), (60, 3)])
def test_a_bowl_and_ridges_across_the_axes_are_explained_and_a_needle_is_not(num, seed):
    assert unexplained_trials(FOUR, searched(FOUR, bowl, num, seed), "maximize") < MOST / 2
    assert unexplained_trials(FOUR, searched(FOUR, ridges, 80, seed), "maximize") < MOST
    assert unexplained_trials(FOUR, searched(FOUR, needle, num, seed), "maximize") > MOST


@pytest.mark.parametrize("noise", [0.1, 0.3])
def test_noise_is_no_misfit(noise):
    def noisy(places, rng):
        return bowl(places, rng) + rng.normal(0, noise)

    two = {name: FOUR[name] for name in ("a", "b")}
    left = [unexplained_trials(two, searched(two, noisy, 60, seed), "maximize") for seed in range(3)]
    assert sorted(left)[1] < MOST


@pytest.mark.slow
def test_explosions_count_as_what_they_are_told_as():
    def with_cliff(places, rng):
        return None if places["a"] > 0.8 else bowl(places, rng)

    seen = searched(FOUR, with_cliff)
    assert any(each.outcome == "exploded" for each in seen)
    assert unexplained_trials(FOUR, seen, "maximize") < MOST
    failed = Observation(40, {}, None, "pruned")  # of which nothing is known
    assert unexplained_trials(FOUR, [*seen, failed], "maximize") == unexplained_trials(FOUR, seen, "maximize")


def test_what_exploded_before_it_asked_for_all_is_not_counted():
    """As code of the form of Optuna's objectives may."""
    seen = searched(FOUR, bowl)
    early = [Observation(40, {}, None, "exploded"), Observation(41, {"a": 0.1}, None, "exploded")]
    assert unexplained_trials(FOUR, [*seen, *early], "maximize") == unexplained_trials(FOUR, seen, "maximize")
    assert compared_trials(FOUR, [*seen, *early]) == seen


@pytest.mark.parametrize("scale", [1.7e308, 1e-320])
def test_values_may_be_as_large_and_as_small_as_floats(scale):
    """Warnings of numpy are errors here, and would be lines on the terminal there."""

    def scaled(places, rng):
        return scale * bowl(places, rng)

    assert unexplained_trials(FOUR, searched(FOUR, scaled), "maximize") < MOST
    assert unexplained_trials(FOUR, searched(FOUR, lambda places, rng: scale), "maximize") == 0


def test_choices_and_whole_numbers_are_learned_from():
    space = {"units": IntRange(0, 100), "kind": Choice(("x", "y", ("z", 1))), "one": Choice((3,))}

    def value(places, rng):
        return {"x": 0.5, "y": 0.8}.get(places["kind"], 0.7) - (places["units"] - 0.5) ** 2

    assert unexplained_trials(space, searched(space, value), "maximize") < 1
    without = {"units": space["units"]}
    assert unexplained_trials(without, searched(space, value), "maximize") > 1


@settings(max_examples=10)  # each fits a Gaussian process
@given(st.lists(st.floats(0, 1), max_size=12), st.sampled_from(["maximize", "minimize"]))
def test_it_is_a_number_of_trials(values, direction):
    seen = [
        Observation(number, {"a": 10 ** (-number % 5), "b": 10**-2.5}, value, "complete")
        for number, value in enumerate(values)
    ]
    left = unexplained_trials({name: FOUR[name] for name in ("a", "b")}, seen, direction)
    assert 0 <= left <= len(values)
    if len(set(values)) < 2:
        assert left == 0


@pytest.mark.slow
def test_a_loss_is_explained_as_well_as_what_grows():
    seen = searched(FOUR, ridges)
    losses = [Observation(each.number, each.params, -each.value, each.outcome) for each in seen]
    assert unexplained_trials(FOUR, losses, "minimize") == pytest.approx(
        unexplained_trials(FOUR, seen, "maximize"), rel=0.01
    )


@pytest.mark.slow
def test_it_names_the_numbers_that_count_together():
    """Of five, with a choice beside them."""
    space = {"e": FOUR["a"], **FOUR, "kind": Choice(("x", "y"))}

    def of_two(places, rng):
        off = ((places["a"] + places["b"] - 1) / 0.15) ** 2 + (places["c"] - 0.5) ** 2
        return 0.3 + 0.6 * math.exp(-off) + 0.1 * (places["kind"] == "x") + rng.normal(0, 0.01)

    assert explain(space, searched(space, of_two, 80), "maximize").together == ("a", "b")
    assert explain(space, searched(space, bowl_of_numbers, 80), "maximize").together == ()


def bowl_of_numbers(places, rng):
    return bowl({name: place for name, place in places.items() if name != "kind"}, rng)
