"""Fewer trials and epochs where a stage would not fit its time."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpsearch.analysis.records import Fitted
from hpsearch.config import StageConfig
from hpsearch.errors import RefusedError
from hpsearch.search.stage_run import preview_stage, run_stage
from hpsearch.stages import time_budget
from hpsearch.stages.planning import plan_coarse
from hpsearch.stages.time_budget import fewer, fit_to_time, least_share, share_of_stage
from hpsearch.storage import find_study
from hpsearch.tuning import settling
from hpsearch.tuning.timing import Timing


@pytest.mark.parametrize(
    ("share", "trials", "epochs"),
    [
        (1.0, 100, 10),
        (0.5, 50, 10),  # trials first
        (0.2, 20, 10),
        (0.1, 20, 5),  # then epochs
        (0.04, 20, 2),
        (0.02, 10, 2),  # then both
        (0.001, 8, 2),  # never less
    ],
)
def test_trials_go_first_then_epochs(share, trials, epochs):
    assert fewer(StageConfig(trials=100, epochs=10), share) == (trials, epochs)


stages = st.builds(StageConfig, trials=st.integers(1, 500), epochs=st.integers(1, 50))


@given(stages, st.floats(0, 2))
def test_what_is_left_fits_and_is_never_more_than_was_asked_for(stage, share):
    trials, epochs = fewer(stage, share)
    assert 1 <= trials <= stage.trials
    assert 1 <= epochs <= stage.epochs
    least = least_share(stage) * stage.trials * stage.epochs
    assert trials * epochs <= max(share * stage.trials * stage.epochs, least) + 1e-6


@given(stages, st.floats(0, 1), st.floats(0, 1))
def test_more_time_is_never_less_of_a_search(stage, one, other):
    less, more = sorted((one, other))
    few, many = fewer(stage, less), fewer(stage, more)
    assert few[0] <= many[0]
    assert few[1] <= many[1]


def test_a_grid_keeps_its_points():
    assert fewer(StageConfig(trials=100, epochs=10, sampler="grid"), 0.35) == (100, 3)


def test_stages_share_the_time_and_the_last_one_takes_the_rest():
    assert [share_of_stage(number, 5) for number in range(5)] == [1 / 3, 1 / 2, 1 / 2, 1 / 2, 1.0]
    assert [share_of_stage(number, 2) for number in range(2)] == [1 / 2, 1.0]
    assert share_of_stage(0, 1) == 1.0


def test_a_plan_says_what_was_asked_for(tiny):
    plan = plan_coarse(tiny(coarse__trials=100, coarse__epochs=10))
    assert fit_to_time(plan, estimate=80.0, seconds=100.0) is plan
    fitted = fit_to_time(plan, estimate=85.0, seconds=50.0)
    assert (fitted.settings.trials, fitted.settings.epochs) == (50, 10)
    assert fitted.fitted == Fitted(100, 10, 50.0)
    assert fitted.as_dict()["fitted_from"] == {"trials": 100, "epochs": 10, "seconds": 50.0}


@pytest.fixture
def slow(monkeypatch):
    """A search seems to take so many seconds."""

    def set_to(seconds):
        def timed(plan, data, _run, **_options):
            work = settling.workload(plan, data)
            return Timing("fused", work.num_trials, seconds / work.epochs / work.num_batches, 0.0)

        monkeypatch.setattr(settling, "time_default", timed)

    return set_to


def run(db, plan, settings, seconds):
    until = time.monotonic() + seconds if seconds is not None else None
    return run_stage(db, plan, settings.run, checks=False, until=until)


def test_a_stage_that_was_fitted_goes_on_as_it_was_made(db, tiny, slow):
    settings = tiny(coarse__trials=24, coarse__epochs=2, run__workers=1)
    plan = plan_coarse(settings)
    slow(1000.0)
    first = run(db, plan, settings, 1000.0)
    assert len(first.trials) == 20  # of 24: 1000 s less the margin
    assert {len(trial.intermediate) for trial in first.trials if trial.state == "COMPLETE"} == {2}
    slow(10.0)
    for seconds in (5000.0, None, 1.0):  # whatever time there is now
        assert run(db, plan, settings, seconds).trials == first.trials
    other = tiny(coarse__trials=30, coarse__epochs=2, run__workers=1)
    with pytest.raises(RefusedError, match=r"coarse.trials: 20 -> 30"):
        run(db, plan_coarse(other), other, None)
    assert find_study(db, "coarse").attrs["hpsearch.fitted"]["trials"] == 24


def test_time_enough_changes_nothing(db, tiny, slow):
    settings = tiny(run__workers=1)
    slow(10.0)
    assert len(run(db, plan_coarse(settings), settings, 100.0).trials) == 12
    assert "hpsearch.fitted" not in find_study(db, "coarse").attrs


def test_a_preview_shows_what_would_be_run(tiny, slow):
    settings = tiny(coarse__trials=100, coarse__epochs=2, run__workers=1)
    slow(100.0)
    shown = preview_stage(plan_coarse(settings), settings.run, seconds=50.0)
    assert shown.num_trials == shown.plan.settings.trials == int(100 * 0.5 * time_budget.MARGIN)
    assert shown.seconds == pytest.approx(50.0 * time_budget.MARGIN, rel=0.1)
