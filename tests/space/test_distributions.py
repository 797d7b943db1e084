import warnings

import optuna
import pytest
from optuna import distributions

from hpsearch.config import Choice, FloatRange, IntRange
from hpsearch.errors import ConfigError, StorageError
from hpsearch.space import (
    from_internal,
    from_optuna,
    from_optuna_value,
    range_from_json,
    range_to_json,
    to_internal,
    to_optuna,
    to_optuna_value,
)

PAIRS = [
    (FloatRange(1e-5, 1.0, log=True), distributions.FloatDistribution(1e-5, 1.0, log=True)),
    (FloatRange(0.0, 0.5), distributions.FloatDistribution(0, 0.5)),
    (FloatRange(0, 1), distributions.FloatDistribution(0, 1)),
    (FloatRange(0.0, 0.9, step=0.3), distributions.FloatDistribution(0.0, 0.9, step=0.3)),
    (FloatRange(0.0, 4.0, step=2), distributions.FloatDistribution(0.0, 4.0, step=2)),
    (IntRange(1, 8), distributions.IntDistribution(1, 8)),
    (IntRange(16, 512, log=True), distributions.IntDistribution(16, 512, log=True)),
    (IntRange(0, 9, step=3), distributions.IntDistribution(0, 9, step=3)),
    (Choice(("relu", "tanh")), distributions.CategoricalDistribution(("relu", "tanh"))),
    (Choice((None, True, 1.5, 3)), distributions.CategoricalDistribution((None, True, 1.5, 3))),
    (Choice(((50, 20), (50,), ())), distributions.CategoricalDistribution(("[50, 20]", "[50]", "[]"))),
]


@pytest.mark.parametrize(("range_", "distribution"), PAIRS)
def test_same_as_optuna(range_, distribution):
    assert range_to_json(range_) == distributions.distribution_to_json(distribution)
    assert to_optuna(range_) == distribution
    assert from_optuna(distribution) == range_
    assert range_from_json(range_to_json(range_)) == range_


@pytest.mark.parametrize("range_", [IntRange(0, 10, step=3), FloatRange(0.0, 1.0, step=0.3)])
def test_high_end_is_put_on_the_grid_as_optuna_does(range_):
    kind = distributions.IntDistribution if isinstance(range_, IntRange) else distributions.FloatDistribution
    with pytest.warns(UserWarning, match="not divisible"):
        adjusted = kind(range_.low, range_.high, step=range_.step)
    assert range_to_json(range_) == distributions.distribution_to_json(adjusted)
    assert to_optuna(range_) == adjusted  # and without the warning


def test_distributions_of_older_studies():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        legacy = {
            distributions.UniformDistribution(0.0, 2.0): FloatRange(0.0, 2.0),
            distributions.LogUniformDistribution(1e-3, 1.0): FloatRange(1e-3, 1.0, log=True),
            distributions.DiscreteUniformDistribution(0.0, 1.0, 0.25): FloatRange(0.0, 1.0, step=0.25),
            distributions.IntUniformDistribution(1, 9, 2): IntRange(1, 9, step=2),
            distributions.IntLogUniformDistribution(1, 64): IntRange(1, 64, log=True),
        }
    for distribution, range_ in legacy.items():
        assert range_from_json(distributions.distribution_to_json(distribution)) == range_
        assert from_optuna(distribution) == range_


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "[]",
        '{"name": "Gaussian", "attributes": {}}',
        '{"name": "FloatDistribution", "attributes": {"low": 0}}',
        '{"name": "UniformDistribution", "attributes": {"low": 2, "high": 1}}',
    ],
)
def test_what_cannot_be_read_is_named(text):
    with pytest.raises(StorageError) as error:
        range_from_json(text)
    assert text in str(error.value)


@pytest.mark.parametrize(("range_", "distribution"), PAIRS)
def test_internal_numbers_are_those_of_optuna(range_, distribution):
    values = range_.values if isinstance(range_, Choice) else (range_.low, range_.high)
    for value in values:
        internal = to_internal(range_, value)
        assert type(internal) is float
        assert internal == distribution.to_internal_repr(to_optuna_value(value))
        back = from_internal(range_, internal)
        assert (back, type(back)) == (value, type(value) if not isinstance(range_, FloatRange) else float)
        assert from_optuna_value(range_, distribution.to_external_repr(internal)) == value


def test_a_value_outside_the_choice():
    with pytest.raises(ConfigError, match=r"\[70\] is not one of the choices.\nAllowed: \{\[50\], \[50, 20\]\}"):
        to_internal(Choice(((50,), (50, 20))), (70,))


def test_text_that_only_starts_like_a_list():
    choice = from_optuna(distributions.CategoricalDistribution(("[a", "[1, [2]]")))
    assert choice == Choice(("[a", (1, (2,))))


def test_a_study_keeps_the_values():
    """By way of Optuna's own suggest and enqueue."""
    space = {"lr": FloatRange(1e-5, 1.0, log=True), "convs": IntRange(1, 3), "hidden": Choice(((50,), (50, 20)))}
    values = {"lr": 1e-3, "convs": 2, "hidden": (50, 20)}
    study = optuna.create_study()
    study.enqueue_trial({name: to_optuna_value(value) for name, value in values.items()})
    trial = study.ask({name: to_optuna(range_) for name, range_ in space.items()})
    assert {name: from_optuna_value(space[name], value) for name, value in trial.params.items()} == values
