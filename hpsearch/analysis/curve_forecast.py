"""How probable it is that a training, going on as its curve does, reaches a value before its last epoch.

The curve is a + b * shape(epoch) with noise that is alike in all epochs. The shapes are a power law, an exponential and
Janoschek's curve (Weibull's) with many rates, as in Domhan, Springenberg and Hutter, "Speeding up automatic
hyperparameter optimization of deep neural networks by extrapolation of learning curves" (IJCAI 2015). They sample all
parameters by Markov chains. Here a shape's rates lie on a grid, so that what is left, a, b and the noise, is a linear
regression with a closed form: the same curve gives the same probability on every machine, in less than a millisecond.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np
from scipy.special import stdtr

MIN_POINTS = 4  # a level, a height and noise take three; with one more there is something to tell shapes by
FLOOR = 0.01  # of the curve's own range: what its noise is at least, however well a shape fits
EXPONENTS = np.geomspace(0.1, 4.0, 12)  # of the power law
TIMES = np.geomspace(0.1, 2.0, 10)  # of the others, in all epochs of the training
BENDS = (0.5, 2.0)  # Janoschek's; 1 is the exponential


def probability_to_reach(curve: Mapping[int, float], target: float, last_epoch: int) -> float | None:
    """The probability that at some epoch to come the curve is at `target` or above it.

    It is that of the most promising epoch, with the noise of one measurement. Values are goodness: more is better. It
    does not change where curve and target are scaled or shifted alike.

    Args:
        curve: by epoch from 1 on; some may be missing.
        target: the value to be reached.
        last_epoch: of the training.

    Returns:
        0 to 1; 1 where the curve has been at the target already, and None where too little is known: fewer than
        MIN_POINTS values, one that is no number, or no epoch to come.
    """
    epochs = np.array(sorted(curve), dtype=float)
    values = np.array([curve[int(epoch)] for epoch in epochs], dtype=float)
    if len(epochs) < MIN_POINTS or not np.isfinite(values).all() or not np.isfinite(target):
        return None
    if epochs[-1] >= last_epoch:
        return None
    if values.max() >= target:
        return 1.0
    spread = float(np.ptp(values))
    if spread == 0:  # nothing has been learnt, and nothing says that anything will be
        return 0.0
    shapes_SE, log_prior_S = _shapes(last_epoch)
    x_SN, to_come_SM = shapes_SE[:, epochs.astype(int) - 1], shapes_SE[:, int(epochs[-1]) :]
    y_N, goal = (values - values[-1]) / spread, (target - values[-1]) / spread
    x_mean_S, y_mean, n = x_SN.mean(1), y_N.mean(), len(y_N)
    dx_SN, dy_N = x_SN - x_mean_S[:, None], y_N - y_mean
    sxx_S = (dx_SN**2).sum(1)
    usable_S = sxx_S > 1e-8  # a shape that is over before the first epoch says nothing
    sxx_S = np.where(usable_S, sxx_S, 1.0)
    b_S = dx_SN @ dy_N / sxx_S
    rss_S = ((dy_N - b_S[:, None] * dx_SN) ** 2).sum(1) + n * FLOOR**2
    # Flat priors of a, of b (all that is learnt between the first epoch and the last) and of the noise's logarithm.
    log_weight_S = np.where(usable_S, log_prior_S - 0.5 * np.log(sxx_S) - 0.5 * (n - 2) * np.log(rss_S), -np.inf)
    weight_S = np.exp(log_weight_S - log_weight_S.max())
    ahead_SM = to_come_SM - x_mean_S[:, None]
    mean_SM = y_mean + b_S[:, None] * ahead_SM
    noise_SM = np.sqrt((rss_S / (n - 2))[:, None] * (1 + 1 / n + ahead_SM**2 / sxx_S[:, None]))
    above_SM = stdtr(n - 2, (mean_SM - goal) / noise_SM)
    return float(np.clip((weight_S @ above_SM).max() / weight_S.sum(), 0.0, 1.0))


@lru_cache(maxsize=32)
def _shapes(last_epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """S shapes at epochs 1 to E, each from 0 up to 1, and the logarithms of their priors: each family as the others."""
    epoch_E = np.arange(1, last_epoch + 1, dtype=float)
    time_RE = epoch_E / (TIMES[:, None] * last_epoch)
    families = [-(epoch_E ** -EXPONENTS[:, None]), -np.exp(-time_RE)]
    families += [-np.exp(-(time_RE**bend)) for bend in BENDS]
    shapes_SE = np.concatenate(families)
    first_S1, last_S1 = shapes_SE[:, :1], shapes_SE[:, -1:]
    log_prior_S = np.concatenate([np.full(len(family), -np.log(len(family))) for family in families])
    return (shapes_SE - first_S1) / (last_S1 - first_S1), log_prior_S
