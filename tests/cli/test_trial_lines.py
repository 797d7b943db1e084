"""The line of a finished trial where there is no terminal."""

from dataclasses import replace

import pytest

from hpsearch.cli.progress import trial_line
from hpsearch.config.metric import known_metric
from hpsearch.stages.listener import TrialFinished


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.41, "0.410000"),
        (0.0, "0.000000"),
        (-1953.5, "-1953.500000"),
        (-2.5e-9, "-2.500000e-09"),
        (7.25e12, "7.250000e+12"),
    ],
)
def test_a_value_of_any_size_keeps_its_digits(value, shown):
    event = TrialFinished(3, "COMPLETE", value, {"lr": 0.1}, None, 1, 4, 10, known_metric("value", "maximize"))
    assert trial_line(event) == f"value: {shown}, lr: 1.000000e-01, (4 / 10)"


def test_what_the_code_ends_itself_is_said_once():
    event = TrialFinished(3, "PRUNED", None, {"lr": 0.1}, None, 1, 4, 10, known_metric("value", "maximize"))
    line = trial_line(replace(event, reason="pruned by the objective"))
    assert line.startswith("pruned by the objective in epoch 1, lr")
    assert trial_line(replace(event, reason="median")).startswith("pruned by median in epoch 1, lr")
