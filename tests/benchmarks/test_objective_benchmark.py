import json

import pytest

from benchmarks import objective


@pytest.mark.slow
def test_workers_call_a_function_exactly_as_often_as_asked_beside_optuna(capsys):
    objective.main(["--workers", "2", "--trials", "80", "--rounds", "1", "--only", "sqlite"])  # asserts the counts
    found = json.loads(capsys.readouterr().out)
    assert found["trials"] == 80
    rates = found["sqlite"]["trials_per_second"]
    assert rates.keys() == {"hpsearch", "optuna"}
    assert all(value > 0 for value in rates.values())
