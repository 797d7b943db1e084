"""Whether the trials of a stage itself show what counts together, and of which trials that is not asked."""

import math
import random
from dataclasses import replace

import pytest

from hpsearch.analysis.study_trials import StudyTrials
from hpsearch.analysis.together import Together
from hpsearch.config import Choice, FloatRange
from hpsearch.space import Observation
from hpsearch.stages import process_lines
from hpsearch.stages.seen_together import seen_together
from hpsearch.storage import StudyRow

RANGES = {name: FloatRange(0.0, 1.0) for name in ("wd", "lr", "batch")}


def evidence(num=40, value=lambda wd, lr, batch: math.exp(-20 * (lr - batch) ** 2) - (wd - 0.5) ** 2, ranges=RANGES):
    rng, seen = random.Random(0), []
    for number in range(num):
        point = {name: rng.random() for name in RANGES}
        seen.append(Observation(number, point, value(**point), "complete"))
    return StudyTrials(StudyRow(1, "coarse", ("maximize",)), [], "maximize", dict(ranges), seen)


def with_last(found, **changes):
    *most, last = found.observations
    return replace(found, observations=[*most, replace(last, **changes)])


def test_a_ridge_is_seen_by_the_trials_themselves_and_a_bowl_is_none():
    assert seen_together(evidence()) == Together(("lr", "batch"), "coarse")
    bowl = evidence(value=lambda wd, lr, batch: -((lr - 0.5) ** 2) - (batch - 0.4) ** 2 - wd)
    assert seen_together(bowl) is None


def test_a_trial_that_exploded_is_told_as_bad_as_a_sampler_is_told_of_it():
    assert seen_together(with_last(evidence(), value=None, outcome="exploded")) is not None


@pytest.mark.parametrize(
    "changes",
    [
        {"halved": True},
        {"outcome": "pruned"},
        {"params": {"lr": 0.5, "batch": 0.5}},
    ],
    ids=str,
)
def test_values_of_fewer_epochs_and_other_hyperparameters_say_nothing(changes):
    assert seen_together(with_last(evidence(), **changes)) is None


def test_nothing_is_fitted_where_it_would_take_long_or_where_there_are_no_two_numbers(monkeypatch):
    monkeypatch.setattr(process_lines, "linked_process", None)  # called, it would fail
    assert seen_together(evidence(num=201)) is None
    assert seen_together(evidence(num=0)) is None
    choices = {"wd": RANGES["wd"], "lr": Choice((0.1, 0.2))}
    few = evidence(value=lambda wd, lr, batch: wd, ranges=choices)
    seen = [replace(each, params={"wd": each.params["wd"], "lr": 0.1}) for each in few.observations]
    assert seen_together(replace(few, observations=seen)) is None


@pytest.mark.parametrize("seed", range(3))
def test_the_two_that_share_most_come_first(seed):
    """Of two ridges; the second one is the steeper."""
    ranges, rng = {name: FloatRange(0.0, 1.0) for name in "abcd"}, random.Random(seed)
    seen = []
    for number in range(60):
        a, b, c, d = point = [rng.random() for _ in ranges]
        value = math.exp(-3 * (a + 0.5 * c - 0.7) ** 2 - 20 * (b - d) ** 2)
        seen.append(Observation(number, dict(zip(ranges, point, strict=True)), value, "complete"))
    found = seen_together(StudyTrials(StudyRow(1, "coarse", ("maximize",)), [], "maximize", ranges, seen))
    assert found.params[:2] == ("b", "d")
