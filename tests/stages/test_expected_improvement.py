"""Where a Gaussian process expects most."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm

from hpsearch.stages.expected_improvement import SAME, log_improvement, most_promising
from hpsearch.stages.gaussian_process import fit_process
from hpsearch.stages.process_lines import scaled


def as_they_are(points):
    return points


@given(mean=st.floats(-3, 3), deviation=st.floats(0.05, 3), best=st.floats(-3, 3))
def test_it_is_the_logarithm_of_the_mean_of_what_is_gained(mean, deviation, best):
    if (mean - best) / deviation < -6:
        return  # less than numerical integration can tell
    gained, _ = quad(
        lambda value: (value - best) * norm.pdf(value, mean, deviation),
        best,
        max(best, mean) + 12 * deviation,
        limit=200,
    )
    found = log_improvement(np.array([mean]), np.array([deviation]), best)[0]
    assert found == pytest.approx(math.log(gained), abs=1e-3)


def test_it_still_has_an_order_where_next_to_nothing_is_expected():
    behind = np.array([-5e3, -500.0, -50.0, -30.0, -5.0, 0.0, 5.0, 50.0])
    found = log_improvement(behind, np.ones(len(behind)), 0.0)
    assert np.isfinite(found).all()
    assert (np.diff(found) > 0).all()


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000))
def test_no_point_of_a_grid_promises_more(seed):
    rng = np.random.default_rng(seed)
    points = rng.random((15, 2))
    values = scaled(np.sin(6 * points[:, 0]) + np.cos(5 * points[:, 1]) + rng.normal(0, 0.1, 15))
    process = fit_process(points, values, 2, starts=1)
    found = most_promising(process, as_they_are, 2, seed)
    grid = np.stack(np.meshgrid(np.linspace(0, 1, 60), np.linspace(0, 1, 60)), axis=-1).reshape(-1, 2)
    best = float(process.predict(points)[0].max())
    promised = log_improvement(*process.predict(np.concatenate([grid, found[None]])), best)
    assert ((found >= 0) & (found <= 1)).all()
    assert promised[-1] >= promised[:-1].max() - 1e-3


def test_only_points_that_there_are_are_proposed():
    points = np.random.default_rng(0).random((15, 3)).round(1)
    points[:, 2] = points[:, 2].round()
    process = fit_process(points, scaled(points.sum(axis=1)))

    def on_grid(points):
        return np.concatenate([points[:, :2].round(1), points[:, 2:].round()], axis=1)

    found = most_promising(process, on_grid, 2, 0)
    np.testing.assert_array_equal(found, on_grid(found[None])[0])


def test_the_seed_says_which_points_are_tried():
    points = np.random.default_rng(0).random((15, 3))
    process = fit_process(points, scaled(points.sum(axis=1) + np.sin(9 * points[:, 0])))
    once = most_promising(process, as_they_are, 3, 4)
    np.testing.assert_array_equal(once, most_promising(process, as_they_are, 3, 4))


def test_no_place_is_proposed_twice_while_there_are_others():
    """The noise of the process makes it worth a second look, but a function that is called alike gives the same."""
    grid = np.stack(np.meshgrid([0.0, 0.5, 1.0], [0.0, 0.5, 1.0]), axis=-1).reshape(-1, 2)
    points = np.concatenate([grid[:8]] * 3)
    values = scaled((points[:, 0] == points[:, 1]) + np.random.default_rng(0).normal(0, 0.2, len(points)))

    def on_grid(points):
        return (2 * points).round() / 2

    found = most_promising(fit_process(points, values), on_grid, 2, 0)
    np.testing.assert_array_equal(found, grid[8])
    all_seen = fit_process(np.concatenate([points, grid]), np.concatenate([values, scaled(grid.sum(axis=1))]))
    assert most_promising(all_seen, on_grid, 2, 0).tolist() in grid.tolist()


def test_the_best_place_is_not_proposed_again():
    points = np.random.default_rng(0).random((15, 2))
    values = -((points - 0.5) ** 2).sum(axis=1)
    points, values = np.concatenate([points, [[0.5, 0.5]]]), np.concatenate([values, [0.0]])
    found = most_promising(fit_process(points, scaled(values), 2), as_they_are, 2, 0)
    assert np.abs(found - points).max(axis=1).min() >= SAME
