"""Whether trials are a reason to look for lines across the axes, and that none are seen where few of them differ."""

import numpy as np
import pytest

from hpsearch.config import FloatRange
from hpsearch.stages.process_columns import ProcessColumns
from hpsearch.stages.process_lines import can_be_linked, scaled


def columns(numbers):
    return ProcessColumns({f"x{at}": FloatRange(0.0, 1.0) for at in range(numbers)})


@pytest.mark.parametrize("apart", [1, 2, 3])
def test_a_line_that_few_trials_lie_on_can_always_be_laid(apart):
    """Three trials that are better than all others lie in one plane of four numbers, whatever they say."""
    values = np.zeros(50)
    values[:apart] = 1.0
    assert not can_be_linked(columns(4), values)
    values[:12] = 1.0
    assert can_be_linked(columns(4), values)


def test_values_that_spread_are_worth_a_look_and_those_all_alike_are_not():
    values = np.random.default_rng(0).normal(size=40)
    assert can_be_linked(columns(4), values)
    assert can_be_linked(columns(4), 1e-320 * values)
    assert not can_be_linked(columns(4), np.ones(40))
    assert not can_be_linked(columns(4), values[:6])
    assert not can_be_linked(columns(1), values)
    assert not can_be_linked(columns(9), values)
    assert not can_be_linked(columns(4), np.random.default_rng(0).normal(size=201))


@pytest.mark.parametrize("values", [[3.0, 1.0, 7.0], [1e-320, 0.0], [1e100, -1e100, 0.0]])
def test_scaled_values_have_a_mean_of_0_and_a_variance_of_1(values):
    found = scaled(np.array(values))
    assert (found.mean(), found.std()) == pytest.approx((0.0, 1.0))
