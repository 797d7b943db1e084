"""Rows of the fault matrix in which a process dies, stops, or is told to."""

import json
import os
import re
import signal
import time
from pathlib import Path

import pytest
from fleet_at_work import wait_for

from hpsearch.storage import open_database


@pytest.mark.slow
def test_two_workers_share_a_stage_and_change_nothing(fleet, undisturbed):
    process = fleet.coarse("--workers", "2", **fleet.held())
    fleet.wait_for_workers(2)
    fleet.go()
    fleet.finish(process)
    fleet.assert_invariants()
    assert fleet.values() == undisturbed
    assert len({worker for _, worker, _, _ in fleet.leases()}) == 2


@pytest.mark.slow
def test_sigkill_of_a_worker_in_mid_epoch(fleet, undisturbed):
    process = fleet.coarse("--workers", "2", **fleet.held())
    killed = fleet.a_running_worker()
    os.kill(killed, signal.SIGKILL)
    fleet.go()
    _, errors = fleet.finish(process)
    assert "worker died (signal 9)" in errors
    # The other worker may find its trials before the one that waits for it, and say so.
    assert re.search(r"trials? [\d, ]+ resumes? at epoch \d+", errors)
    fleet.assert_invariants()
    assert fleet.values() == undisturbed
    assert max(attempt for _, _, attempt, _ in fleet.leases()) == 2


@pytest.mark.slow
def test_a_killed_worker_s_trials_go_on_from_their_checkpoints(sqlite_fleet, undisturbed):
    fleet = sqlite_fleet
    process = fleet.coarse(**fleet.held())
    pid = fleet.a_running_worker()
    checkpoints = fleet.folder / "studies" / "artifacts" / "checkpoints"
    wait_for(lambda: len(list(checkpoints.glob("*/*/3.json"))) == 3, "checkpoints of epoch 3")
    os.kill(pid, signal.SIGKILL)
    process.communicate()
    _, errors = fleet.finish(fleet.coarse())
    assert re.search(r"trials 0, 1, 2 resume at epoch 4", errors)
    assert not list(checkpoints.glob("*/*/*.json"))  # removed when their trials ended


@pytest.mark.slow
def test_status_shows_workers_leases_and_attempts(sqlite_fleet):
    fleet = sqlite_fleet
    first = fleet.coarse(**fleet.held())
    os.kill(fleet.a_running_worker(), signal.SIGKILL)
    first.communicate()
    process = fleet.coarse(**fleet.held())
    pid = wait_for(lambda: [pid for pid in fleet.running_workers() if pid == process.pid], "the second worker")[0]
    shown = json.loads(fleet.run("status", "coarse", "--json")[0])
    [worker] = shown["workers"]
    assert worker["worker"].split("/")[1] == str(pid)
    assert worker["attempts"] == {"0": 2, "1": 2, "2": 2}
    assert 0 < worker["lease_seconds"] <= 15
    assert shown["taken_again"] == 3
    out, _ = fleet.run("status", "coarse")
    assert f"pid {pid}  trials 0 (attempt 2), 1 (attempt 2), 2 (attempt 2)  lease" in out


@pytest.mark.slow
def test_sigterm_of_a_worker_saves_a_checkpoint_releases_and_exits_143(fleet, undisturbed):
    process = fleet.coarse(**fleet.held())
    fleet.a_running_worker()
    process.send_signal(signal.SIGTERM)
    fleet.wait_until_told()
    fleet.go()
    _, errors = fleet.finish(process, code=143)
    assert "Go on with: hpsearch coarse" in errors
    assert {state for *_, state in fleet.leases()} <= {"WAITING", "COMPLETE", "PRUNED"}
    assert list((fleet.folder / "studies" / "artifacts" / "checkpoints").glob("*/*/*.json"))
    fleet.finish(fleet.coarse())
    fleet.assert_invariants()
    assert fleet.values() == undisturbed


@pytest.mark.slow
def test_ctrl_c_drains_the_whole_fleet_and_leaves_no_orphans(fleet, undisturbed):
    process = fleet.coarse("--workers", "2", **fleet.held())
    fleet.wait_for_workers(2)
    os.killpg(process.pid, signal.SIGINT)
    fleet.wait_until_told(3)
    fleet.go()
    fleet.finish(process, code=130)
    wait_for(lambda: not _group_lives(process.pid), "the end of all processes of the group")
    assert not any(state == "RUNNING" for *_, state in fleet.leases())
    fleet.finish(fleet.coarse())
    fleet.assert_invariants()
    assert fleet.values() == undisturbed


@pytest.mark.slow
def test_ctrl_c_twice_stops_at_once_and_is_recoverable(sqlite_fleet, undisturbed):
    fleet = sqlite_fleet
    process = fleet.coarse(**fleet.held())
    fleet.wait_until_held()  # before, the first signal may end it
    process.send_signal(signal.SIGINT)
    fleet.wait_until_told()
    process.send_signal(signal.SIGINT)
    fleet.finish(process, code=130)  # from the midst of an epoch that has no end
    fleet.finish(fleet.coarse())
    fleet.assert_invariants()
    assert fleet.values() == undisturbed


