"""`hpsearch` in a process of its own that has torch already: forked off a server that imported it once.

Importing torch and what goes with it takes two to four seconds of a command, and a test of a message or a table waits
for it in vain. A command gets its own process, folder, environment, streams and exit code as ever; what it shares with
the next is what was imported. A `sitecustomize.py` in a folder of PYTHONPATH is run as at an interpreter's start.
Tests of what a command imports, and of signals while it does, start an interpreter.

The protocol: a line of JSON on a Unix socket asks for a command, a line with its pid and one with its exit status
answer.
"""

import importlib.util
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import weakref
from pathlib import Path

PRELOADED = (
    "hpsearch.cli.app",
    "hpsearch.cli.searching",
    "hpsearch.cli.search_progress",
    "hpsearch.cli.training_run",
    "hpsearch.search.checks.study",
    "hpsearch.search.ensemble",
    "hpsearch.search.final_measurement",
    "hpsearch.search.prediction",
    "hpsearch.search.procedure",
    "hpsearch.search.rerun",
    "hpsearch.search.stage_run",
    "hpsearch.search.trained_ensemble",
    "hpsearch.fleet.fleet",
    "hpsearch.training.fused.kernels",
    "hpsearch.report.search_report",
    "optuna",
    "optuna_dashboard",
    "rich.markdown",
    "sklearn.datasets",
    "sqlalchemy.dialects.sqlite",
    "typer.rich_utils",
)
TORCHVISION = "torchvision"  # three seconds more: imported when a command names it, and there for all to come


class WarmCommands:
    """The client: starts the server, and ends it with the test session."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="warm")
        self.address = f"{self.folder.name}/socket"
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(self.address)
            listening.listen(64)  # connections wait here while the server imports
            environment = {name: value for name, value in os.environ.items() if not name.startswith("HPSEARCH_")}
            self.server = subprocess.Popen(
                [sys.executable, __file__, str(listening.fileno())],
                env={**environment, "OMP_NUM_THREADS": "1"},
                stdin=subprocess.PIPE,  # its end ends the server
                pass_fds=[listening.fileno()],
            )

    def close(self):
        self.server.stdin.close()
        self.server.wait()
        self.folder.cleanup()

    def start(self, arguments, folder, environment, stdin=None, new_session=False):
        return WarmCommand(self.address, self.folder.name, arguments, folder, environment, stdin, new_session)

    def run(self, arguments, folder, environment, stdin=None, timeout=None):
        """As `subprocess.run` with captured text; what it takes longer than `timeout` seconds is killed."""
        return self.start(arguments, folder, environment, stdin).wait(timeout)


class WarmCommand:
    """One that has been started, as `subprocess.Popen` with captured text: `pid` is its own."""

    def __init__(self, address, home, arguments, folder, environment, stdin, new_session):
        self.arguments = arguments
        self._streams = tempfile.TemporaryDirectory(dir=home)
        paths = [Path(self._streams.name, name) for name in ("stdin", "stdout", "stderr")]
        paths[0].write_text(stdin or "")
        self._captured = paths[1:]
        for path in self._captured:
            path.touch()
        self._wire = socket.socket(socket.AF_UNIX)
        self._wire.connect(address)
        self._answer = self._wire.makefile("rw")
        request = {
            "arguments": arguments,
            "folder": str(folder),
            "environment": environment,
            "streams": list(map(str, paths)),
            "new_session": new_session,
        }
        print(json.dumps(request), file=self._answer, flush=True)
        self.pid = int(self._answer.readline())

    def first_line(self, timeout):
        """Of what it prints, as soon as it is there."""
        until = time.monotonic() + timeout
        while "\n" not in (printed := self._captured[0].read_text()):
            if time.monotonic() > until:
                raise TimeoutError(f"nothing printed in {timeout} s: {self._captured[1].read_text()}")
            time.sleep(0.01)
        return printed.partition("\n")[0]

    def has_ended(self, timeout=0):
        """Within so many seconds; its exit code is asked for by `wait`."""
        return bool(select.select([self._wire], [], [], timeout)[0])

    def errors(self):
        """What it has written on stderr until now."""
        return self._captured[1].read_text()

    def wait(self, timeout=None):
        self._wire.settimeout(timeout)
        try:
            code = os.waitstatus_to_exitcode(int(self._answer.readline()))
            return subprocess.CompletedProcess(self.arguments, code, *(path.read_text() for path in self._captured))
        except TimeoutError:
            os.kill(self.pid, signal.SIGKILL)
            raise
        finally:
            self._answer.close()
            self._wire.close()
            self._streams.cleanup()


_of_these_tests: list[WarmCommands] = []


def warm_commands():
    """The one server of this process of tests, started when the first command is asked for."""
    if not _of_these_tests:
        _of_these_tests.append(WarmCommands())
    return _of_these_tests[0]


def close_warm_commands():
    while _of_these_tests:
        _of_these_tests.pop().close()


def serve(listening):
    for name in PRELOADED:
        __import__(name)
    _build_what_is_built_late()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who wait for commands
    while select.select([listening, sys.stdin], [], [])[0] == [listening]:
        wire, _ = listening.accept()
        stream = wire.makefile("rw")
        request = json.loads(stream.readline())
        if any(TORCHVISION in argument for argument in request["arguments"]):
            __import__(TORCHVISION)
        if not os.fork():
            listening.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _run_command(wire, stream, request)
            os._exit(0)
        stream.close()
        wire.close()


def _build_what_is_built_late():
    """What is made at its first use, as the validators of study files and of figures, would be made in each command."""
    from planted import plant

    from hpsearch.report.search_report import make_report
    from hpsearch.storage.database import close_databases, open_database

    with tempfile.TemporaryDirectory() as folder:
        db = open_database(f"sqlite:///{folder}/studies.db", create=True)
        plant(db, num_trials=20)
        make_report(db)
        close_databases()
    for end in list(weakref.finalize._registry):  # torch takes 144 of its libraries back at an exit: 0.1 s
        if end.peek()[1].__module__.startswith("torch."):
            end.atexit = False


def _run_command(wire, stream, request):
    pid = os.fork()
    if not pid:
        stream.close()
        wire.close()
        _become(request)
    print(pid, file=stream, flush=True)
    print(os.waitpid(pid, 0)[1], file=stream, flush=True)


def _become(request):
    """What `python -m hpsearch` does in that folder; never returns."""
    if request["new_session"]:
        os.setsid()
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    for number, path in enumerate(request["streams"]):
        file = os.open(path, os.O_RDWR | os.O_CREAT | (os.O_APPEND if number else 0))
        os.dup2(file, number)
        os.close(file)
    sys.argv = ["hpsearch", *request["arguments"]]
    sys.orig_argv = [sys.executable, "-m", *sys.argv]
    sys.path[0] = request["folder"]
    _customize()
    runpy.run_module("hpsearch", run_name="__main__", alter_sys=True)
    sys.exit()


def _customize():
    """As the module `site` does in an interpreter that starts with this environment."""
    folders = map(Path, filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)))
    for path in (folder / "sitecustomize.py" for folder in folders):
        if path.exists():
            spec = importlib.util.spec_from_file_location("sitecustomize", path)
            sys.modules["sitecustomize"] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(sys.modules["sitecustomize"])
            return


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
