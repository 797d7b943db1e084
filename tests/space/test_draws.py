import math
import subprocess
import sys
from collections import Counter

import pytest

from hpsearch.config import Choice, FloatRange, IntRange
from hpsearch.errors import ConfigError
from hpsearch.space import draw_grid, draw_qmc, draw_random, to_unit

SPACE = {
    "lr": FloatRange(1e-6, 1e-3, log=True),
    "momentum": FloatRange(0.5, 0.99),
    "model.convs": IntRange(1, 3),
    "train.batch_size": IntRange(16, 512, log=True),
    "model.hidden": Choice(((50,), (50, 20))),
    "model.dropout": FloatRange(0.0, 0.5, step=0.1),
}
DRAWS = [draw_random, draw_qmc]


@pytest.mark.parametrize("draw", [*DRAWS, draw_grid])
def test_values_are_plain_and_allowed(draw):
    points = draw(SPACE, 40, seed=1)
    for point in points:
        assert list(point) == list(SPACE)
        for name, value in point.items():
            range_ = SPACE[name]
            if isinstance(range_, Choice):
                assert value in range_.values
            else:
                assert type(value) is (int if isinstance(range_, IntRange) else float)
                assert range_.low <= value <= range_.high
    assert {point["model.dropout"] for point in points} <= {0.0, 0.1, 0.2, 0.3, 0.4, 0.5}


@pytest.mark.parametrize("draw", DRAWS)
def test_number_of_trials_and_seed(draw):
    assert [len(draw(SPACE, num, seed=0)) for num in (1, 2, 3, 50)] == [1, 2, 3, 50]
    assert draw(SPACE, 20, seed=3) == draw(SPACE, 20, seed=3) != draw(SPACE, 20, seed=4)
    assert draw(SPACE, 50, seed=3)[:7] == draw(SPACE, 7, seed=3)
    assert draw({}, 2, seed=0) == [{}, {}]


def test_random_draws_do_not_depend_on_the_other_parameters():
    whole = draw_random(SPACE, 9, seed=5)
    for name, range_ in SPACE.items():
        assert [point[name] for point in draw_random({name: range_}, 9, seed=5)] == [point[name] for point in whole]


def test_random_draws_of_two_parameters_differ():
    range_ = FloatRange(0.0, 1.0)
    assert all(point["a"] != point["b"] for point in draw_random({"a": range_, "b": range_}, 9, seed=0))


@pytest.mark.parametrize("draw", DRAWS)
def test_uniform_in_the_scale(draw):
    points = draw(SPACE, 4096, seed=0)
    for name in ("lr", "momentum"):
        tenths = Counter(int(10 * to_unit(SPACE[name], point[name])) for point in points)
        assert all(abs(tenths[tenth] - 409.6) < 80 for tenth in range(10))
    for name, values in (("model.convs", 3), ("model.hidden", 2), ("model.dropout", 6)):
        counts = Counter(point[name] for point in points)
        assert len(counts) == values
        assert all(abs(count - 4096 / values) < 120 for count in counts.values())
    small = sum(point["train.batch_size"] < 90 for point in points)
    assert abs(small - 2048) < 140  # sqrt(16 * 512) = 90.5


def test_small_ints_on_a_log_scale_get_their_stretch():
    counts = Counter(point["x"] for point in draw_random({"x": IntRange(1, 4, log=True)}, 4000, seed=0))
    expected = {k: 4000 * math.log((k + 0.5) / (k - 0.5)) / math.log(9) for k in range(1, 5)}
    assert all(abs(counts[k] - expected[k]) < 120 for k in expected)


def test_qmc_fills_more_evenly_than_random():
    """Each of 64 equal boxes of the square holds one of 64 Sobol points."""
    square = {"a": FloatRange(0.0, 1.0), "b": FloatRange(0.0, 1.0)}

    def boxes(points):
        return len({(int(8 * point["a"]), int(8 * point["b"])) for point in points})

    assert boxes(draw_qmc(square, 64, seed=0)) == 64
    assert boxes(draw_random(square, 64, seed=0)) < 64


