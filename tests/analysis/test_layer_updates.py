"""What is said of the steps of each layer, case by case."""

import math

import pytest

from hpsearch.analysis.layer_updates import judge_updates, updates_finding, updates_line

NO_SCHEDULE = [0.1] * 4


@pytest.mark.parametrize(
    ("ratio", "rates", "usual", "verdict"),
    [
        (1e-3, NO_SCHEDULE, 1e-3, "ok"),
        (9e-3, NO_SCHEDULE, 9e-3, "ok"),
        (1.1e-2, NO_SCHEDULE, 1.1e-2, "long steps"),
        (1.1e-4, NO_SCHEDULE, 1.1e-4, "ok"),
        (9e-5, NO_SCHEDULE, 9e-5, "short steps"),
        (0.0, NO_SCHEDULE, 0.0, "does not move"),
        (math.nan, NO_SCHEDULE, math.nan, "not judged"),
        (math.inf, NO_SCHEDULE, math.inf, "not judged"),
        (1e-5, [0.1, 0.1, 1e-3], 1e-3, "ok"),  # at the end of a schedule
        (1e-6, [0.1, 0.1, 1e-5], 1e-2, "not judged"),  # what is left of it is rounding
        (1e-3, [], math.nan, "not judged"),
        (1e-3, [0.0], math.nan, "not judged"),
    ],
)
def test_each_layer_is_judged_at_the_middle_rate(ratio, rates, usual, verdict):
    [found] = judge_updates({"fc1": ratio}, rates)
    assert found.usual == pytest.approx(usual, nan_ok=True)
    assert (found.last, found.verdict) == (pytest.approx(ratio, nan_ok=True), verdict)


def finding(**ratios):
    return updates_finding(judge_updates(ratios, NO_SCHEDULE))


@pytest.mark.parametrize(
    ("ratios", "ok", "said"),
    [
        ({"fc1": 1e-3, "fc2": 2e-3}, True, ""),
        ({"fc1": 2e-2, "fc2": 3e-2}, False, "a lower train.lr"),
        ({"fc1": 1e-5, "fc2": 2e-5}, False, "a higher train.lr"),
        ({"fc1": 1e-5, "fc2": 2e-3}, False, "layers differ"),
        ({"fc1": 0.0, "fc2": 2e-3}, False, "no gradient"),
    ],
)
def test_what_to_do(ratios, ok, said):
    found = finding(**ratios)
    assert found.ok == ok
    assert said in found.advice
    assert bool(found.advice) != ok


def test_the_ends_are_named():
    assert finding(fc1=1e-3, fc2=2e-3, fc3=1.5e-3).text == "from 1.0e-03 in fc1 to 2.0e-03 in fc2, usual is 1e-3"
    assert finding(fc=1e-3).text == "1.0e-03 of fc, usual is 1e-3"
    assert finding() is None
    assert finding(fc=math.nan) is None


def test_of_many_layers_the_far_ones_are_named():
    few = judge_updates({"fc1": 1e-3, "fc2": 2e-2}, NO_SCHEDULE)
    assert updates_line(few) == "fc1 1.0e-03 ok · fc2 2.0e-02 long steps"
    many = judge_updates({f"c{i}": 1e-3 for i in range(20)} | {"fc": 2e-2}, NO_SCHEDULE)
    assert updates_line(many) == "20 of 21 layers ok · fc 2.0e-02 long steps"
    far = judge_updates({f"c{i}": 2e-2 for i in range(20)}, NO_SCHEDULE)
    assert updates_line(far).startswith("0 of 20 layers ok · c0 ")
    assert updates_line(far).endswith("c7 2.0e-02 long steps · 12 more")
