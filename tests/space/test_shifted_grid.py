from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpsearch.config import Choice, FloatRange, IntRange
from hpsearch.errors import ConfigError
from hpsearch.space import draw_grid, to_unit
from hpsearch.space.shifted_grid import draw_shifted_grid

PLANE = {"lr": FloatRange(1e-6, 1.0, log=True), "reg": FloatRange(0.0, 10.0)}


def axis(points, name):
    return sorted({point[name] for point in points})


def test_nine_points_are_three_by_three_one_in_each_cell_at_the_same_place():
    points = draw_shifted_grid(PLANE, 9, seed=4)
    assert len({tuple(point.values()) for point in points}) == 9
    for name, range_ in PLANE.items():
        units = [to_unit(range_, value) for value in axis(points, name)]
        assert len(units) == 3
        assert [int(unit * 3) for unit in units] == [0, 1, 2]
        assert units[1] - units[0] == pytest.approx(1 / 3)
        assert units[2] - units[1] == pytest.approx(1 / 3)


def test_the_offset_and_the_order_come_from_the_seed_and_axes_move_apart():
    assert draw_shifted_grid(PLANE, 9, seed=4) == draw_shifted_grid(PLANE, 9, seed=4)
    drawn = [draw_shifted_grid(PLANE, 9, seed) for seed in range(200)]
    offsets = {name: [3 * to_unit(range_, axis(points, name)[0]) for points in drawn] for name, range_ in PLANE.items()}
    for values in offsets.values():  # uniform over the cell
        tenths = Counter(int(10 * value) for value in values)
        assert all(5 <= tenths[tenth] <= 40 for tenth in range(10))
    assert all(abs(a - b) > 1e-9 for a, b in zip(offsets["lr"], offsets["reg"], strict=True))
    first = Counter(axis(points, "lr").index(points[0]["lr"]) for points in drawn)
    assert min(first[0], first[1], first[2]) > 40


@settings(deadline=None, max_examples=100)
@given(
    seed=st.integers(0, 10**6),
    num_trials=st.integers(6, 60),
    high=st.integers(1, 40),
    log=st.booleans(),
)
def test_as_many_distinct_points_as_the_regular_grid_and_all_of_them_allowed(seed, num_trials, high, log):
    space = {
        "lr": PLANE["lr"],
        "width": IntRange(1, high, log=log),
        "act": Choice(("relu", "tanh", None)),
        "drop": FloatRange(0.0, 0.5, step=0.25),
    }
    points, regular = draw_shifted_grid(space, num_trials, seed), draw_grid(space, num_trials, seed)
    assert len(points) == len(regular) == len({tuple(map(repr, point.values())) for point in points})
    for name in space:
        assert len({repr(point[name]) for point in points}) == len({repr(point[name]) for point in regular})
    assert all(1 <= point["width"] <= high and type(point["width"]) is int for point in points)
    assert all(1e-6 <= point["lr"] <= 1 and point["drop"] in (0.0, 0.25, 0.5) for point in points)


def test_too_many_choices_for_the_budget_are_refused():
    with pytest.raises(ConfigError, match="trials = 2"):
        draw_shifted_grid({"act": Choice(("a", "b", "c"))}, 2, seed=0)
