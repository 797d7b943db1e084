"""What is said of a net's inside, case by case."""

import pytest

from hpsearch.analysis.diagnosis import Diagnosis, with_dead_units
from hpsearch.analysis.inside import LayerShares, dead_note, dead_units, look_inside

FINE = {"fc1": 1e-2, "fc2": 2e-2}


@pytest.mark.parametrize(
    ("shares", "ok", "text"),
    [
        ([(100, 0)], True, "none of 100"),
        ([(100, 39)], True, "39 of 100, at 0 for every image"),
        ([(100, 40)], False, "40 of 100, at 0 for every image"),
        ([(1000, 10), (20, 9)], False, "19 of 1,020 (9 of 20 in act1), at 0 for every image"),
        ([(100, None), (50, 25)], False, "25 of 50, at 0 for every image"),
    ],
)
def test_dead_units(shares, ok, text):
    layers = [LayerShares(f"act{i}", num, dead) for i, (num, dead) in enumerate(shares)]
    found = dead_units(layers)
    assert (found.ok, found.text) == (ok, text)
    assert ("lower train.lr" in found.advice) == (not ok)


def test_units_that_cannot_die_are_not_spoken_of():
    assert dead_units([LayerShares("act", 10, None)]) is None
    assert dead_units([]) is None


def test_the_note_of_a_trial_needs_dead_units():
    assert dead_note({}) is None
    assert dead_note({"fc_act1": [0.2, 0.99]}) is None
    assert dead_note({"fc_act1": [0.2, 0.9, 1.0]}) == "dead units: 1 of 3, at 0 for every image"
    assert dead_note({"fc_act1": [1.0, 1.0, 0.1]}).startswith(
        "dead units: 2 of 3, at 0 for every image: lower train.lr"
    )


def verdicts(*layers, **more):
    return {each.what: each.ok for each in look_inside(layers, **more)}


def test_each_look_has_its_verdict():
    healthy = LayerShares("act", 100, 0, 5, 0.01)
    tanh = LayerShares("act", 100, None, 0, 0.0, at_ends=0.49)
    fine = {"units that ignore the image": True, "units that say the same": True}
    assert verdicts(healthy) == {"dead units": True, **fine}
    assert verdicts(tanh) == {"saturated": True, **fine}
    assert verdicts() == {}
    assert not verdicts(LayerShares("act", 100, None, 0, 0.0, at_ends=0.5))["saturated"]
    assert not verdicts(healthy, LayerShares("b", 10, 0, 2))["units that ignore the image"]
    assert not verdicts(healthy, LayerShares("b", 10, 0, 0, 0.1))["units that say the same"]
    assert verdicts(filters_alike=0.09) == {"first filters": True}
    assert verdicts(filters_alike=0.1) == {"first filters": False}


@pytest.mark.parametrize(
    ("sizes", "ok", "text"),
    [
        (FINE, True, "from 1.0e-02 in fc1 to 2.0e-02 in fc2, by weight"),
        ({"fc1": 1e-6, "fc2": 2e-2}, False, "from 1.0e-06 in fc1 to 2.0e-02 in fc2, by weight"),
        ({"fc1": 0.0, "fc2": 0.0}, False, "0 in every layer"),
        ({"fc1": float("nan"), "fc2": 1.0}, False, "not finite in fc1"),
    ],
)
def test_gradients(sizes, ok, text):
    start, end = look_inside([], start=sizes, end=FINE)
    assert (start.what, start.ok, start.text) == ("gradients at the start", ok, text)
    assert bool(start.advice) != ok
    assert end.ok
    assert look_inside([], start=None, end={"fc": 1.0}) == []  # one layer has none to be compared with


def test_a_healthy_trial_with_dead_units_has_one_verdict():
    healthy = Diagnosis("healthy", "nothing to change in this trial", ("a note",))
    assert with_dead_units(healthy, {"fc_act1": [0.2, 0.9]}) is healthy
    few = with_dead_units(healthy, {"fc_act1": [0.2, 0.9, 1.0]})
    assert (few.said, few.verdict) == ("healthy but for 1 dead unit", "healthy")
    assert few.advice == "nothing to change in this trial: nets learn well with so few dead units"
    assert few.notes == ("a note", "dead units: 1 of 3, at 0 for every image")
    assert few.as_dict()["but_for"] == "1 dead unit"
    many = with_dead_units(healthy, {"fc_act1": [0.2, 1.0, 1.0]})
    assert many.said == "healthy but for 2 dead units"
    assert many.advice.startswith("lower train.lr")
    other = with_dead_units(Diagnosis("overfitting", "more images", ()), {"fc_act1": [0.2, 1.0, 1.0]})
    assert (other.said, other.advice) == ("overfitting", "more images")
    assert other.notes[0].startswith("dead units: 2 of 3, at 0 for every image: lower")
