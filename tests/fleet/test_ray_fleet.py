"""Workers on a Ray cluster: nodes and workers die, the command is stopped or killed, and nothing is lost or left."""

import contextlib
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import pytest
from fleet_at_work import Fleet, wait_for
from ray_cluster_at_work import RayCluster, descendants, is_alive, title

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at processes in /proc")


@pytest.fixture
def start_cluster():
    pytest.importorskip("ray", reason='needs Ray: pip install "hpsearch[ray]"')
    clusters = []

    def start(*nodes):
        clusters.append(RayCluster(*nodes))
        return clusters[-1]

    yield start
    left = [names for cluster in clusters for names in cluster.close()]
    assert not left, left


@pytest.fixture
def elsewhere(tmp_path):
    """Options of a node that seems to be another host: the command's own host cannot see who died there."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text("import socket\nsocket.gethostname = lambda: 'elsewhere'\n")
    return {"env_vars": {"PYTHONPATH": str(folder)}}


def coarse(fleet, cluster, *arguments, **environment):
    return in_an_interpreter(fleet, "--ray-address", cluster.address, *arguments, **environment)


def in_an_interpreter(fleet, *arguments, **environment):
    """Ray looks at what it finds imported, and at the process that it begins in."""
    return fleet.start_interpreter("coarse", "-c", "study.toml", "--engine", "ray", *arguments, **environment)


def a_worker_in_mid_trial(fleet, cluster, number):
    """Of a node: its process id, which holds a trial that has reported an epoch."""

    def look():
        with contextlib.suppress(Exception):  # no database yet
            return next((pid for pid in fleet.running_workers() if pid in cluster.workers(number)), None)

    return wait_for(look, f"a worker of node {number} in mid-trial")


def numbers_of(fleet, pid):
    return {
        number for number, worker, _, state in fleet.leases() if state == "RUNNING" and f"/{pid}/" in (worker or "")
    }


def kill_node_in_mid_trial(fleet, cluster):
    """The death of the second node; seconds until its trials run again."""
    pid = a_worker_in_mid_trial(fleet, cluster, 1)
    numbers = numbers_of(fleet, pid)
    died_at = time.monotonic()
    cluster.kill("node", 1)
    wait_for(lambda: not is_alive(pid), "its end")

    def again():
        attempts = {number: attempt for number, _, attempt, state in fleet.leases() if state != "WAITING"}
        return all(attempts.get(number, 0) >= 2 for number in numbers)

    wait_for(again, "its trials to run again")
    return time.monotonic() - died_at


@pytest.mark.slow
def test_a_node_dies_in_mid_trial(fleet, undisturbed, start_cluster, record_property):
    cluster = start_cluster({"num_cpus": 2}, {"num_cpus": 1})
    process = coarse(fleet, cluster, "--workers", "2")
    seconds = kill_node_in_mid_trial(fleet, cluster)
    record_property("seconds_to_running_again", seconds)
    print(f"running again after {seconds:.2f} s")
    wait_for(lambda: len(cluster.workers(0)) == 2 or process.poll() is not None, "the worker to move")
    _, errors = fleet.finish(process)
    assert "worker died (its " in errors
    assert "the Ray cluster has 2 nodes" in errors or not fleet.url.startswith("sqlite")
    fleet.assert_invariants()
    assert fleet.values() == undisturbed
    assert max(attempt for _, _, attempt, _ in fleet.leases()) == 2


@pytest.mark.slow
def test_a_node_of_another_host_dies_and_its_leases_run_out(sqlite_fleet, undisturbed, start_cluster, elsewhere):
    """What this host cannot know of, the database's clock does."""
    cluster = start_cluster({"num_cpus": 1}, {"num_cpus": 1, **elsewhere})
    process = coarse(sqlite_fleet, cluster, "--workers", "2", HPSEARCH_RUN__LEASE_SECONDS="3")
    seconds = kill_node_in_mid_trial(sqlite_fleet, cluster)
    print(f"running again after {seconds:.2f} s")
    _, errors = sqlite_fleet.finish(process)
    assert "what it held goes on when its leases run out, within 3 s" in errors
    sqlite_fleet.assert_invariants()
    assert sqlite_fleet.values() == undisturbed


