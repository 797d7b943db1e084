"""A Gaussian process whose scales are those of the axes, or of any lines across them: pure, numbers in and out.

Optuna's has a length for each axis. Where values depend on a sum of several numbers, as of the logarithms of learning
rate and batch, such a process learns little; one with a whole matrix as its metric (Rasmussen and Williams, Gaussian
Processes for Machine Learning, 2006, sections 4.2.1 and 5.4.3) finds the lines from a few dozen trials. It has a number
more for each pair of axes, and is taken where the trials say that it is worth them: Schwarz, Estimating the Dimension
of a Model, 1978.

Shapes: N = trials, C = columns, of which the first L may be linked, M = points to predict.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.linalg import cho_solve, solve_triangular
from scipy.optimize import minimize


class Prior(NamedTuple):
    """A normal distribution of a number that is fitted, and its limits."""

    mean: float
    deviation: float
    low: float
    high: float


# Of columns that are 1 long; all are logarithms but the entries of the metric beside its diagonal.
SCALE = Prior(0.0, 1.5, -3.0, 5.0)  # of 1 / length
LINK = Prior(0.0, 3.0, -60.0, 60.0)
NOISE = Prior(-5.0, 2.0, -12.0, 1.0)
SIGNAL = Prior(0.0, 1.0, -3.0, 4.0)
FIRST_NOISE = -4.0  # with which a fit begins
JITTER = 1e-6
STARTS = 4  # drawn, of a fit
VERY_STRONG = 5.0  # evidence, on Kass and Raftery's scale: the logarithm of the odds
STEPS = 150


@dataclass(frozen=True, eq=False, slots=True)
class GaussianProcess:
    """One that has learned: Matern 5/2 of the distance between `metric @ x` and `metric @ x'`, and noise.

    Attributes:
        columns: of the trials, N x C.
        values: theirs, N.
        linked: so many of the first columns are linked; 0 in a process of the axes.
        metric: C x C, lower triangular; a diagonal one is a process of the axes.
        signal: variance of what is learned.
        noise: variance of what is not.
        weights: N, of the trials in the mean that is predicted.
        factor: N x N, of the covariance, lower triangular.
        score: the logarithm of its posterior density, up to a constant: more is better.
        found: all of the numbers that were fitted, for the next fit to begin with.
    """

    columns: np.ndarray
    values: np.ndarray
    linked: int
    metric: np.ndarray
    signal: float
    noise: float
    weights: np.ndarray
    factor: np.ndarray
    score: float
    found: np.ndarray

    def predict(self, columns_MC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of each point, without noise."""
        near_MN = self.signal * _matern(_squared(columns_MC @ self.metric.T, self.columns @ self.metric.T))[0]
        known_NM = solve_triangular(self.factor, near_MN.T, lower=True)
        variance_M = self.signal - (known_NM**2).sum(axis=0)
        return near_MN @ self.weights, np.sqrt(np.maximum(variance_M, 1e-10))

    def predict_with_slopes(self, column_C: np.ndarray) -> tuple[float, float, np.ndarray, np.ndarray]:
        """Mean and standard deviation of one point, and how each changes along the columns."""
        aside_NC = (column_C - self.columns) @ self.metric.T
        near_N, slope_N = (self.signal * each for each in _matern((aside_NC**2).sum(axis=1)))
        known_N = cho_solve((self.factor, True), near_N)
        deviation = math.sqrt(max(self.signal - near_N @ known_N, 1e-10))
        along_NC = 2 * slope_N[:, None] * (aside_NC @ self.metric)
        return (
            float(near_N @ self.weights),
            deviation,
            self.weights @ along_NC,
            -(known_N @ along_NC) / deviation,
        )

    def with_believed(self, columns_MC: np.ndarray) -> GaussianProcess:
        """The same as if each of these points had been measured to be what it predicts of them."""
        columns_NC = np.concatenate([self.columns, columns_MC])
        values_N = np.concatenate([self.values, self.predict(columns_MC)[0]])
        return _conditioned(columns_NC, values_N, self.found, self.linked, self.score)

    def errors_left_out(self) -> np.ndarray:
        """Of the value of each trial (N), as all others predict it (Rasmussen and Williams, section 5.4.2)."""
        inverse_NN = cho_solve((self.factor, True), np.eye(len(self.weights)))
        return self.weights / np.diag(inverse_NN)


