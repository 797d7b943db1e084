import json

import pytest

from hpsearch.config import Choice, FloatRange, IntRange
from hpsearch.space import Observation, boundary_verdicts, narrow

FINE = {"lr": FloatRange(1e-4, 1e-3, log=True), "reg": FloatRange(1e-4, 1.0, log=True)}
FINE_TABLE = [  # PROCEDURE: the fine search; the regularization of the second is not given there
    Observation(0, {"lr": 9.471549e-04, "reg": 1.433895e-03}, 0.531, "complete"),
    Observation(1, {"lr": 5.8e-4, "reg": 1e-2}, 0.530, "complete"),
]


def observe(*pairs):
    return [Observation(i, {"x": x}, value, "complete") for i, (x, value) in enumerate(pairs)]


def test_fine_reference_table():
    """The lectures' "worrying, why?": 9.5e-4 sits on the upper boundary of [1e-4, 1e-3] in log space."""
    lr, reg = boundary_verdicts(FINE, FINE_TABLE, "maximize")
    assert (lr.param, lr.best, lr.low, lr.high, lr.log) == ("lr", 9.471549e-04, 1e-4, 1e-3, True)
    assert lr.position == pytest.approx(0.976, abs=5e-4)
    assert lr.verdict == "upper"
    assert lr.proposed.high == pytest.approx(10**-2.5)
    assert lr.proposed.low <= 5.8e-4
    assert lr.reason.endswith("the best, 9.5e-04, is on the upper boundary: the range moves past it")
    assert reg.verdict == "inside"
    assert FINE["reg"].low <= reg.proposed.low < reg.proposed.high <= FINE["reg"].high


@pytest.mark.parametrize(
    ("range_", "best", "verdict", "position"),
    [
        (FloatRange(0.0, 1.0), 0.0, "lower", 0.0),
        (FloatRange(0.0, 1.0), 0.05, "lower", 0.05),
        (FloatRange(0.0, 1.0), 0.051, "inside", 0.051),
        (FloatRange(0.0, 1.0), 0.949, "inside", 0.949),
        (FloatRange(0.0, 1.0), 0.95, "upper", 0.95),
        (FloatRange(0.0, 1.0), 1.0, "upper", 1.0),
        (FloatRange(0.0, 1.0), 1.5, "upper", 1.0),
        (FloatRange(1e-4, 1.0, log=True), 1e-2, "inside", 0.5),
        (FloatRange(1e-4, 1.0), 1e-2, "lower", 0.0099 / 0.9999),
        (IntRange(1, 9), 9, "upper", 1.0),
        (IntRange(0, 10, step=3), 9, "upper", 1.0),
        (FloatRange(0.1, 0.1), 0.1, "single", 0.5),
        (Choice(("relu", "tanh")), "tanh", "inside", None),
        (Choice(("relu",)), "relu", "single", None),
    ],
)
def test_verdicts(range_, best, verdict, position):
    [found] = boundary_verdicts({"x": range_}, observe((best, 1.0)), "maximize")
    assert (found.verdict, found.best) == (verdict, best)
    assert found.position == (position if position is None else pytest.approx(position))


def test_proposed_is_what_narrow_gives():
    narrowings = narrow(FINE, FINE_TABLE, "minimize", lambda name: (2e-4, None))
    verdicts = boundary_verdicts(FINE, FINE_TABLE, "minimize", lambda name: (2e-4, None))
    assert [(v.param, v.proposed, v.reason) for v in verdicts] == [(n.param, n.new, n.reason) for n in narrowings]
    assert verdicts[0].best == 5.8e-4


@pytest.mark.parametrize("outcome", ["pruned", "exploded"])
def test_no_verdict_without_a_finished_trial(outcome):
    observations = [
        Observation(0, {"lr": 1e-3, "reg": 1.0}, 0.9, outcome),
        Observation(1, {}, float("nan"), "complete"),
    ]
    assert boundary_verdicts(FINE, observations, "maximize") == []


def test_parameter_that_no_finished_trial_has_is_left_out():
    verdicts = boundary_verdicts({**FINE, "momentum": FloatRange(0.0, 1.0)}, FINE_TABLE, "maximize")
    assert [verdict.param for verdict in verdicts] == ["lr", "reg"]


def test_as_dict_is_plain_json():
    ranges = {"lr": FloatRange(0.0, 1.0), "hidden": Choice(((50,), (50, 20)))}
    observations = [Observation(0, {"lr": 0.5, "hidden": (50, 20)}, 1.0, "complete")]
    lr, hidden = (verdict.as_dict() for verdict in boundary_verdicts(ranges, observations, "maximize"))
    assert lr == {
        "param": "lr", "best": 0.5, "low": 0.0, "high": 1.0, "log": False, "position": 0.5, "verdict": "inside",
        "at_limit": False, "proposed": [0.0, 1.0], "reason": "the only finished trial lies at 0.5",
    }  # fmt: skip
    assert hidden == {
        "param": "hidden", "best": [50, 20], "low": None, "high": None, "log": None, "position": None,
        "verdict": "inside", "at_limit": False, "proposed": [[50, 20]],
        "reason": "the only finished trial has [50, 20]; dropped: [50]",
    }  # fmt: skip
    assert json.loads(json.dumps(hidden)) == hidden
