"""Hyperparameters as columns of a process, and back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpsearch.config import Choice, FloatRange, IntRange
from hpsearch.space.scale import from_unit
from hpsearch.stages.process_columns import ProcessColumns

SPACE = {
    "optimizer": Choice(("sgd", "adam", "rmsprop")),
    "lr": FloatRange(1e-5, 1.0, log=True),
    "depth": IntRange(1, 9, step=2),
    "units": IntRange(8, 1024, log=True),
    "fixed": FloatRange(0.5, 0.5),
    "only": Choice(("relu",)),
    "dropout": FloatRange(0.0, 0.5, step=0.1),
}


def some(units, index):
    numbers = {name: range_ for name, range_ in SPACE.items() if not isinstance(range_, Choice)}
    params = {name: from_unit(range_, unit) for (name, range_), unit in zip(numbers.items(), units, strict=True)}
    return {**params, "optimizer": SPACE["optimizer"].values[index], "only": "relu"}


@given(units=st.lists(st.floats(0, 1), min_size=5, max_size=5), index=st.integers(0, 2))
def test_there_and_back(units, index):
    columns = ProcessColumns(SPACE)
    params = some(units, index)
    rows = columns.of([params])
    assert rows.shape == (1, columns.num) == (1, 4 + 3)
    assert columns.params(rows[0]) == pytest.approx(params)
    assert list(columns.params(rows[0])) == list(SPACE)
    np.testing.assert_allclose(columns.snap(rows), rows, atol=1e-12)


@given(row=st.lists(st.floats(0, 1), min_size=7, max_size=7))
def test_any_point_becomes_one_that_there_is(row):
    columns = ProcessColumns(SPACE)
    snapped = columns.snap(np.array([row]))
    np.testing.assert_allclose(columns.of([columns.params(snapped[0])]), snapped, atol=1e-9)
    assert columns.params(np.array(row)) == pytest.approx(columns.params(snapped[0]))


def test_numbers_are_those_of_python():
    """As a function of the user's gets them: one of numpy's is shown, and written into files, in other ways."""
    params = ProcessColumns(SPACE).params(np.full(7, 0.4))
    kinds = {"lr": float, "depth": int, "units": int, "fixed": float, "dropout": float}
    assert {name: type(params[name]) for name in kinds} == kinds
    straight = ProcessColumns({"momentum": FloatRange(0.0, 1.0)}).params(np.array([0.4]))
    assert type(straight["momentum"]) is float


def test_values_of_a_choice_are_one_apart():
    rows = ProcessColumns({"optimizer": SPACE["optimizer"]}).of([{"optimizer": value} for value in ("sgd", "adam")])
    assert np.linalg.norm(rows[0] - rows[1]) == pytest.approx(1.0)


def test_no_trials_have_columns_all_the_same():
    assert ProcessColumns(SPACE).of([]).shape == (0, 7)
