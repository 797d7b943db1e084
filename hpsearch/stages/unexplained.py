"""How much of what trials found a Gaussian process leaves unexplained: where that is much, it needs narrower ranges.

The scales of such a process are those of the axes. Where values depend on several numbers together, along lines that no
axis follows, it learns little from trials that lie far apart, and finds more in ranges that became narrower.

Each trial is predicted from all others (leave-one-out, Rasmussen and Williams, Gaussian Processes for Machine Learning,
2006, section 5.4.2), and what is off by more than the noise that the process infers is misfit. On surfaces with a known
optimum, after 40 and after 100 trials, it is worth 1 to 7 trials where the process does well in ranges that stay,
8 and 11 along a cliff, and 16 to 20 on ridges of four numbers (docs/log.md).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np

from hpsearch.config import Choice, Range
from hpsearch.results import Direction
from hpsearch.space import Observation
from hpsearch.space.scale import choice_index, num_values, position
from hpsearch.stages.told_values import told_values

MOST = 10.0  # trials whose differences may be left unexplained
LENGTHS = (0.05, 20.0)  # of a range that is 1 long
NOISE = (1e-6, 2.0)  # shares of the variance
SIGNAL = (1e-2, 1e2)


def unexplained_trials(space: Mapping[str, Range], observations: Sequence[Observation], direction: Direction) -> float:
    """Of how many trials the differences are neither explained nor noise: 0, if all are, to their number. Pure.

    Args:
        space: ranges in which the trials lie.
        observations: of which those count that `compared_trials` names.
        direction: which values are better.
    """
    known = compared_trials(space, observations)
    told_N = np.array(told_values([seen.value for seen in known], direction))
    columns_ND = _columns(space, known)
    if len(known) < 2 or columns_ND.shape[1] == 0 or not np.ptp(told_N):
        return 0.0
    share_N = (told_N - told_N.min()) / np.ptp(told_N)  # the deviation of values that are tiny rounds to 0
    misfit, noise = _left_out(columns_ND, (share_N - share_N.mean()) / share_N.std())
    return len(known) * min(1.0, max(0.0, misfit - noise))


def compared_trials(space: Mapping[str, Range], observations: Sequence[Observation]) -> list[Observation]:
    """Those with a value, or that exploded, of which each parameter is known: code may end before it asks for all."""
    return [
        seen
        for seen in observations
        if (seen.value is not None or seen.outcome == "exploded") and space.keys() <= seen.params.keys()
    ]


def _columns(space: Mapping[str, Range], seen: Sequence[Observation]) -> np.ndarray:
    """A column for each number, 0 to 1 in its range, and one for each value of a choice; any two are 1 apart."""
    columns: list[list[float]] = []
    for name, range_ in space.items():
        if num_values(range_) == 1:
            continue
        if isinstance(range_, Choice):
            found = [choice_index(range_, each.params[name]) for each in seen]
            columns += [[float(index == at) / 2**0.5 for at in found] for index in range(len(range_.values))]
        else:
            columns.append([position(range_, each.params[name]) for each in seen])
    return np.array(columns).reshape(len(columns), len(seen)).T


def _left_out(columns_ND: np.ndarray, values_N: np.ndarray) -> tuple[float, float]:
    """The mean squared error of each value as the others predict it, and the noise that was inferred.

    Args:
        columns_ND: of N trials.
        values_N: with a mean of 0 and a variance of 1.
    """
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    signal = ConstantKernel(1.0, SIGNAL) * Matern(np.ones(columns_ND.shape[1]), LENGTHS, nu=2.5)
    process = GaussianProcessRegressor(signal + WhiteKernel(0.01, NOISE))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a length or the noise came to its bound
        process.fit(columns_ND, values_N)
    inverse_NN = np.linalg.inv(process.kernel_(columns_ND))
    errors_N = (inverse_NN @ values_N) / np.diag(inverse_NN)
    return float((errors_N**2).mean()), float(process.kernel_.k2.noise_level)
