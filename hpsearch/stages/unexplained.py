"""How much of what trials found a Gaussian process leaves unexplained: where that is much, it needs narrower ranges.

Each trial is predicted from all others (leave-one-out, Rasmussen and Williams, Gaussian Processes for Machine Learning,
2006, section 5.4.2), and what is off by more than the noise that the process infers is misfit. On surfaces with a known
optimum, after 40 and after 100 trials, it is worth 0 to 5 trials in the median, along ridges as well, whose lines the
process finds; 8 and 9 along a cliff of six numbers, where narrower ranges are level with those that stay (docs/log.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hpsearch.config import Range
from hpsearch.results import Direction, goodness
from hpsearch.space import Observation
from hpsearch.stages.process_columns import ProcessColumns
from hpsearch.stages.told_values import told_values

MOST = 10.0  # trials whose differences may be left unexplained


@dataclass(frozen=True, slots=True)
class Explained:
    """What a Gaussian process makes of some trials.

    Attributes:
        left: of how many trials the differences are neither explained nor noise: 0, if all are, to their number.
        together: numbers that count together, along lines that no axis follows; see `stages.process_lines`.
    """

    left: float
    together: tuple[str, ...] = ()


def explain(space: Mapping[str, Range], observations: Sequence[Observation], direction: Direction) -> Explained:
    """What a Gaussian process, of axes or of lines, makes of trials. Pure.

    Args:
        space: ranges in which the trials lie.
        observations: of which those count that `compared_trials` names.
        direction: which values are better.
    """
    # SciPy takes a tenth of a second to import, which most plans do not need.
    from hpsearch.stages.gaussian_process import fit_process
    from hpsearch.stages.process_lines import can_be_linked, count_together, linked_process, scaled

    columns = ProcessColumns(space)
    columns_NC, told_N = compared_columns(columns, compared_trials(space, observations), direction)
    if len(told_N) < 2 or columns.num == 0 or not np.ptp(told_N):
        return Explained(0.0)
    values_N = scaled(told_N)
    linked = linked_process(columns_NC, values_N, len(columns.numbers)) if can_be_linked(columns, told_N) else None
    process = linked or fit_process(columns_NC, values_N)
    misfit = float((process.errors_left_out() ** 2).mean()) - process.noise
    together = tuple(count_together(linked, columns)) if linked else ()
    return Explained(len(told_N) * min(1.0, max(0.0, misfit)), together)


def compared_columns(
    columns: ProcessColumns, compared: Sequence[Observation], direction: Direction
) -> tuple[np.ndarray, np.ndarray]:
    """What a process learns of N trials of `compared_trials`: N x columns, and N values, of which more is better."""
    values = told_values([seen.value for seen in compared], direction)
    return columns.of([seen.params for seen in compared]), np.array(values) * goodness(1.0, direction)


def compared_trials(space: Mapping[str, Range], observations: Sequence[Observation]) -> list[Observation]:
    """Those with a value, or that exploded, of which each parameter is known: code may end before it asks for all."""
    return [
        seen
        for seen in observations
        if (seen.value is not None or seen.outcome == "exploded") and space.keys() <= seen.params.keys()
    ]
