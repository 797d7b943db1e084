"""Whether trials show that several numbers act together, along lines that no axis follows. Pure."""

from __future__ import annotations

import numpy as np

from hpsearch.stages.gaussian_process import GaussianProcess, fit_process, is_worth_links
from hpsearch.stages.process_columns import ProcessColumns

MOST_NUMBERS = 8  # more have more pairs than a search has trials
STEEP = 0.3  # of the steepest number: of what changes values less it is not said
SHARED = 0.3  # of the metric of two numbers, at most 1: of less it is not said
MOST_TRIALS = 200  # a fit takes the cube of them: at 200 and 8 numbers some seconds


def can_be_linked(columns: ProcessColumns, values_N: np.ndarray) -> bool:
    """Whether it is worth a look: of what is searched, and of the trials' values."""
    numbers = len(columns.numbers)
    pairs = numbers * (numbers - 1) // 2
    if not (2 <= numbers <= MOST_NUMBERS and pairs < len(values_N) <= MOST_TRIALS and np.ptp(values_N) > 0):
        return False
    # Through as many places as there are numbers goes a plane, whatever they say.
    return _num_apart(values_N) > numbers


def _num_apart(values_N: np.ndarray) -> float:
    """From how many trials their variance comes: nearly 1 where one is far from all others, a third of them if normal.

    The inverse of the sum of the squared shares that they have in it.
    """
    return float(len(values_N) ** 2 / (scaled(values_N) ** 4).sum())


def linked_process(columns_NC: np.ndarray, values_N: np.ndarray, linked: int) -> GaussianProcess | None:
    """A process that knows these lines; None where trials show none.

    Args:
        columns_NC: of `ProcessColumns`.
        values_N: with a mean of 0 and a variance of 1.
        linked: so many of the first columns are numbers.
    """
    axes = fit_process(columns_NC, values_N)
    lines = fit_process(columns_NC, values_N, linked, axes.found)
    return lines if is_worth_links(lines, axes) else None


def scaled(values_N: np.ndarray) -> np.ndarray:
    """With a mean of 0 and a variance of 1."""
    # Of tiny values the deviation rounds to 0, and not their range.
    share_N = (values_N - values_N.min()) / np.ptp(values_N)
    return np.asarray((share_N - share_N.mean()) / share_N.std())


def count_together(process: GaussianProcess, columns: ProcessColumns) -> list[str]:
    """The numbers that a process of linked columns has linked, first the two that share most.

    By names alone, as a few dozen trials do not say how.
    """
    curvature = (process.metric.T @ process.metric)[: process.linked, : process.linked]
    steepness = np.sqrt(np.diag(curvature))
    shared = np.abs(curvature) / np.outer(steepness, steepness) - np.eye(process.linked)
    steep = steepness >= STEEP * steepness.max()
    shared[~steep] = shared[:, ~steep] = 0.0
    linked = np.flatnonzero((shared >= SHARED).any(axis=1))
    most = np.unravel_index(shared.argmax(), shared.shape)
    names = list(columns.numbers)
    return [names[at] for at in sorted(linked, key=lambda at: (at not in most, at))]
