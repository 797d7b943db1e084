"""What comparing means, on tables; and random against grid where the answer is known on paper."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpsearch.analysis.importance import chance_shares, importances
from hpsearch.analysis.sampler_comparison import Comparison, Search, band, best_so_far, num_distinct, wins
from hpsearch.config import FloatRange
from hpsearch.config.metric import Metric
from hpsearch.space import draw_random, to_unit
from hpsearch.space.shifted_grid import draw_shifted_grid

SPACE = {"lr": FloatRange(1e-6, 1.0, log=True), "other": FloatRange(0.0, 1.0)}


def test_best_so_far_starts_from_guessing_and_never_falls():
    assert best_so_far([None, 0.05, 0.5, None, 0.4, 0.6], 0.1) == [0.1, 0.1, 0.5, 0.5, 0.5, 0.6]
    assert best_so_far([], 0.1) == []


def test_the_band_is_students():
    found = band([1.0, 2.0, 3.0])
    assert found.mean == 2.0
    assert found.half_width == pytest.approx(4.302652729911275 / math.sqrt(3))  # t of 2 degrees of freedom, 0.975
    assert band([0.7]).half_width is None
    assert band([0.7, 0.7]).half_width == 0


@pytest.mark.parametrize(
    ("finals", "expected"),
    [
        ({"random": [3, 1], "grid": [2, 2]}, {"random": 1, "grid": 1}),
        ({"random": [3, 2], "grid": [2, 2]}, {"random": 1.5, "grid": 0.5}),
        ({"a": [1], "b": [1], "c": [1]}, {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}),
        ({"a": [1], "b": [1], "c": [0]}, {"a": 0.5, "b": 0.5, "c": 0}),
    ],
)
def test_who_ties_shares_the_repeat(finals, expected):
    assert wins(finals) == pytest.approx(expected)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=20))
def test_each_repeat_is_won_once(rows):
    columns = list(zip(*rows, strict=True))
    assert sum(wins(dict(zip("abc", columns, strict=True))).values()) == pytest.approx(len(rows))


def searches(sampler, draw, response, num_seeds, num_trials=9):
    found = []
    for seed in range(num_seeds):
        params = draw(SPACE, num_trials, seed)
        found.append(Search(sampler, seed, tuple(params), tuple(response(point) for point in params)))
    return found


def compared(response, num_seeds, num_trials=9):
    return Comparison(
        name="paper",
        searches={
            "random": searches("random", draw_random, response, num_seeds, num_trials),
            "grid": searches("grid", draw_shifted_grid, response, num_seeds, num_trials),
        },
        ranges=SPACE,
        num_trials=num_trials,
        num_asked=num_trials,
        num_epochs=1,
        guessing=-math.inf,
        num_planned=num_seeds,
    )


def test_nine_random_trials_try_nine_values_a_grid_three():
    found = compared(lambda point: 0.0, 3)
    assert found.distinct("random") == {"lr": 9, "other": 9}
    assert found.distinct("grid") == {"lr": 3, "other": 3}
    assert num_distinct(Search("grid", 0, ({"act": True}, {"act": 1}, {"act": 1}), (None,) * 3), "act") == 2


def units(point):
    return to_unit(SPACE["lr"], point["lr"]), to_unit(SPACE["other"], point["other"])


def one_matters(point):
    return -abs(units(point)[0] - 0.5)


def one_matters_the_other_hardly(point):
    return one_matters(point) - 1e-6 * units(point)[1]


def both_matter(point):
    return -max(abs(unit - 0.5) for unit in units(point))


def expected_where_one_matters(m):
    """Of m^2 trials, the share of seeds that random wins where only the distance |x - 1/2| counts.

    The grid has m values of x at a spacing of 1/m and a uniform offset, so its distance D is uniform on [0, 1/(2m)].
    The nearest of n = m^2 uniform points is farther than d with probability (1 - 2d)^n. Random wins with probability
    1 - E[(1 - 2D)^n] = 1 - m / (n + 1) * (1 - (1 - 1/m)^(n + 1)).
    """
    n = m**2
    return 1 - m / (n + 1) * (1 - (1 - 1 / m) ** (n + 1))


def expected_where_both_matter(m):
    """The same where max(|x - 1/2|, |y - 1/2|) counts.

    The grid's D is the larger of two independent ones: density 8 m^2 d on [0, 1/(2m)]. A random point is within d with
    probability (2d)^2. Random wins with probability 1 - E[(1 - 4 D^2)^n] = 1 - n / (n + 1) * (1 - (1 - 1/n)^(n + 1)).
    """
    n = m**2
    return 1 - n / (n + 1) * (1 - (1 - 1 / n) ** (n + 1))


@pytest.mark.parametrize(
    ("response", "m", "expected", "share"),
    [
        (one_matters, 3, expected_where_one_matters, 0.7052),
        (one_matters_the_other_hardly, 3, expected_where_one_matters, 0.7052),
        (one_matters, 5, expected_where_one_matters, 0.8083),
        (both_matter, 3, expected_where_both_matter, 0.3772),
    ],
)
def test_random_wins_the_expected_share_of_seeds(response, m, expected, share):
    """The claim of Bergstra & Bengio (2012), with its reverse: where all parameters matter alike, the grid wins."""
    num_seeds = 500
    assert expected(m) == pytest.approx(share, abs=1e-4)
    measured = compared(response, num_seeds, m**2).wins["random"] / num_seeds
    sigma = math.sqrt(share * (1 - share) / num_seeds)
    assert abs(measured - share) < 3 * sigma, f"measured {measured:.3f}, expected {share:.3f} +- {3 * sigma:.3f}"


def test_differences_pair_the_seeds():
    found = compared(one_matters, 40)
    by_hand = [a - b for a, b in zip(found.finals["random"], found.finals["grid"], strict=True)]
    assert found.difference("random", "grid").mean == pytest.approx(sum(by_hand) / 40)
    assert found.curve("grid")[-1].mean == pytest.approx(sum(found.finals["grid"]) / 40)


def test_the_important_parameter_is_found():
    points = [point for seed in range(5) for point in draw_random(SPACE, 9, seed) + draw_shifted_grid(SPACE, 9, seed)]
    found = importances(SPACE, points, [one_matters_the_other_hardly(point) for point in points])
    assert list(found) == ["lr", "other"]
    assert found["lr"] > 0.8
    assert sum(found.values()) == pytest.approx(1)


def test_what_does_nothing_stays_within_chance_and_what_decides_does_not():
    points = [point for seed in range(10) for point in draw_random(SPACE, 9, seed)]
    values = [one_matters_the_other_hardly(point) for point in points]
    found, chance = importances(SPACE, points, values), chance_shares(SPACE, points, values)
    assert found["lr"] > 3 * chance["lr"]
    few = chance_shares(SPACE, points[:20], values[:20])
    assert few["lr"] > chance["lr"]  # of fewer trials, luck gives more
    assert chance_shares(SPACE, points, [0.1] * 90) == {}


def test_no_importance_where_nothing_can_be_said():
    points = draw_random(SPACE, 9, 0)
    assert importances(SPACE, points, [0.1] * 9) == {}
    assert importances(SPACE, points[:3], [0.1, 0.2, 0.3]) == {}
    assert importances({}, [{}] * 9, [float(i) for i in range(9)]) == {}


def test_of_losses_the_lowest_is_the_best_and_less_is_better():
    loss = Metric("loss", "minimize")
    assert best_so_far([None, 3.0, 0.5, None, 0.8, 0.4], 2.3, loss) == [2.3, 2.3, 0.5, 0.5, 0.5, 0.4]
    assert wins({"a": [0.1, 0.5], "b": [0.2, 0.5]}, loss) == {"a": 1.5, "b": 0.5}
    searches = {name: [Search(name, 0, ({},), (value,))] for name, value in (("a", 0.1), ("b", 0.4))}
    found = Comparison("c", searches, {}, 1, 1, 1, 2.3, 1, metric=loss)
    assert found.difference("a", "b").mean == pytest.approx(0.3)  # a is better by so much
    assert found.as_dict()["metric"] == "loss"
