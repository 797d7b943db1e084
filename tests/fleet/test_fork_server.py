"""The server that starts workers, in real processes."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

import hpsearch
from hpsearch.fleet.fork_server import Died, ForkServer, Note

PATIENCE = 600.0  # seconds; a bound against hanging, not an expectation
# A worker that waits: its database does not answer.
WAITING = ["worker", "--supervised", "--", "coarse"]
AWAY = {"HPSEARCH_STORAGE": "postgresql://nobody@127.0.0.1:1/none"}


@pytest.fixture(scope="module")
def server():
    with ForkServer() as server:
        yield server


def hear(server, kind):
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if isinstance(event := server.next_event(0.2), kind):
            return event
    raise AssertionError(f"heard of no {kind.__name__} within {PATIENCE} s")


def test_exit_codes_and_notes_are_told(server, tmp_path):
    good = server.start(["--version"], {})
    assert hear(server, Note).text == hpsearch.__version__
    assert hear(server, Died) == Died(good, 0)
    storage = {"HPSEARCH_STORAGE": f"sqlite:///{tmp_path}/none.db"}
    assert hear_of(server, server.start(["worker", "--", "coarse"], storage)) == 1  # no study there
    assert hear_of(server, server.start(["worker", "--no-such-option"], {})) == 2


def hear_of(server, number):
    event = hear(server, Died)
    assert event.id == number
    return event.code


def test_forked_workers_start_faster_than_interpreters_and_end_with_the_server():
    begun = time.monotonic()
    with ForkServer() as server:
        hear_of(server, server.start(["--version"], {}))  # waits for the server's imports, too
        first = time.monotonic() - begun
        begun = time.monotonic()
        for _ in range(5):
            assert hear_of(server, server.start(["--version"], {})) == 0
        assert time.monotonic() - begun < first
        number = server.start(WAITING, AWAY)
        assert "database" in hear(server, Note).text
    assert hear(server, Died) == Died(number, -signal.SIGTERM)  # its end ends its workers


def test_where_threads_run_workers_get_interpreters_of_their_own(tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text(
        "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    with ForkServer() as server:
        good = server.start(["--version"], {})
        assert hear(server, Note).text == hpsearch.__version__
        assert hear(server, Died) == Died(good, 0)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at processes in /proc")
def test_a_server_that_dies_is_replaced_and_its_workers_are_given_up(server):
    number = server.start(WAITING, AWAY)
    hear(server, Note)
    pid = server._server.popen.pid
    [worker] = children(pid)
    os.kill(pid, signal.SIGKILL)
    assert hear(server, Died) == Died(number, -signal.SIGKILL)
    assert hear_of(server, server.start(["--version"], {})) == 0
    wait_for_the_end_of(worker)  # although nobody is left to tell it, and its database is away


FORKED = """
import atexit, json, os, sys, time

from hpsearch.__main__ import main
from hpsearch.fleet.fork_server import Died, ForkServer, Note
from hpsearch.fleet.forking import may_fork

def hear():
    while (event := server.next_event(0.2)) is None:
        pass
    return event

atexit.register(print, "the command's end")
assert may_fork()
with ForkServer(main) as server:
    assert server._server.popen.pid != os.getpid()
    with open(f"/proc/{server._server.popen.pid}/cmdline") as told, open("/proc/self/cmdline") as own:
        assert told.read() == own.read()  # no new interpreter
"""


def in_a_process_of_its_own(script, tmp_path, **environment):
    """What a script says with a server that is a fork of its process; pytest's own process has threads."""
    done = subprocess.run(
        [sys.executable, "-c", FORKED + textwrap.indent(textwrap.dedent(script), "    ")],
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", **environment},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    assert "Traceback" not in done.stderr
    return done.stdout.splitlines()


on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks, and looks at processes in /proc")


@on_linux
def test_a_forked_server_starts_workers_and_is_replaced_by_an_interpreter(tmp_path):
    """Both tell exit codes and notes, and neither gives workers settings that were not asked for."""
    said = in_a_process_of_its_own(
        """
        good = server.start(["--version"], {})
        print(hear().text)
        assert hear() == Died(good, 0)
        bad = server.start(["worker", "--no-such-option"], {})
        assert hear() == Died(bad, 2)
        none = server.start(["worker", "--", "coarse"], {"HPSEARCH_STORAGE": "sqlite:///no.db"})
        assert hear() == Died(none, 1)  # there is no study
        killed = server._server.popen
        os.kill(killed.pid, 9)
        killed.wait(60)
        assert server.next_event(0) is None  # it sees that
        good = server.start(["--version"], {})
        print(hear().text)
        assert hear() == Died(good, 0)
        """,
        tmp_path,
        HPSEARCH_STORAGE="mongodb://wrong",
    )
    assert said == [hpsearch.__version__] * 2 + ["the command's end"]  # which is said once


@on_linux
def test_a_forked_server_that_is_not_needed_ends(tmp_path):
    said = in_a_process_of_its_own(
        """
        server.hang_up()
        print(server._server.popen.wait(60))
        """,
        tmp_path,
    )
    assert said == ["0", "the command's end"]


@on_linux
def test_a_forked_server_ends_with_its_command_whatever_ends_that(tmp_path):
    with pytest.raises(subprocess.CalledProcessError) as error:
        in_a_process_of_its_own(
            """
            server.start(["--version"], {})
            hear(), hear()
            print(server._server.popen.pid, flush=True)
            os.kill(os.getpid(), 9)
            """,
            tmp_path,
        )
    wait_for_the_end_of(int(error.value.stdout))


def children(pid):
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def wait_for_the_end_of(pid):
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] == "Z":
                return  # dead, and nobody has asked for its exit code
        except (FileNotFoundError, ProcessLookupError):
            return
        time.sleep(0.02)
    os.kill(pid, signal.SIGKILL)
    raise AssertionError(f"process {pid} is still there after {PATIENCE} s")


def test_ctrl_c_does_not_reach_it(server):
    assert hear_of(server, server.start(["--version"], {})) == 0
    for signum in (signal.SIGINT, signal.SIGTERM):
        os.kill(server._server.popen.pid, signum)
    assert hear_of(server, server.start(["--version"], {})) == 0
