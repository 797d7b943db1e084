"""`python -m benchmarks surfaces`: what it prints, and that what a fine stage knows is worth something."""

import json
import math

import pytest

from benchmarks import surfaces


@pytest.mark.slow
def test_each_way_is_judged_by_the_value_without_noise(tmp_path, capsys):
    file = tmp_path / "found.json"
    given = ["--seeds", "2", "--coarse", "10", "--fine", "3", "--surfaces", "narrow,cliff", "--json", str(file)]
    surfaces.main(given)
    found = json.loads(file.read_text())["found"]
    assert set(found) == {"narrow", "cliff"}
    for ways in found.values():
        assert set(ways) == set(surfaces.WAYS)
        assert all(math.isfinite(value) and value <= 0.9 for values in ways.values() for value in values)
    assert "narrow     tpe " in capsys.readouterr().out


@pytest.mark.slow
def test_knowing_the_earlier_stage_finds_more_on_a_narrow_bowl():
    """By the median over twelve seeds; the optimum has 0.9."""
    narrow = surfaces.SURFACES["narrow"]
    knowing, forgetting = (
        sorted(surfaces.staged(narrow, seed, 40, 20, "tpe", forget=forget) for seed in range(12))
        for forget in (False, True)
    )
    assert knowing[6] > forgetting[6]
