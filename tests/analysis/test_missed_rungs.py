"""Rungs that lie where the code of an objective reports nothing."""

import pytest

from hpsearch.analysis import attributes
from hpsearch.analysis.missed_rungs import missed_rungs
from hpsearch.analysis.records import stage_record
from hpsearch.storage import StudyRow


def record(takes=(), objective=("function",), **stage):
    config = {"objective": dict.fromkeys(objective, "mine:f") or None, "fine": {"halving": "stop", **stage}}
    attrs = {attributes.STAGE: "fine", attributes.CONFIG: config, attributes.TAKES: list(takes)}
    return stage_record(StudyRow(1, "fine", ("maximize",), attrs))


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ([[100, 200], [100, 200, 300]], "at steps 100, 200, 300, and at none from 2 to 8"),
        ([range(0, 1000, 100)], "Set fine.epochs = 900, the last step, and fine.min_epochs = 100, the first"),
        ([[1]], "at step 1, and at none from 2 to 8: fine.halving ends no trial. Report more than 1 step, or set"),
        ([[100], []], "Report more than 1 step, or set fine.halving = 'none'"),
    ],
)
def test_what_is_reported_is_said_with_the_keys_to_change(steps, said):
    assert said in missed_rungs(record(epochs=9, min_epochs=2), steps)


def test_code_that_is_told_its_epochs_is_to_report_them():
    assert missed_rungs(record(["epochs"], epochs=9), [[100, 200]]).endswith(
        "reports at epochs 100, 200, and at none from 1 to 8: fine.halving ends no trial. "
        "Report epochs from 1 to fine.epochs, which the code is told: 9"
    )


@pytest.mark.parametrize(
    ("stage", "steps"),
    [
        (record(epochs=9), [[100, 200], [8, 100]]),  # one was asked
        (record(epochs=9), [[], []]),  # which is said elsewhere
        (record(epochs=9), []),
        (record(epochs=9, halving="none"), [[100]]),
        (record(epochs=9, objective=()), [[100]]),
    ],
)
def test_nothing_is_said_where_trials_are_asked_or_there_are_no_rungs(stage, steps):
    assert missed_rungs(stage, steps) is None
