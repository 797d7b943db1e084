"""`hpsearch` in a process of its own that has torch already: forked off a server that imported it once.

Importing torch and what goes with it takes two to four seconds of a command, and a test of a message or a table waits
for it in vain. A command gets its own process, folder, environment, streams and exit code as ever; what it shares with
the next is what was imported. A `sitecustomize.py` in a folder of PYTHONPATH is run as at an interpreter's start.
Tests of what a command imports, and of signals while it does, start an interpreter.

So are the server of its workers, and the process of the user's code, forks of what has everything; in
tests/fleet/test_launchers.py and tests/programs they are interpreters.

The protocol: a line of JSON on a Unix socket asks for a command, a line with its pid and one with its exit status
answer.
"""

import atexit
import contextlib
import ctypes
import gc
import importlib.util
import json
import multiprocessing.util
import os
import re
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import types
import warnings
import weakref
from pathlib import Path

PRELOADED = (
    "hpsearch.analysis.export",
    "hpsearch.cli.app",
    "hpsearch.cli.compare_progress",
    "hpsearch.cli.fleet_status",
    "hpsearch.cli.procedure_run",
    "hpsearch.cli.searching",
    "hpsearch.cli.search_progress",
    "hpsearch.cli.training_run",
    "hpsearch.programs.child",
    "hpsearch.programs.redrawn",
    "hpsearch.report.pictures",
    "hpsearch.search.checks.study",
    "hpsearch.search.compare_samplers",
    "hpsearch.search.ensemble",
    "hpsearch.search.ensemble_folder",
    "hpsearch.search.final_measurement",
    "hpsearch.search.inside",
    "hpsearch.search.mistakes",
    "hpsearch.search.prediction",
    "hpsearch.search.procedure",
    "hpsearch.search.program_run",
    "hpsearch.search.rerun",
    "hpsearch.search.stage_run",
    "hpsearch.search.trained_ensemble",
    "hpsearch.search.training_script.script",
    "hpsearch.stages.windowed_storage",
    "hpsearch.fleet.fleet",
    "hpsearch.fleet.preloaded",
    "hpsearch.training.fused.kernels",
    "hpsearch.training.sparsity",
    "hpsearch.report.search_report",
    "optuna",
    "optuna_dashboard",
    "plotly.graph_objs.heatmap.colorbar.title",
    "plotly.graph_objs.image",
    "rich.markdown",
    "sklearn.datasets",
    "sqlalchemy.dialects.sqlite",
    "typer.rich_utils",
)
TORCHVISION = "torchvision"  # three seconds more: imported when a command speaks of it, and there for all to come
SPEAKS_OF_IT = (TORCHVISION, "augment")  # sheets of augmented images are its, and so is what the docs' example calls

SERVES_WORKERS = "from multiprocessing.forkserver import main"
LARGE_PAGE = 2**21  # bytes
MADV_COLLAPSE = 25  # of Linux 6.1 and later


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

    def start(self, arguments, folder, environment, stdin=None, **options):
        return WarmCommand(self.address, self.folder.name, arguments, folder, environment, stdin, **options)

    def run(self, arguments, folder, environment, stdin=None, timeout=None, **options):
        """As `subprocess.run` with captured text; what it takes longer than `timeout` seconds is killed."""
        return self.start(arguments, folder, environment, stdin, **options).wait(timeout)

    def run_script(self, arguments, folder, environment, timeout=None):
        """As `python -W error SCRIPT ...` where hpsearch cannot be imported."""
        return self.run(arguments, folder, environment, timeout=timeout, script=True)


class WarmCommand:
    """One that has been started, as `subprocess.Popen` with captured text: `pid` is its own.

    `terminal` and `keyboard` are names of terminals, to which it writes and from which it reads instead.
    """

    def __init__(
        self, address, home, arguments, folder, environment, stdin, new_session=False, script=False, terminal=None,
        keyboard=None,
    ):  # fmt: skip
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
            "streams": [keyboard or str(paths[0]), *([terminal] * 2 if terminal else map(str, self._captured))],
            "new_session": new_session,
            "script": script,
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
    """Fork a process for each command, and say how it ended: a second one that waited for it would take 30 ms more."""
    for name in PRELOADED:
        __import__(name)
    _build_what_is_built_late()
    gc.collect()
    gc.freeze()
    _take_large_pages()
    ended, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    wires = {}  # of the commands that run, by pid
    while sys.stdin not in (ready := select.select([listening, sys.stdin, ended], [], [])[0]):
        if ended in ready:
            os.read(ended, 2**16)
            for pid in list(wires):
                which, status = os.waitpid(pid, os.WNOHANG)
                if which:
                    _say(wires.pop(pid), status)
        if listening in ready:
            wire, _ = listening.accept()
            with wire.makefile() as stream:
                request = json.loads(stream.readline())
            if any(word in argument for argument in request["arguments"] for word in SPEAKS_OF_IT):
                __import__(TORCHVISION)
            if not (pid := os.fork()):
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for each in (listening, wire, *wires.values()):
                    each.close()
                os.close(ended)
                os.close(write)
                _become(request)
            wires[pid] = wire
            wire.sendall(f"{pid}\n".encode())


