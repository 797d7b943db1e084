"""Where the time of a start goes: by an own clock, and by the system's for the age of a process."""

import contextlib
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from hpsearch import logs, phases
from hpsearch.phases import Recorder, phase, process_age, tell


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def said(monkeypatch):
    """What is told with -v, in a process that has told nothing yet."""
    lines = []
    monkeypatch.setattr(logs, "_verbosity", 1)
    monkeypatch.setattr(phases, "_recorder", None)
    monkeypatch.setattr(phases.log, "info", lambda text, *arguments: lines.append(text % arguments))
    return lines


def test_a_phase_within_another_counts_once(clock):
    recorder = Recorder(98.0, clock)
    clock.now = 99.0
    with recorder.phase("imports"):
        clock.now = 100.0
    clock.now = 100.5
    with recorder.phase("database"):
        clock.now = 101.0
        with recorder.phase("images"):
            clock.now = 103.0
        clock.now = 103.25
    with recorder.phase("images"):
        clock.now = 104.0
    assert recorder.text("first epoch") == (
        "start 1.00 s · imports 1.00 s · database 0.75 s · images 2.75 s · other 0.50 s · first epoch at 6.00 s"
    )


def test_a_phase_counts_though_it_raises_or_goes_on(clock):
    recorder = Recorder(100.0, clock)
    with contextlib.suppress(KeyError), recorder.phase("checks"):
        clock.now = 101.0
        raise KeyError
    with recorder.phase("training"):
        clock.now = 103.0
        assert recorder.text("here") == "checks 1.00 s · training 2.00 s · here at 3.00 s"
        clock.now = 104.0
    assert recorder.text("there") == "checks 1.00 s · training 3.00 s · there at 4.00 s"


def test_another_thread_is_told_of_as_passing_beside(clock):
    recorder = Recorder(100.0, clock)
    begun, ended = threading.Event(), threading.Event()

    def beside():
        with recorder.phase("cuda"):
            begun.set()
            ended.wait()

    with recorder.phase("images"):
        thread = threading.Thread(target=beside)
        thread.start()
        begun.wait()
        clock.now = 102.0
        ended.set()
        thread.join()
        clock.now = 103.0
    assert recorder.text("ready") == "images 3.00 s · cuda 2.00 s beside · ready at 3.00 s"


def test_it_is_told_once_and_nothing_is_measured_from_then_on(said, monkeypatch):
    with phase("images"):
        pass
    tell("first epoch")
    tell("first epoch")
    assert len(said) == 1
    assert said[0].startswith("phase   start ")
    assert " · first epoch at " in said[0]
    monkeypatch.setattr(Recorder, "phase", None)
    with phase("images"):
        pass


def test_without_v_nothing_is_measured(said, monkeypatch):
    monkeypatch.setattr(logs, "_verbosity", 0)
    with phase("images"):
        tell("first epoch")
    assert phases._recorder is None
    assert said == []


def test_a_forked_process_has_a_start_of_its_own(said):
    with phase("imports"):
        pass
    phases.begin()
    tell("first epoch")
    assert "imports" not in said[0]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says when a process was started")
def test_the_start_of_a_process_is_before_its_first_import():
    code = (
        "import time; first = time.monotonic(); from hpsearch.phases import process_age\n"
        "now = time.monotonic(); print(process_age() - (now - first), time.monotonic() - first)"
    )
    before = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    whole = time.monotonic() - before
    earlier, rest = map(float, done.stdout.split())  # from the start to the first line, and from there on
    tick = 1 / os.sysconf("SC_CLK_TCK")
    assert -tick <= earlier <= whole - rest + tick


def test_where_the_system_does_not_tell_a_process_begins_with_us(said, monkeypatch):
    monkeypatch.setattr(phases, "process_age", lambda: None)
    monkeypatch.setattr(phases, "_first_seen", time.monotonic() - 1000)
    tell("first epoch")
    assert float(said[0].split()[-2]) >= 1000


def test_a_system_without_proc_tells_no_age(monkeypatch):
    monkeypatch.setattr(phases, "Path", lambda _: Path("nothing", "here"))
    assert process_age() is None
