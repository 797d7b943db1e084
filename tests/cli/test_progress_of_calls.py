"""The bar over a stage whose best trial is called again: its best is the mean of the calls, as everywhere."""

import pytest

from hpsearch.analysis.called_again import Called, best_value_of
from hpsearch.cli.progress import TrialBar
from hpsearch.config.metric import Metric
from hpsearch.stages.listener import StageStarted, TrialFinished

METRIC = Metric("score", "maximize", is_own=True)


def shown(calls, *ends):
    """What the bar says after trials (value, the number of the one that it calls again, state)."""
    bar = TrialBar()
    best = best_value_of(calls, "maximize")
    bar.stage_started(StageStarted("fine", 20, 10, 0, 0, None, best, "", 1, "cpu", metric=METRIC, calls=calls))
    for number, (value, again, state) in enumerate(ends, 10):
        reason = "exploded" if state == "PRUNED" else None
        bar.trial_finished(
            TrialFinished(number, state, value, {}, reason, 0, number + 1, 20, metric=METRIC, again=again)
        )
    (task,) = bar.progress.tasks
    return task.fields["standing"].partition("  ")[2]


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        ([], "best score 0.9000"),
        ([(0.8, None, "COMPLETE")], "best score 0.9000"),
        ([(0.8, 3, "COMPLETE")], "best score 0.8500"),  # the mean, though it is less than what was seen first
        ([(0.8, 3, "COMPLETE"), (0.7, 4, "COMPLETE")], "best score 0.8500"),
        ([(0.8, 3, "COMPLETE"), (0.95, 4, "COMPLETE")], "best score 0.9150"),
        ([(None, 3, "PRUNED")], "best score 0.8800  1 exploded"),
        ([(None, 3, "FAIL")], "best score 0.9000"),
        ([(None, 3, "FAIL"), (None, 3, "FAIL")], "best score 0.8800"),
    ],
)
def test_the_best_is_the_mean_of_its_calls(ends, said):
    assert shown((Called(3, 0.9), Called(4, 0.88)), *ends) == said


def test_calls_of_before_count():
    assert shown((Called(3, 0.9, {9: 0.7}), Called(4, 0.75)), (0.9, 3, "COMPLETE")) == "best score 0.8333"
