"""`python -m benchmarks forecasts`: curves are replayed as a stage would have trained them."""

import math

import pytest

from benchmarks import forecasts
from hpsearch.config import StageConfig

GOOD = [0.9 - 0.6 * math.exp(-epoch / 2) for epoch in range(1, 21)]
POOR = [0.5 - 0.2 * math.exp(-epoch / 2) for epoch in range(1, 21)]
LATE = [*POOR[:10], *[0.95] * 10]
EXTRAPOLATION = StageConfig(pruner="extrapolation")


@pytest.mark.parametrize(("direction", "sign"), [("maximize", 1), ("minimize", -1)])
def test_epochs_values_and_wrong_stops_are_counted(direction, sign):
    values = [[sign * value for value in curve] for curve in (GOOD, POOR, LATE, GOOD[:3])]
    curves = forecasts.Curves("s", direction, values, 20)
    whole = forecasts.replay(curves, StageConfig(), width=2)
    assert (whole.epochs, whole.best, whole.stopped, whole.wrongly) == (20 * 3 + 4, 0.95, 0, 0)
    found = forecasts.replay(curves, EXTRAPOLATION, width=2)
    assert (found.best, found.stopped, found.wrongly) == (GOOD[-1], 2, 1)
    assert found.epochs < whole.epochs - 20


def test_a_table_is_printed(capsys):
    forecasts.main(["--seeds", "1", "--trials", "4"])
    out = capsys.readouterr().out
    assert "| none | " in out
    assert "| extrapolation 0.05 from 4 | " in out