def _say(wire, status):
    with wire, contextlib.suppress(BrokenPipeError):  # of a test that has not waited for it
        wire.sendall(f"{status}\n".encode())


def _build_what_is_built_late():
    """What is made at its first use, as the validators of study files and of figures, would be made in each command."""
    import typer.main
    from planted import plant

    from hpsearch.cli.app import app
    from hpsearch.programs import program
    from hpsearch.report.search_report import make_report
    from hpsearch.storage.database import close_databases, open_database
    from hpsearch.training.fused.update import compile_kernels

    with tempfile.TemporaryDirectory() as folder:
        db = open_database(f"sqlite:///{folder}/studies.db", create=True)
        plant(db, num_trials=20)
        make_report(db)
        close_databases()
    compile_kernels("sgd")  # numba looks through all that it can compile: 0.5 s
    built, build = typer.main.get_command(app), typer.main.get_command
    typer.main.get_command = lambda it: built if it is app else build(it)
    program.given = lambda _name: True  # code of the user's runs in a fork, as where a function is given from Python
    for end in list(weakref.finalize._registry):  # torch takes 144 of its libraries back at an exit: 0.1 s
        if end.peek()[1].__module__.startswith("torch."):
            end.atexit = False


def _take_large_pages():
    """A fork copies the table of all pages: of 2 MiB each it takes half the time. Where a kernel cannot, all stays."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None)
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    for line in Path("/proc/self/maps").read_text().splitlines():
        area, rights, _, device, _, *name = line.split()
        if rights == "rw-p" and device == "00:00" and name in ([], ["[heap]"]):
            start, end = (int(each, 16) for each in area.split("-"))
            start, end = -(-start // LARGE_PAGE) * LARGE_PAGE, end // LARGE_PAGE * LARGE_PAGE
            if start < end:
                libc.madvise(start, end - start, MADV_COLLAPSE)


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
    sys.path[0] = request["folder"]
    if request["script"]:
        _run_script(*request["arguments"])
    if any(argument.startswith("--workers") for argument in request["arguments"]):
        _keep_a_server_of_workers()
    sys.argv = ["hpsearch", *request["arguments"]]
    sys.orig_argv = [sys.executable, "-m", *sys.argv]
    _customize()
    runpy.run_module("hpsearch", run_name="__main__", alter_sys=True)
    sys.exit()


def _run_script(name, *arguments):
    """What `python -W error` does with it, where there is no hpsearch; never returns."""
    for module in [module for module in sys.modules if module.partition(".")[0] == "hpsearch"]:
        del sys.modules[module]
    sys.modules["hpsearch"] = None  # an import of it raises ImportError
    sys.path[0] = str(Path(name).parent.absolute())
    sys.argv = [name, *arguments]
    sys.orig_argv = [sys.executable, "-W", "error", *sys.argv]
    warnings.simplefilter("error")
    status = 1
    try:
        runpy.run_path(name, run_name="__main__")
        status = 0
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _keep_a_server_of_workers():
    """Fork now what becomes multiprocessing's server once it is asked for, instead of an interpreter: torch is there.

    It is a child of the command, as that would be, with its environment and signals, and has seen nothing of it before.
    Where that server died, the next one is an interpreter.
    """
    ours, theirs = socket.socketpair()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM])
    if not (pid := os.fork()):
        ours.close()
        try:
            _wait_to_serve_workers(theirs)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    theirs.close()
    spawn = multiprocessing.util.spawnv_passfds

    def start(path, arguments, descriptors):
        multiprocessing.util.spawnv_passfds = spawn
        if SERVES_WORKERS not in os.fsdecode(arguments[-1]):  # the tracker of resources comes first
            try:
                return spawn(path, arguments, descriptors)
            finally:
                multiprocessing.util.spawnv_passfds = start
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
        words = list(map(os.fsdecode, arguments))
        request = {"arguments": words, "environment": dict(os.environ), "blocked": list(map(int, blocked))}
        with ours:
            socket.send_fds(ours, [b" "], descriptors)
            ours.sendall(json.dumps(request).encode() + b"\n")
        return pid

    multiprocessing.util.spawnv_passfds = start


def _wait_to_serve_workers(wire):
    _, descriptors, _, _ = socket.recv_fds(wire, 1, 2)
    if not descriptors:
        return  # the command has ended without
    with wire, wire.makefile() as stream:
        request = json.loads(stream.readline())
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv, sys.orig_argv = ["-c"], request["arguments"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    signal.pthread_sigmask(signal.SIG_SETMASK, request["blocked"])
    _customize()
    code = re.sub(r"main\(\d+, \d+,", "main({}, {},".format(*descriptors), request["arguments"][-1])
    with contextlib.suppress(SystemExit):  # when the command has ended
        exec(code, {"__name__": "__main__"})


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
