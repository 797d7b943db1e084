"""worker and stop on a stage on which nothing is left to do; at work they are in tests/fleet."""

import pytest

from hpsearch.analysis.records import stage_record
from hpsearch.storage import NewTrial, create_stage, find_study, open_database


def stop_asked_at(hpsearch, study):
    return stage_record(
        find_study(open_database(f"sqlite:///{hpsearch.folder}/studies/hpsearch.db"), study)
    ).stop_asked_at


def test_stop_says_that_a_finished_study_has_nobody_to_stop(searched):
    assert searched("stop", "coarse").stdout == "'coarse' is finished, nobody works on it: nothing to stop\n"
    assert searched("stop", "coarse", "--quiet").stdout == ""
    assert stop_asked_at(searched, "coarse") is None


def test_stop_asks_the_workers_of_a_study_that_is_not_finished(hpsearch):
    (hpsearch.folder / "studies").mkdir()
    db = open_database(f"sqlite:///{hpsearch.folder}/studies/hpsearch.db", create=True)
    create_stage(db, "begun", "maximize", {}, {}, [NewTrial({})])
    assert "asked all workers of 'begun' to stop" in hpsearch("stop", "begun").stdout
    assert stop_asked_at(hpsearch, "begun") == pytest.approx(db.read_now(), abs=600)


def test_a_worker_says_that_nothing_is_left_to_do(searched):
    done = searched("worker", "coarse")
    assert done.stderr == "note: coarse: 12 of 12 trials are finished; nothing is left to do\n"
