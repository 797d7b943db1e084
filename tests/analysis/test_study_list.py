"""The list of studies: its best is that which each study in full has."""

import pytest
import sqlalchemy as sa

from hpsearch.analysis import attributes
from hpsearch.analysis.repeats import Repeats
from hpsearch.analysis.study_list import listed_studies
from hpsearch.analysis.study_trials import read_study
from hpsearch.analysis.summary import stage_summary
from hpsearch.config import FloatRange
from hpsearch.search.rerun import best_gap
from hpsearch.storage import STRUCTURE, NewTrial, Outcome, Queue, create_stage, write_attrs

RANGES = {"x": FloatRange(0.0, 1.0)}
OWN = {attributes.STAGE: "fine", attributes.CONFIG: {"objective": {"metric": "score"}}}


def finished(db, name, trials, attrs=OWN, direction="maximize"):
    """A study of trials (state, value, the number of the one that it calls again)."""
    new = [
        NewTrial({"x": 0.1 * number}, {STRUCTURE: "own", **({attributes.AGAIN: of} if of is not None else {})})
        for number, (_, _, of) in enumerate(trials)
    ]
    study = create_stage(db, name, direction, attrs, RANGES, new)
    queue = Queue(db, study, "worker", lease_seconds=600.0)
    leases = {lease.number: lease for lease in queue.take(len(trials))}
    queue.finish([Outcome(leases[n], state, value) for n, (state, value, _) in enumerate(trials) if state != "RUNNING"])
    return study


def first_values(*values):
    return [("COMPLETE", value, None) for value in values]


def best(db):
    return {each.study: each.best for each in listed_studies(db)}


def test_a_stage_that_called_its_best_again_has_the_mean_by_which_that_won(db):
    trials = first_values(0.99, 0.9, 0.95)
    finished(db, "lucky", [*trials, ("COMPLETE", 0.7, 0), ("COMPLETE", 0.93, 2), ("RUNNING", None, 0)])
    finished(db, "failed", [*trials, ("FAIL", None, 0)])
    finished(db, "twice", [*trials, ("FAIL", None, 0), ("FAIL", None, 0)])
    finished(db, "least", [*trials, ("COMPLETE", 0.99, 1)], direction="minimize")
    finished(db, "asked", [*trials, ("RUNNING", None, 0)])
    finished(db, "once", trials)
    found = best(db)
    means = {"lucky": 0.94, "least": (0.9 + 0.99) / 2}
    assert found == {**means, "failed": 0.99, "twice": 0.95, "asked": 0.99, "once": 0.99}
    for name in ("lucky", "least"):
        assert found[name] == read_study(db, name).repeated[0].mean
    for name in ("failed", "twice", "asked", "once"):
        assert found[name] == read_study(db, name).best.value


def test_a_net_that_was_trained_again_has_the_value_of_its_own_training(db):
    study = finished(db, "nets", first_values(0.99, 0.9, 0.95), {attributes.STAGE: "fine", attributes.CONFIG: {}})
    again = Repeats(2, {0: 0.99, 2: 0.95}, {0: {1: 0.7, 2: 0.8}, 2: {1: 0.9, 2: 0.91}})
    write_attrs(db, study, {attributes.REPEATS: again.as_dict()})
    assert best(db) == {"nets": 0.95}
    assert read_study(db, "nets").best.value == 0.95


def test_what_others_keep_under_that_name_is_no_call(db):
    finished(db, "theirs", [*first_values(0.9), ("COMPLETE", 0.95, "yes")])
    finished(db, "foreign", [*first_values(0.9), ("COMPLETE", 0.95, 0)], attrs={})
    assert best(db) == {"theirs": 0.95, "foreign": 0.95}


def test_the_number_of_queries_grows_with_nothing(db):
    finished(db, "nets", first_values(0.9), attrs={})
    seen = []
    sa.event.listen(db._engine, "before_cursor_execute", lambda *args: seen.append(args[2]))
    listed_studies(db)
    without = len(seen)
    finished(db, "one", [*first_values(0.9), ("COMPLETE", 0.8, 0)])
    seen.clear()
    listed_studies(db)
    with_one = len(seen)
    for name in "abcd":
        finished(db, name, [*first_values(*[0.9] * 20), *[("COMPLETE", 0.8, of) for of in range(20)]])
    seen.clear()
    listed_studies(db)
    assert len(seen) == with_one <= without + 3  # two, and a transaction


def test_where_the_one_trial_that_was_called_gave_nothing_again_another_is_the_best(db):
    trials = [*first_values(0.99, 0.95), ("FAIL", None, 0), ("FAIL", None, 0)]
    finished(db, "others", trials)
    finished(db, "alone", [trials[0], ("FAIL", None, 0), ("FAIL", None, 0)])
    assert read_study(db, "others").best.number == 1
    assert read_study(db, "alone").best.number == 0  # there is no other
    assert best(db) == {"others": 0.95, "alone": 0.99}


def test_one_call_that_is_better_than_the_mean_is_named_and_the_place_is_that_of_the_best(db):
    finished(db, "late", [*first_values(0.9, 0.5), ("COMPLETE", 0.8, 0), ("COMPLETE", 0.95, None)])
    finished(db, "held", [*first_values(0.9, 0.5), ("COMPLETE", 0.8, 0), ("COMPLETE", 0.84, None)])
    finished(
        db, "least", [*first_values(0.5, 0.9), ("COMPLETE", 0.6, 0), ("COMPLETE", 0.4, None)], direction="minimize"
    )
    for name, ahead in (("late", 3), ("held", None), ("least", 3)):
        evidence = read_study(db, name)
        assert evidence.best.number == 0
        assert evidence.ahead_once == (evidence.trials[ahead] if ahead is not None else None)
        [verdict] = stage_summary(evidence).verdicts
        assert verdict.best == evidence.best.params["x"]


def test_a_lead_is_that_of_the_mean_and_unknown_behind_one_call(db):
    finished(db, "late", [*first_values(0.9, 0.5), ("COMPLETE", 0.8, 0), ("COMPLETE", 0.95, None)])
    finished(db, "held", [*first_values(0.9, 0.5), ("COMPLETE", 0.8, 0), ("COMPLETE", 0.6, None)])
    assert best_gap(read_study(db, "late")) is None
    assert best_gap(read_study(db, "held")) == pytest.approx(0.25)  # 0.85, the mean, over 0.6