@pytest.mark.slow
def test_a_raylet_dies_alone_and_its_workers_end(sqlite_fleet, undisturbed, start_cluster):
    cluster = start_cluster({"num_cpus": 1}, {"num_cpus": 1})
    process = coarse(sqlite_fleet, cluster, "--workers", "2")
    pid = a_worker_in_mid_trial(sqlite_fleet, cluster, 1)
    cluster.kill("raylet", 1)
    wait_for(lambda: not is_alive(pid), "the end of its worker")
    sqlite_fleet.finish(process)
    sqlite_fleet.assert_invariants()
    assert sqlite_fleet.values() == undisturbed


@pytest.mark.slow
def test_ctrl_c_drains_and_leaves_no_orphans(fleet, undisturbed, start_cluster, elsewhere):
    """The workers give their trials back themselves: nobody else could before their leases run out."""
    cluster = start_cluster({"num_cpus": 0}, {"num_cpus": 2, **elsewhere})
    process = coarse(fleet, cluster, "--workers", "2")
    a_worker_in_mid_trial(fleet, cluster, 1)
    pids = cluster.workers(1)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = fleet.finish(process, code=130)
    assert "Go on with: hpsearch coarse" in errors
    wait_for(lambda: not any(map(is_alive, pids)), "the end of the workers")
    assert {state for *_, state in fleet.leases()} <= {"WAITING", "COMPLETE", "PRUNED"}
    assert list((fleet.folder / "studies" / "artifacts" / "checkpoints").glob("*/*/*.json"))
    fleet.finish(coarse(fleet, cluster))
    fleet.assert_invariants()
    assert fleet.values() == undisturbed


@pytest.mark.slow
def test_sigterm_drains_too(sqlite_fleet, start_cluster):
    cluster = start_cluster({"num_cpus": 1})
    process = coarse(sqlite_fleet, cluster)
    a_worker_in_mid_trial(sqlite_fleet, cluster, 0)
    process.terminate()
    sqlite_fleet.finish(process, code=143)
    assert not any(state == "RUNNING" for *_, state in sqlite_fleet.leases())


@pytest.mark.slow
def test_stop_ends_all_workers(sqlite_fleet, start_cluster):
    cluster = start_cluster({"num_cpus": 2})
    process = coarse(sqlite_fleet, cluster, "--epochs", "2000", HPSEARCH_RUN__LEASE_SECONDS="1")
    a_worker_in_mid_trial(sqlite_fleet, cluster, 0)
    sqlite_fleet.finish(sqlite_fleet.start("stop", "coarse"))
    sqlite_fleet.finish(process)
    assert not any(state == "RUNNING" for *_, state in sqlite_fleet.leases())
    assert any(state == "WAITING" for *_, state in sqlite_fleet.leases())


@pytest.mark.slow
def test_a_killed_command_leaves_no_workers(sqlite_fleet, undisturbed, start_cluster):
    cluster = start_cluster({"num_cpus": 2})
    process = coarse(sqlite_fleet, cluster)
    a_worker_in_mid_trial(sqlite_fleet, cluster, 0)
    pids = cluster.workers(0)
    process.kill()
    process.communicate()
    wait_for(lambda: not any(map(is_alive, pids)), "the end of the workers")
    sqlite_fleet.finish(coarse(sqlite_fleet, cluster))
    sqlite_fleet.assert_invariants()
    assert sqlite_fleet.values() == undisturbed