@pytest.mark.slow
def test_a_killed_supervisor_leaves_no_orphans(sqlite_fleet, undisturbed):
    fleet = sqlite_fleet
    process = fleet.coarse("--workers", "2", HPSEARCH_RUN__LEASE_SECONDS="2", **fleet.held())
    fleet.wait_for_workers(2)
    process.kill()
    process.communicate()
    fleet.wait_until_told(2)
    fleet.go()
    wait_for(lambda: not _group_lives(process.pid), "the end of the workers")
    fleet.finish(fleet.coarse())
    fleet.assert_invariants()
    assert fleet.values() == undisturbed


@pytest.mark.slow
def test_a_zombie_s_late_write_is_refused(fleet, undisturbed):
    """A worker sleeps past its lease; another one takes its trials; when it wakes, its results do not count."""
    short = {"HPSEARCH_RUN__LEASE_SECONDS": "1"}
    sleeper = fleet.coarse(**short, **fleet.held())
    pid = fleet.a_running_worker()
    fleet.stop_between_transactions(pid)
    other = fleet.start("worker", "coarse", **short)
    wait_for(lambda: any(attempt == 2 for _, _, attempt, _ in fleet.leases()), "a takeover")
    fleet.go()
    os.kill(pid, signal.SIGCONT)
    _, errors = fleet.finish(sleeper)
    fleet.finish(other)
    assert "lease lost, result discarded" in errors
    fleet.assert_invariants()
    assert fleet.values() == undisturbed


@pytest.mark.slow
def test_a_worker_joins_from_elsewhere(fleet, undisturbed):
    held = fleet.held()
    first = fleet.coarse(**held)
    fleet.a_running_worker()
    second = fleet.start("worker", "coarse", **held)
    fleet.wait_for_workers(2)
    fleet.go()
    fleet.finish(first)
    fleet.finish(second)
    fleet.assert_invariants()
    assert fleet.values() == undisturbed


@pytest.mark.slow
def test_stop_ends_all_workers_and_the_command_goes_on(fleet, undisturbed):
    process = fleet.coarse("--workers", "2", HPSEARCH_RUN__LEASE_SECONDS="1", **fleet.held())
    fleet.wait_for_workers(2)
    fleet.run("stop", "coarse")
    fleet.wait_until_told(2)
    fleet.go()
    fleet.finish(process)
    assert {trial.state for trial in fleet.trials()} == {"WAITING"}
    fleet.finish(fleet.coarse())
    fleet.assert_invariants()
    assert fleet.values() == undisturbed


@pytest.mark.slow
def test_clock_skew_between_workers(fleet, undisturbed):
    """A worker whose clock is an hour ahead takes nobody's trials: leases live on the database's clock."""
    first = fleet.coarse(**fleet.held())
    fleet.a_running_worker()
    ahead = fleet.folder / "ahead"
    ahead.mkdir()
    (ahead / "sitecustomize.py").write_text("import time\n_time = time.time\ntime.time = lambda: _time() + 3600\n")
    skewed = fleet.start("worker", "coarse", PYTHONPATH=str(ahead))
    wait_for(lambda: any(trial.state == "COMPLETE" for trial in fleet.trials()), "what the other worker ends")
    fleet.go()
    fleet.finish(first)
    _, errors = fleet.finish(skewed)
    assert "clock is +3600 s off the database's" in errors
    fleet.assert_invariants()
    assert fleet.values() == undisturbed
    assert {attempt for _, _, attempt, _ in fleet.leases()} == {1}


@pytest.mark.slow
def test_the_password_is_nowhere(tmp_path, postgres_databases):
    """Neither in arguments of children, nor in logs, nor in files, nor in the database."""
    from fleet_at_work import Fleet

    url = postgres_databases.new()
    canary = "canary-7f3a"
    with_password = url.replace("postgres:@", f"postgres:{canary}@", 1)
    assert canary in with_password
    fleet = Fleet(tmp_path, with_password)
    try:
        process = fleet.coarse("--workers", "2", "-v", **fleet.held())
        fleet.wait_for_workers(2)
        for path in (entry for entry in os.scandir("/proc") if entry.name.isdigit()):
            try:
                arguments = Path(path.path, "cmdline").read_bytes()
            except OSError:
                continue
            assert canary.encode() not in arguments
        fleet.go()
        out, errors = fleet.finish(process)
        assert canary not in out + errors
        for file in tmp_path.rglob("*"):
            if file.is_file():
                assert canary.encode() not in file.read_bytes(), file
        db = open_database(url)
        with db.read() as connection:
            import sqlalchemy as sa

            for table in ("study_user_attributes", "trial_user_attributes"):
                rows = connection.execute(sa.text(f"SELECT value_json FROM {table}"))
                assert not any(canary in (row[0] or "") for row in rows)
        db.close()
    finally:
        fleet.close()


def _group_lives(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    time.sleep(0.02)
    return True
