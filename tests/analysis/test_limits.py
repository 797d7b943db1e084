"""Limits that a study file gives its parameters: read, kept, and respected by what is proposed."""

import pytest

from hpsearch.analysis.limits import limits_of
from hpsearch.analysis.records import StageRecord
from hpsearch.config import FloatRange, dump_range, parse_range
from hpsearch.config.ranges import flag_text
from hpsearch.errors import ConfigError
from hpsearch.space import Observation, boundary_verdicts, narrow


@pytest.mark.parametrize(
    ("text", "limits"),
    [
        ("uniform(0,0.5) in [0,1]", (0, 1)),
        ("log(0.1,1) in [0.01, 1]", (0.01, 1)),
        ("int(1,8) in [1,none]", (1, None)),
        ("int_log(1,8) in [,64]", (None, 64)),
        ("uniform(0,0.5) in [0,1] if kind=a,b", (0, 1)),
        ("uniform(0,0.5)", (None, None)),
    ],
)
def test_limits_are_read_and_written_in_both_forms(text, limits):
    range_ = parse_range("x", text)
    assert range_.limits == limits
    assert parse_range("x", dump_range(range_)) == range_
    assert parse_range("x", flag_text(dump_range(range_))) == range_
    assert parse_range("x", {"uniform": [0, 0.5], "limits": [0, float("1")]}).limits == (0, 1)
    assert bool(range_.when) == (" if " in text)


@pytest.mark.parametrize(
    "text", ["uniform(0,2) in [0,1]", "uniform(0,1) in [0]", "uniform(0,1) in [,]", "uniform(0,1) in [a,b]",
             "choice(a,b) in [0,1]", "uniform(0,1) in [0,1,2]"],
)  # fmt: skip
def test_limits_that_cannot_be_are_refused_by_the_name(text):
    with pytest.raises(ConfigError, match=r"space\.x"):
        parse_range("x", text)


def test_a_study_file_and_our_own_bounds_are_both_kept():
    space = {"dropout": dump_range(parse_range("dropout", "uniform(0,0.5) in [0,0.7]")), "a": {"log": [1, 2]}}
    record = StageRecord(kind="coarse", config={"space": space | {"b": "of another version"}})
    assert limits_of(record, own=True)("dropout") == (0, 0.7)
    assert limits_of(record, own=True)("momentum") == (None, None)
    assert limits_of(record, own=False)("momentum")[1] < 1
    low, high = limits_of(
        StageRecord(config={"space": {"momentum": {"uniform": [0, 0.5], "limits": [-1, 2]}}}), own=False
    )("momentum")
    assert (low, high < 1) == (0, True)


@pytest.mark.parametrize("log", [False, True])
def test_no_range_moves_beyond_its_limit_and_a_best_there_is_at_it(log):
    ranges = {"keep": FloatRange(0.1, 1.0, log=log)}
    trials = [Observation(n, {"keep": 0.1 + 0.9 * n / 19}, n / 19, "complete") for n in range(20)]
    free = narrow(ranges, trials, "maximize")[0].new
    held = narrow(ranges, trials, "maximize", lambda _: (0.0, 1.0))[0].new
    assert held.high == 1.0
    assert free.high > 1.0 or not log
    [verdict] = boundary_verdicts(ranges, trials, "maximize", lambda _: (0.0, 1.0))
    assert (verdict.verdict, verdict.at_limit) == ("upper", True)
    assert "no higher value is allowed" in verdict.reason
    [verdict] = boundary_verdicts(ranges, trials, "maximize")
    assert (verdict.verdict, verdict.at_limit) == ("upper", False)