class TestGrid:
    @pytest.mark.parametrize(
        ("ranges", "num_trials", "counts"),
        [
            ({"a": FloatRange(0.0, 1.0), "b": FloatRange(0.0, 1.0)}, 9, [3, 3]),
            ({"a": FloatRange(0.0, 1.0), "b": FloatRange(0.0, 1.0)}, 100, [10, 10]),
            ({"a": FloatRange(0.0, 1.0), "b": FloatRange(0.0, 1.0)}, 11, [3, 3]),
            ({"a": FloatRange(0.0, 1.0), "b": FloatRange(0.0, 1.0)}, 12, [4, 3]),
            ({"a": FloatRange(0.0, 1.0), "b": IntRange(1, 2)}, 20, [10, 2]),
            ({"a": IntRange(1, 2), "b": IntRange(1, 3)}, 100, [2, 3]),
            ({"a": Choice((1, 2, 3)), "b": FloatRange(0.0, 1.0)}, 10, [3, 3]),
            ({"a": Choice((1, 2, 3)), "b": FloatRange(0.0, 1.0)}, 3, [3, 1]),
            ({"a": FloatRange(0.5, 0.5), "b": IntRange(1, 9, log=True)}, 9, [1, 9]),
            ({"a": FloatRange(0.0, 1.0)}, 1, [1]),
        ],
    )
    def test_size(self, ranges, num_trials, counts):
        points = draw_grid(ranges, num_trials, seed=0)
        assert [len({point[name] for point in points}) for name in ranges] == counts
        assert len({tuple(point.values()) for point in points}) == len(points) == math.prod(counts)

    def test_points_include_both_ends(self):
        assert sorted(p["a"] for p in draw_grid({"a": FloatRange(0.0, 1.0)}, 5, seed=0)) == [0, 0.25, 0.5, 0.75, 1]
        lrs = sorted(p["lr"] for p in draw_grid({"lr": FloatRange(1e-4, 1.0, log=True)}, 3, seed=0))
        assert lrs == pytest.approx([1e-4, 1e-2, 1.0])
        assert draw_grid({"a": FloatRange(0.0, 1.0)}, 1, seed=0) == [{"a": 0.5}]

    @pytest.mark.parametrize("num", range(1, 33))
    @pytest.mark.parametrize("log", [False, True])
    def test_ints_do_not_fall_together(self, num, log):
        values = sorted(p["a"] for p in draw_grid({"a": IntRange(1, 32, log=log)}, num, seed=0))
        assert len(set(values)) == num
        if num > 1:
            assert (values[0], values[-1]) == (1, 32)

    def test_steps_are_exact(self):
        points = draw_grid({"a": FloatRange(0.0, 0.7, step=0.1)}, 8, seed=0)
        assert sorted(point["a"] for point in points) == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]

    def test_order_is_shuffled_by_the_seed(self):
        ranges = {"a": FloatRange(0.0, 1.0), "b": FloatRange(0.0, 1.0)}
        first, same, other = (draw_grid(ranges, 25, seed=seed) for seed in (0, 0, 1))
        assert first == same != other
        assert sorted(map(str, first)) == sorted(map(str, other))

    def test_choices_that_exceed_the_budget(self):
        ranges = {"kind": Choice(("a", "b", "c")), "size": Choice((1, 2)), "lr": FloatRange(0.0, 1.0)}
        with pytest.raises(
            ConfigError, match=r"trials = 5 .* kind, size alone have 6 combinations\.\nAllowed: at least 6"
        ):
            draw_grid(ranges, 5, seed=0)


def test_reading_spaces_needs_no_heavy_imports():
    code = "import sys, hpsearch.space; print([m for m in ('optuna', 'numpy', 'scipy', 'torch') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
