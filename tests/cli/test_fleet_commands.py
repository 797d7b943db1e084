"""worker and stop on a stage on which nothing is left to do; at work they are in tests/fleet."""

import os
import subprocess
import sys

import pytest

from hpsearch.analysis.records import stage_record
from hpsearch.storage import NewTrial, Queue, create_stage, find_study, open_database
from hpsearch.storage.workers import host


def stop_asked_at(hpsearch, study):
    return stage_record(
        find_study(open_database(f"sqlite:///{hpsearch.folder}/studies/hpsearch.db"), study)
    ).stop_asked_at


@pytest.mark.slow
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


ASKS = """
import time
from hpsearch.analysis import attributes
from hpsearch.storage import find_study, open_database, write_attrs

def asks(params, report, epochs):
    db = open_database("sqlite:///studies/hpsearch.db")
    write_attrs(db, find_study(db, "coarse"), {attributes.STOP: db.read_now()})  # as `hpsearch stop coarse` does
    for epoch in range(1, epochs + 1):
        report(params["rate"], epoch)
        time.sleep(0.05)  # the worker asks for stops once in a while, and would write thousands of epochs until then
    return params["rate"]
"""


@pytest.mark.slow
def test_a_search_that_is_stopped_on_request_reports_no_error(hpsearch):
    (hpsearch.folder / "mine.py").write_text(ASKS)
    flags = ("--objective", "mine:asks", "--space", "rate=uniform(0,1)", "--workers", "1", "--epochs", "1000000")
    done = hpsearch("coarse", *flags, code=0).stderr
    assert done.splitlines()[-2] == "stopped: on request; what is finished is kept."
    assert done.splitlines()[-1].startswith("Go on with: hpsearch coarse --objective mine:asks")
    assert "error" not in done


def test_status_says_at_once_which_worker_is_dead(hpsearch):
    (hpsearch.folder / "studies").mkdir()
    db = open_database(f"sqlite:///{hpsearch.folder}/studies/hpsearch.db", create=True)
    study = create_stage(db, "begun", "maximize", {}, {}, [NewTrial({}), NewTrial({})])
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for worker in (f"{host()}/{gone.pid}/x", f"{host()}/{os.getpid()}/y"):
        queue = Queue(db, study, worker)
        queue.lease_seconds = 600.0  # however long the command takes to start
        queue.take(1)
    said = [line for line in hpsearch("status", "begun").stdout.splitlines() if line.startswith("worker")]
    assert [f"pid {gone.pid}  trials 0  dead: its process is gone" in line for line in said].count(True) == 1
    assert [f"pid {os.getpid()}  trials 1  lease " in line for line in said].count(True) == 1
    assert sorted(worker["dead"] for worker in hpsearch.json("status", "begun")["workers"]) == [False, True]


def test_a_worker_says_that_nothing_is_left_to_do(searched):
    done = searched("worker", "coarse")
    assert done.stderr == "note: coarse: 12 of 12 trials are finished; nothing is left to do\n"
