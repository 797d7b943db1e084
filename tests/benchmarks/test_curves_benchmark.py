"""`python -m benchmarks curves`: curves as convnets have them, and what is printed of searches over them."""

import json
import math

from benchmarks import curves


def best_end(surface, optimizer, epochs):
    space = [(10 ** (i / 4), 10 ** (j / 2)) for i in range(-20, 1) for j in range(-12, -1)]
    found = [surface.curve({"lr": lr, "reg": reg, "optimizer": optimizer}) for lr, reg in space]
    return max(curve[epochs - 1] for curve in found if curve is not None)


def test_the_best_optimizer_in_the_end_is_behind_after_few_epochs():
    surface = curves.SURFACES["slow is best"]
    few, many = ({name: best_end(surface, name, at) for name in surface.optimizers} for at in (curves.FEW, curves.MANY))
    assert max(few, key=few.get) == "adam"
    assert max(many, key=many.get) == "momentum"


def test_too_high_a_rate_explodes_and_too_little_regularization_overfits():
    surface = curves.SURFACES["overfitting"]
    assert surface.curve({"lr": 0.9, "reg": 1e-3}) is None
    curve = surface.curve({"lr": 0.1, "reg": 1e-6})
    assert curve.argmax() < curves.MANY - 1


def test_each_way_is_judged_without_luck_by_a_trial_of_full_length(tmp_path, capsys):
    file = tmp_path / "found.json"
    given = ["--seeds", "2", "--coarse", "10", "--fine", "2", "--surfaces", "batches,numbers", "--json", str(file)]
    curves.main(given)
    found = json.loads(file.read_text())["found"]
    assert set(found) == {"batches", "numbers"}
    for ways in found.values():
        assert set(ways) == set(curves.WAYS)
        assert all(math.isfinite(value) and value <= 0.8 for values in ways.values() for value in values)
    assert found["batches"]["by rule"] == found["batches"]["forgetting"]  # its choices learn at different speeds
    assert found["numbers"]["by rule"] == found["numbers"]["told all"]
    assert "numbers       by rule " in capsys.readouterr().out
