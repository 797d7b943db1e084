"""A Gaussian process with lengths along the axes, or along lines across them."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import approx_fprime
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern

from hpsearch.stages.gaussian_process import JITTER, _loss, fit_process, is_worth_links
from hpsearch.stages.process_lines import scaled


def made(num=40, columns=4, seed=0, value=None, noise=0.01):
    rng = np.random.default_rng(seed)
    points = rng.random((num, columns))
    return points, scaled((value or bowl)(points) + rng.normal(0, noise, num))


def bowl(points):
    return np.exp(-((points - 0.4) ** 2).sum(axis=1) / 0.3)


def ridges(points):
    """Two sums along lines that no axis follows."""
    return np.exp(-(((points[:, 0] + points[:, 1] - 1) / 0.2) ** 2) - ((points[:, 2] - points[:, 3]) / 0.3) ** 2)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), linked=st.integers(0, 3), columns=st.integers(3, 5))
def test_the_gradient_is_that_of_the_loss(seed, linked, columns):
    points, values = made(15, columns, seed)
    rng = np.random.default_rng(seed)
    pairs = linked * (linked - 1) // 2
    found = np.concatenate([rng.normal(0.5, 0.5, columns), rng.normal(0, 1, pairs), [-3.0, 0.2]])
    _, gradient = _loss(found, points, values, linked)
    expected = approx_fprime(found, lambda at: _loss(at, points, values, linked)[0], 1e-6)
    np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("linked", [0, 4])
def test_it_predicts_as_scikit_learn_does_with_the_same_kernel(linked):
    points, values = made(value=ridges)
    process = fit_process(points, values, linked)
    kernel = ConstantKernel(process.signal, "fixed") * Matern(1.0, "fixed", nu=2.5)
    other = GaussianProcessRegressor(kernel, alpha=process.noise + JITTER, optimizer=None)
    other.fit(points @ process.metric.T, values)
    new = np.random.default_rng(1).random((30, 4))
    mean, deviation = process.predict(new)
    expected_mean, expected_deviation = other.predict(new @ process.metric.T, return_std=True)
    np.testing.assert_allclose(mean, expected_mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(deviation, expected_deviation, rtol=1e-5, atol=1e-6)
    likelihood = other.log_marginal_likelihood_value_ - 0.5 * len(values) * -math.log(2 * math.pi)
    priors = _loss(process.found, points, values, linked)[0] + likelihood
    assert process.score == pytest.approx(likelihood - priors)
    assert priors > 0


def test_the_score_of_a_fit_is_no_lower_than_where_it_began():
    points, values = made(value=ridges)
    axes = fit_process(points, values)
    for linked in (2, 4):
        begun = fit_process(points, values, linked, axes.found, starts=0)
        assert begun.score >= axes.score - 1e-6
        assert fit_process(points, values, linked, begun.found, starts=0).score >= begun.score - 1e-6


def test_the_slopes_of_a_prediction():
    points, values = made(value=ridges)
    process = fit_process(points, values, 4)
    at = np.array([0.31, 0.62, 0.4, 0.8])
    mean, deviation, mean_slope, deviation_slope = process.predict_with_slopes(at)
    assert (mean, deviation) == pytest.approx(tuple(float(each[0]) for each in process.predict(at[None])))
    np.testing.assert_allclose(mean_slope, approx_fprime(at, lambda x: process.predict(x[None])[0][0], 1e-7), atol=1e-4)
    np.testing.assert_allclose(
        deviation_slope, approx_fprime(at, lambda x: process.predict(x[None])[1][0], 1e-7), atol=1e-4
    )


def test_what_is_left_out_is_predicted_from_all_others():
    points, values = made(20, 2)
    process = fit_process(points, values)
    metric, covariance = process.metric, process.factor @ process.factor.T
    for number in (0, 7, 19):
        others = np.delete(np.arange(20), number)
        weights = np.linalg.solve(covariance[np.ix_(others, others)], values[others])
        expected = values[number] - covariance[number, others] @ weights
        assert process.errors_left_out()[number] == pytest.approx(expected)
    assert metric.shape == (2, 2)


def test_what_is_believed_changes_no_prediction_and_leaves_less_to_learn_there():
    points, values = made(20, 2)
    process = fit_process(points, values)
    believed = process.with_believed(np.array([[0.9, 0.1]]))
    new = np.array([[0.9, 0.1], [0.88, 0.12], [0.1, 0.9]])
    np.testing.assert_allclose(believed.predict(new)[0], process.predict(new)[0], atol=1e-6)
    assert believed.predict(new)[1][0] < process.predict(new)[1][0]
    assert (believed.predict(new)[1] <= process.predict(new)[1] + 1e-9).all()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_lines_are_found_where_there_are_some_and_not_elsewhere(seed):
    def worth(value, noise=0.01):
        points, values = made(40, 4, seed, value, noise)
        axes = fit_process(points, values)
        return is_worth_links(fit_process(points, values, 4, axes.found), axes)

    assert worth(ridges)
    assert not worth(bowl)
    assert not worth(bowl, noise=0.3)
    assert not worth(lambda points: np.zeros(len(points)), noise=1.0)


def test_the_metric_of_a_ridge_is_short_across_it():
    points, values = made(60, 2, value=lambda points: np.exp(-(((points[:, 0] + points[:, 1] - 1) / 0.1) ** 2)))
    metric = fit_process(points, values, 2).metric
    across, along = (float(np.linalg.norm(metric @ np.array(step))) for step in ([0.1, 0.1], [0.1, -0.1]))
    assert across > 5 * along


def test_a_fit_is_the_same_each_time():
    points, values = made(value=ridges)
    np.testing.assert_array_equal(fit_process(points, values, 4).found, fit_process(points, values, 4).found)


def test_trials_that_are_all_at_one_place_are_fitted():
    points = np.full((10, 3), 0.5)
    process = fit_process(points, scaled(np.random.default_rng(0).normal(size=10)), 3)
    assert np.isfinite(process.predict(points)[0]).all()
