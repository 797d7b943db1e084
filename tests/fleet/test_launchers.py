"""The contract of those who start workers, with real processes: on this machine, and on a Ray cluster if there is one.

What the workers do is replaced (`launching`); how they are started, heard and ended is not.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from multiprocessing import forkserver
from pathlib import Path

import launching
import pytest
from fleet_at_work import is_gone, parent, wait_for

from hpsearch.config import RunConfig
from hpsearch.errors import HpsearchError
from hpsearch.fleet import processes
from hpsearch.fleet.launcher import Ended, Note
from hpsearch.fleet.processes import ProcessLauncher

PATIENCE = 600.0  # seconds; a bound against hanging, not an expectation
on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at processes in /proc")


@pytest.fixture
def on_this_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "run_worker", launching.be_a_worker)
    launchers = []

    def make(study):
        launchers.append(ProcessLauncher(study, RunConfig(artifact_dir=str(tmp_path)), ["cpu", "cpu"], 1))
        return launchers[-1]

    yield make
    for launcher in launchers:
        launcher.end_all()


@pytest.fixture
def on_ray(tmp_path, monkeypatch):
    ray = pytest.importorskip("ray", reason='needs Ray: pip install "hpsearch[ray]"')
    from hpsearch.fleet.ray import launcher as ray_launcher
    from hpsearch.fleet.ray import worker as ray_worker
    from hpsearch.fleet.ray.cluster import Demand
    from hpsearch.storage import open_database

    class Actor(ray_worker.WorkerActor):
        def work(self, job):
            from hpsearch.worker import joining

            joining.join_stage = launching.join_stage
            return super().work(job)

    monkeypatch.setattr(ray_launcher, "WorkerActor", Actor)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    path = {"env_vars": {"PYTHONPATH": os.path.dirname(__file__)}}  # noqa: PTH120
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env=path)
    db = open_database(f"sqlite:///{tmp_path}/studies.db", create=True)
    run = RunConfig(artifact_dir=str(tmp_path), storage=db.url)
    launchers = []

    def make(study):
        launchers.append(ray_launcher.RayLauncher(db, study, run, Demand(1, 0)))
        return launchers[-1]

    yield make
    for launcher in launchers:
        launcher.end_all()
    ray.shutdown()


@pytest.fixture(params=["on_this_machine", pytest.param("on_ray", marks=pytest.mark.slow)])
def make_launcher(request):
    return request.getfixturevalue(request.param)


def hear(launcher):
    """Events until the end of a worker."""
    events, deadline = [], time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if (event := launcher.next_event(0.2)) is not None:
            events.append(event)
            if isinstance(event, Ended):
                return events
    raise AssertionError(f"no worker's end within {PATIENCE} s; heard: {events}")


def working(folder, number):
    """Process ids of so many workers that are at work."""
    found = wait_for(lambda: len(paths := list(folder.glob("*.working"))) == number and paths, "workers at work")
    return [int(path.stem) for path in found]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("study", "how", "message"),
    [
        ("done", "done", ""),
        ("gives up", "gave up", "no such images"),
        ("fails", "gave up", "ZeroDivisionError: a bug"),
        ("poisoned", "died", "a device that refuses further work"),
    ],
)
def test_each_end_is_told_once_with_its_reason(make_launcher, study, how, message):
    launcher = make_launcher(study)
    number = launcher.start(0)
    *_, ended = hear(launcher)
    assert (ended.id, ended.how, ended.message) == (number, how, message)
    assert launcher.next_event(0.1) is None
    launcher.end_all()
    assert launcher.next_event(0) is None


def test_a_worker_that_is_killed_is_heard_of_and_another_one_can_be_started(make_launcher):
    launcher = make_launcher("killed")
    first = launcher.start(0)
    assert hear(launcher)[-1].how == "died"
    second = launcher.start(0)
    assert second != first
    assert hear(launcher)[-1].id == second


def test_the_death_of_one_of_two_leaves_the_other(make_launcher, tmp_path):
    launcher = make_launcher("waits")
    launcher.start(0)
    launcher.start(1)
    victim, other = working(tmp_path, 2)
    os.kill(victim, signal.SIGKILL)
    assert hear(launcher)[-1].how == "died"
    assert not is_gone(other)
    launcher.end_all()
    wait_for(lambda: is_gone(other), "its end")


def test_all_are_ended_and_none_is_left(make_launcher, tmp_path):
    launcher = make_launcher("waits")
    launcher.start(0)
    launcher.start(1)
    pids = working(tmp_path, 2)
    launcher.end_all()
    for pid in pids:
        wait_for(lambda pid=pid: is_gone(pid), "its end")
    assert not launcher.unplaced()


# processes of this machine alone


def test_what_a_worker_says_comes_before_its_end(on_this_machine):
    launcher = on_this_machine("done")
    launcher.start(1)
    note, ended = hear(launcher)
    assert note == Note("here on cpu")
    assert ended == Ended(1, "done", where="cpu")


def test_a_worker_that_does_not_listen_is_killed(on_this_machine, tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "KILL_SECONDS", 0.5)
    launcher = on_this_machine("deaf")
    launcher.start(0)
    [pid] = working(tmp_path, 1)
    launcher.end_all()
    assert is_gone(pid)


@pytest.mark.slow
@on_linux
def test_workers_end_with_their_server_and_there_is_a_new_one_for_the_next(on_this_machine, tmp_path):
    launcher = on_this_machine("waits")
    launcher.start(0)
    [pid] = working(tmp_path, 1)
    server = parent(pid)
    os.kill(server, signal.SIGKILL)
    assert hear(launcher)[-1].how == "died"
    wait_for(lambda: is_gone(pid), "the end of a worker whose server is gone")
    Path(tmp_path, f"{pid}.working").unlink()
    launcher.start(0)
    [again] = working(tmp_path, 1)
    assert parent(again) != server


@on_linux
def test_a_signal_to_the_terminal_s_group_does_not_end_the_server(on_this_machine, tmp_path):
    launcher = on_this_machine("waits")
    launcher.start(0)
    [pid] = working(tmp_path, 1)
    server = parent(pid)
    os.kill(server, signal.SIGINT)
    launcher.end_all()
    Path(tmp_path, f"{pid}.working").unlink()
    launcher.start(0)
    assert parent(working(tmp_path, 1)[0]) == server


@pytest.fixture
def servers_that_die(monkeypatch):
    """Ends so many servers of workers while the launcher waits for their first fork: they import torch then."""
    from multiprocessing import popen_forkserver

    killed, read = [], popen_forkserver.forkserver.read_signed

    def kill(number):
        new_server()

        def read_signed(fd):
            if len(killed) < number:
                killed.append(forkserver._forkserver._forkserver_pid)
                os.kill(killed[-1], signal.SIGKILL)
            return read(fd)

        monkeypatch.setattr(popen_forkserver.forkserver, "read_signed", read_signed)
        return killed

    return kill


@pytest.mark.slow
@on_linux
def test_a_server_that_dies_while_it_imports_torch_is_followed_by_another_one(
    on_this_machine, tmp_path, servers_that_die
):
    killed = servers_that_die(processes.MAX_SERVERS - 1)
    launcher = on_this_machine("waits")
    number = launcher.start(0)
    [pid] = working(tmp_path, 1)
    assert len(set(killed)) == processes.MAX_SERVERS - 1
    assert parent(pid) not in killed
    os.kill(pid, signal.SIGKILL)
    assert hear(launcher)[-1] == Ended(number, "died", "signal 9", "cpu")


@on_linux
def test_servers_that_keep_dying_are_given_up_with_the_cause(on_this_machine, servers_that_die):
    killed = servers_that_die(100)
    launcher = on_this_machine("done")
    with pytest.raises(HpsearchError) as caught:
        launcher.start(0)
    assert len(set(killed)) == processes.MAX_SERVERS
    cause, what_to_do = str(caught.value).splitlines()
    assert cause == "no worker could be started, 3 times running: the server of workers died (signal 9)."
    assert "--workers" in what_to_do
    assert launcher.next_event(0) is None


@pytest.mark.slow
@on_linux
def test_signals_to_the_group_do_not_meet_the_server_while_it_imports_torch(on_this_machine, tmp_path, capfd):
    new_server()
    launcher = on_this_machine("waits")
    server = forkserver._forkserver._forkserver_pid
    for signum in (signal.SIGINT, signal.SIGTERM):
        os.kill(server, signum)
    for signum in (signal.SIGINT, signal.SIGTERM):
        launcher.start(0)
        [pid] = working(tmp_path, 1)
        assert parent(pid) == server
        os.kill(server, signum)  # and not when it is ready
        os.kill(pid, signum)  # which the worker gets
        assert hear(launcher)[-1].message == f"exit code {128 + signum}"
        Path(tmp_path, f"{pid}.working").unlink()
    assert capfd.readouterr().err == ""


@on_linux
def test_the_server_has_torch_imported_and_no_threads(on_this_machine, tmp_path):
    """A fork of a process with threads may wait for ever for a lock that none of them gives back."""
    on_this_machine("waits").start(0)
    server = parent(working(tmp_path, 1)[0])
    assert len(list(Path(f"/proc/{server}/task").iterdir())) == 1
    assert "libtorch" in Path(f"/proc/{server}/maps").read_text()


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    """A script in which a worker is done and another one waits when the script is killed, and its folder."""
    text = """
    import os, signal
    from pathlib import Path
    import launching
    from hpsearch.config import RunConfig
    from hpsearch.fleet import processes
    from hpsearch.fleet.launcher import Ended

    print("once", flush=True)
    processes.run_worker = launching.be_a_worker
    launcher = processes.ProcessLauncher("done", RunConfig(artifact_dir="."), ["cpu"], 1)
    launcher.start(0)
    while not isinstance(event := launcher.next_event(0.2), Ended):
        pass
    print(event.how, flush=True)
    launcher = processes.ProcessLauncher("waits", RunConfig(artifact_dir="."), ["cpu"], 1)
    launcher.start(0)
    while not list(Path().glob("*.working")):
        launcher.next_event(0.05)
    os.kill(os.getpid(), signal.SIGKILL)
    """
    folder = tmp_path_factory.mktemp("script")
    return in_a_script(text, folder), folder


@pytest.mark.slow
@on_linux
def test_no_orphans_are_left_by_a_command_that_is_killed(script):
    done, folder = script
    assert done.returncode == -signal.SIGKILL, done.stderr
    [pid] = working(folder, 1)
    wait_for(lambda: is_gone(pid), "the end of a worker whose command is gone")


def test_a_script_needs_no_main_guard(script):
    """A child of multiprocessing imports the main module again, which would begin the search again."""
    done, _ = script
    assert done.stdout.split() == ["once", "done"], done.stderr


def in_a_script(text, folder):
    path = folder / "script.py"
    path.write_text(textwrap.dedent(text))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), *sys.path[1:]])}  # noqa: PTH120
    return subprocess.run(
        [sys.executable, path], cwd=folder, env=environment, capture_output=True, text=True, timeout=PATIENCE
    )


def new_server():
    """The next launcher starts another one."""
    forkserver._forkserver._stop()


def test_the_server_is_that_of_multiprocessing():
    processes.start_server()
    assert forkserver._forkserver._forkserver_pid is not None
    assert multiprocessing.get_start_method(allow_none=True) in (None, "fork", "forkserver")  # nobody else's default