def fit_process(
    columns_NC: np.ndarray, values_N: np.ndarray, linked: int = 0, begin: np.ndarray | None = None, starts: int = STARTS
) -> GaussianProcess:
    """The likeliest process of some trials, by its posterior density.

    Args:
        columns_NC: each from 0 to 1.
        values_N: with a mean of 0 and a variance of 1.
        linked: so many of the first columns may be linked to each other; 0 and 1 are none.
        begin: `found` of a process of as many linked columns, or of none, to begin with.
        starts: so many more are drawn, always the same ones.
    """
    num, pairs = columns_NC.shape[1], linked * (linked - 1) // 2
    rng = np.random.default_rng(0)
    begins = [np.array([*[SCALE.mean] * num, *[LINK.mean] * pairs, FIRST_NOISE, SIGNAL.mean])]
    if begin is not None:
        as_linked = len(begin) == num + pairs + 2
        begins = [begin if as_linked else np.concatenate([begin[:num], [LINK.mean] * pairs, begin[num:]])]
    for _ in range(starts):
        scales, links = rng.normal(SCALE.mean, 0.5, num), rng.normal(LINK.mean, 2.0, pairs)
        begins.append(np.concatenate([scales, links, [FIRST_NOISE, SIGNAL.mean]]))
    bounds = [(prior.low, prior.high) for prior in _priors(num, pairs)]
    tried = [
        minimize(
            _loss,
            each,
            args=(columns_NC, values_N, linked),
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            options={"maxiter": STEPS},
        )
        for each in begins
    ]
    best = min(tried, key=lambda result: float(result.fun))
    return _conditioned(columns_NC, values_N, best.x, linked, -float(best.fun))


def is_worth_links(linked: GaussianProcess, axes: GaussianProcess) -> bool:
    """Whether a process of linked columns explains so much more that its additional numbers are worth it."""
    more = len(linked.found) - len(axes.found)
    return linked.score - axes.score - 0.5 * more * math.log(len(linked.values)) > VERY_STRONG


def _conditioned(
    columns_NC: np.ndarray, values_N: np.ndarray, found: np.ndarray, linked: int, score: float
) -> GaussianProcess:
    metric_CC, noise, signal = _unpacked(found, columns_NC.shape[1], linked)
    scaled_NC = columns_NC @ metric_CC.T
    covariance_NN = signal * _matern(_squared(scaled_NC, scaled_NC))[0] + (noise + JITTER) * np.eye(len(values_N))
    factor_NN = np.linalg.cholesky(covariance_NN)
    weights_N = cho_solve((factor_NN, True), values_N)
    return GaussianProcess(columns_NC, values_N, linked, metric_CC, signal, noise, weights_N, factor_NN, score, found)


def _unpacked(found: np.ndarray, num: int, linked: int) -> tuple[np.ndarray, float, float]:
    metric_CC = np.diag(np.exp(found[:num]))
    metric_CC[np.tril_indices(linked, -1)] = found[num:-2]
    return metric_CC, math.exp(found[-2]), math.exp(found[-1])


def _squared(from_MC: np.ndarray, to_NC: np.ndarray) -> np.ndarray:
    """Squared distances, M x N."""
    sums = (from_MC**2).sum(axis=1)[:, None] + (to_NC**2).sum(axis=1) - 2 * from_MC @ to_NC.T
    return np.asarray(np.maximum(sums, 0.0))


def _matern(squared: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Matern 5/2 of squared distances, and its derivative by them."""
    distance = np.sqrt(5 * squared)
    decay = np.exp(-distance)
    return (1 + distance + distance**2 / 3) * decay, -5 / 6 * (1 + distance) * decay


def _loss(found: np.ndarray, columns_NC: np.ndarray, values_N: np.ndarray, linked: int) -> tuple[float, np.ndarray]:
    """Minus the logarithm of the posterior density, and its gradient."""
    num = columns_NC.shape[1]
    metric_CC, noise, signal = _unpacked(found, num, linked)
    scaled_NC = columns_NC @ metric_CC.T
    near_NN, slope_NN = _matern(_squared(scaled_NC, scaled_NC))
    covariance_NN = signal * near_NN + (noise + JITTER) * np.eye(len(values_N))
    try:
        factor_NN = np.linalg.cholesky(covariance_NN)
    except np.linalg.LinAlgError:
        return 1e10, np.zeros_like(found)
    inverse_NN = cho_solve((factor_NN, True), np.eye(len(values_N)))
    weights_N = inverse_NN @ values_N
    loss = 0.5 * values_N @ weights_N + np.log(np.diag(factor_NN)).sum()
    by_covariance_NN = 0.5 * (inverse_NN - np.outer(weights_N, weights_N))
    by_squared_NN = signal * by_covariance_NN * slope_NN
    around_CC = (
        columns_NC.T @ (by_squared_NN.sum(axis=1)[:, None] * columns_NC) - columns_NC.T @ by_squared_NN @ columns_NC
    )
    by_metric_CC = 4 * metric_CC @ around_CC
    gradient = np.concatenate(
        [
            np.diag(by_metric_CC) * np.diag(metric_CC),
            by_metric_CC[np.tril_indices(linked, -1)],
            [noise * np.trace(by_covariance_NN), signal * (by_covariance_NN * near_NN).sum()],
        ]
    )
    priors = np.array(_priors(num, len(found) - num - 2))
    off = (found - priors[:, 0]) / priors[:, 1]
    return float(loss + 0.5 * off @ off), gradient + off / priors[:, 1]


def _priors(num: int, pairs: int) -> list[Prior]:
    return [*[SCALE] * num, *[LINK] * pairs, NOISE, SIGNAL]
