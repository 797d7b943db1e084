"""Where a Gaussian process expects most of a trial: the logarithm of its expected improvement, at its highest. Pure.

Jones, Schonlau and Welch, Efficient Global Optimization of Expensive Black-Box Functions, 1998; its logarithm, which
has slopes where the improvement is tiny: Ament et al., Unexpected Improvements to Expected Improvement, 2023.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy.optimize import minimize
from scipy.spatial.distance import cdist
from scipy.special import erfcx
from scipy.stats import qmc

from hpsearch.stages.gaussian_process import GaussianProcess

SPREAD = 2048  # points over all of the ranges
NEAR = 100  # around each of the best trials:
BEST = 3
STEP = 0.5  # times a length of the process
CLIMBS = 8  # from the best of these points
STEPS = 60
SAME = 1e-3  # of all ranges: what is nearer to a trial is its place

Snap = Callable[[np.ndarray], np.ndarray]


def most_promising(process: GaussianProcess, snap: Snap, numbers: int, seed: int) -> np.ndarray:
    """The point (C) at which the expected improvement over the best that is predicted of a trial is highest.

    No trial's place, while there are others: what the process takes for noise would make a second look worth it, but a
    function that is called alike gives the same, and there would be no end of looking.

    Args:
        process: of C columns.
        snap: points (M x C) to the nearest ones that there are.
        numbers: so many of the first columns are numbers; the others are those of choices.
        seed: of the points that are tried.
    """
    seen_NC = process.columns
    predicted_N, _ = process.predict(seen_NC)
    points_MC = snap(np.concatenate([*_near(process, predicted_N, seed), _spread(seen_NC.shape[1], seed), seen_NC]))
    best = float(predicted_N.max())
    promised_M = log_improvement(*process.predict(points_MC), best)
    climbed = [_climb(process, points_MC[index], numbers, best) for index in np.argsort(-promised_M)[:CLIMBS]]
    points_MC = np.concatenate([snap(np.array(climbed)), points_MC])
    promised_M = log_improvement(*process.predict(points_MC), best)
    is_new_M = cdist(points_MC, seen_NC, "chebyshev").min(axis=1) >= SAME
    if is_new_M.any():
        promised_M[~is_new_M] = -np.inf
    return np.asarray(points_MC[np.argmax(promised_M)])


def log_improvement(mean: np.ndarray, deviation: np.ndarray, best: float) -> np.ndarray:
    """The logarithm of the improvement over `best` that is expected of normally distributed values."""
    return np.asarray(np.log(deviation) + _log_h((mean - best) / deviation)[0])


def _log_h(ahead: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """log(p + z P) of z, and p and P divided by p + z P, where p and P are the density and distribution of a normal."""
    z = np.maximum(ahead, -1e4)
    mills = math.sqrt(math.pi / 2) * erfcx(-np.minimum(z, 20.0) / math.sqrt(2))  # P / p
    inner = 1 + z * mills
    return np.log(inner) - 0.5 * np.minimum(z, 20.0) ** 2 - 0.5 * math.log(2 * math.pi), 1 / inner, mills / inner


def _near(process: GaussianProcess, predicted_N: np.ndarray, seed: int) -> list[np.ndarray]:
    """Points around the best trials, as far along each line as the process is alike there."""
    rng = np.random.default_rng(seed)
    num = process.columns.shape[1]
    shape_CC = np.linalg.cholesky(np.linalg.inv(process.metric.T @ process.metric + 1e-3 * np.eye(num)))
    tops = process.columns[np.argsort(-predicted_N)[:BEST]]
    return [np.clip(top + STEP * rng.normal(size=(NEAR, num)) @ shape_CC.T, 0, 1) for top in tops]


def _spread(num: int, seed: int) -> np.ndarray:
    return np.asarray(qmc.Sobol(num, seed=np.random.default_rng(seed)).random(SPREAD))


def _climb(process: GaussianProcess, point_C: np.ndarray, numbers: int, best: float) -> np.ndarray:
    """Up from a point, along its numbers."""
    fixed = point_C[numbers:]

    def loss(moved: np.ndarray) -> tuple[float, np.ndarray]:
        mean, deviation, mean_slope, deviation_slope = process.predict_with_slopes(np.concatenate([moved, fixed]))
        log_h, density, distribution = (float(each) for each in _log_h(np.array((mean - best) / deviation)))
        slope = (distribution * mean_slope + density * deviation_slope) / deviation
        return -(math.log(deviation) + log_h), -slope[:numbers]

    found = minimize(
        loss, point_C[:numbers], jac=True, method="L-BFGS-B", bounds=[(0.0, 1.0)] * numbers, options={"maxiter": STEPS}
    )
    return np.concatenate([np.clip(found.x, 0, 1), fixed])