@pytest.mark.slow
@pytest.mark.parametrize("killed", [False, True])
def test_a_local_cluster_ends_with_the_command(sqlite_fleet, killed):
    pytest.importorskip("ray", reason='needs Ray: pip install "hpsearch[ray]"')
    with tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder:
        process = in_an_interpreter(sqlite_fleet, RAY_ADDRESS="local", RAY_TMPDIR=folder)
        sqlite_fleet.a_running_worker()
        pids = descendants(process.pid)
        assert any("raylet" in title(pid) for pid in pids)
        if killed:
            process.kill()
            process.communicate()
        else:
            sqlite_fleet.finish(process)
            sqlite_fleet.assert_invariants()
        wait_for(lambda: not any(map(is_alive, pids)), "the end of Ray")


@pytest.mark.slow
def test_workers_that_keep_dying_end_the_command(sqlite_fleet, start_cluster):
    cluster = start_cluster({"num_cpus": 1})
    process = coarse(sqlite_fleet, cluster)
    while process.poll() is None:
        for pid in cluster.workers(0):
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    _, errors = sqlite_fleet.finish(process, code=1)
    assert "6 workers died without progress in between" in errors


@pytest.mark.slow
@pytest.mark.postgres
def test_the_password_is_nowhere(tmp_path, postgres_databases, start_cluster):
    """Neither in arguments and environments of Ray's processes, nor in its logs, nor in what it tells of itself."""
    canary = "canary-7f3a"
    fleet = Fleet(tmp_path, postgres_databases.new().replace("postgres:@", f"postgres:{canary}@", 1))
    assert canary in fleet.url
    cluster = start_cluster({"num_cpus": 2}, {"num_cpus": 1})
    try:
        process = coarse(fleet, cluster, "-v")
        pid = a_worker_in_mid_trial(fleet, cluster, 0)
        for other in (process.pid, *descendants(cluster.process.pid)):
            assert canary not in title(other)
        assert canary.encode() not in Path(f"/proc/{pid}/environ").read_bytes()
        os.kill(pid, signal.SIGKILL)  # a death is what Ray writes most about
        out, errors = fleet.finish(process)
        assert "worker died" in errors
        assert canary not in out + errors
        files = [file for file in cluster.folder.rglob("*") if file.is_file()]
        assert any("gcs_server" in file.name for file in files)
        for file in files:
            assert canary.encode() not in file.read_bytes(), file
    finally:
        fleet.close()


@pytest.mark.slow
def test_a_placement_that_cannot_be_is_refused(sqlite_fleet, start_cluster):
    cluster = start_cluster({"num_cpus": 1, "num_gpus": 2}, {"num_cpus": 2})
    _, errors = sqlite_fleet.finish(coarse(sqlite_fleet, cluster, "--workers", "4"), code=2)
    assert "--workers 4: the Ray cluster has no room for so many, at 1 GPU and 1 CPU each." in errors
    assert "Allowed: up to 1." in errors
    _, errors = sqlite_fleet.finish(coarse(sqlite_fleet, cluster, HPSEARCH_RUN__THREADS="3"), code=2)
    assert "no node of the Ray cluster holds a worker, which takes 1 GPU and 3 CPUs" in errors
    assert not any(state == "RUNNING" for *_, state in sqlite_fleet.leases())


def test_a_cluster_that_does_not_answer_is_named(sqlite_fleet):
    pytest.importorskip("ray", reason='needs Ray: pip install "hpsearch[ray]"')
    _, errors = sqlite_fleet.finish(sqlite_fleet.coarse("--ray-address", "127.0.0.1:1"), code=2)
    assert "error: the Ray cluster at 127.0.0.1:1 cannot be used" in errors
    assert "Allowed: --ray-address HOST:PORT" in errors


def test_without_ray_the_command_says_how_to_install_it(sqlite_fleet):
    (sqlite_fleet.folder / "sitecustomize.py").write_text("import sys\nsys.modules['ray'] = None\n")
    process = sqlite_fleet.coarse("--engine", "ray", PYTHONPATH=str(sqlite_fleet.folder))
    _, errors = sqlite_fleet.finish(process, code=2)
    assert errors == 'error: Ray needs the package ray.\nInstall it with: pip install "hpsearch[ray]"\n'
    assert not (sqlite_fleet.folder / "studies.db").exists()
