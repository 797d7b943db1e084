"""A process that has everything imported and starts workers by fork, seen from inside and from outside.

Importing torch and what else a worker needs takes seconds, which a forked worker has behind it: one that dies is
followed by the next within a fraction of a second. The server does nothing but wait, so it has a single thread and no
device, without which forking would not be safe; a system where it is not gets a fresh interpreter each time.

A forked worker drains as soon as its server is gone, whatever ended it: the system sends it SIGTERM. One with an
interpreter of its own sees it a few seconds later, when it next renews its leases; before its first trial, while the
database is away, it sees it when the database is back, and ends then.

    requests   server's stdin, JSON: {"id": 3, "arguments": ["worker", ...], "environment": {...}}; its end ends all
    events     server's stdout, JSON: {"id": 3, "code": -9} of one that is gone; other lines are workers' notes
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import queue as thread_queue
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

COMMAND = "fork-server"
KILL_SECONDS = 30.0  # from SIGTERM to SIGKILL
PR_SET_PDEATHSIG = 1  # of Linux's prctl: the signal that a process gets when its parent ends


@dataclass(frozen=True)
class Died:
    """A worker is gone: its exit code, or minus the signal that ended it."""

    id: int
    code: int


@dataclass(frozen=True)
class Note:
    """A line that a worker has written to its standard output."""

    text: str


class ForkServer:
    """Starts workers on this machine and tells of their deaths.

    Use as a context: at its end, workers get SIGTERM and, if they do not follow it, SIGKILL.
    """

    def __init__(self) -> None:
        self.events: thread_queue.SimpleQueue[Died | Note] = thread_queue.SimpleQueue()
        self._alive: dict[int, _Server] = {}
        self._num_started = 0
        self._ended = False
        self._server = _Server(self.events)

    def __enter__(self) -> ForkServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended = True
        self._server.end()

    def start(self, arguments: Sequence[str], environment: Mapping[str, str]) -> int:
        """Start `hpsearch ARGUMENTS` with this environment beside the server's; the number by which it is told of."""
        self._num_started += 1
        self._alive[self._num_started] = self._server
        request = {"id": self._num_started, "arguments": list(arguments), "environment": dict(environment)}
        self._server.request(request)
        return self._num_started

    def next_event(self, seconds: float) -> Died | Note | None:
        """What happened next, waiting so long for it. Deaths of workers whose server died are among it."""
        with contextlib.suppress(thread_queue.Empty):
            event = self.events.get(timeout=seconds)
            if isinstance(event, Died):
                self._alive.pop(event.id, None)
            return event
        if self._ended or (code := self._server.popen.poll()) is None:
            return None
        # Its workers see that it is gone and drain; their successors need not wait for that.
        for number in [number for number, server in self._alive.items() if server is self._server]:
            self.events.put(Died(number, code))
        self._server.hang_up()
        self._server = _Server(self.events)
        return None


class _Server:
    """One server process."""

    def __init__(self, events: thread_queue.SimpleQueue[Died | Note]) -> None:
        self.events = events
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("HPSEARCH_")}
        # One thread: a pool of OpenMP or BLAS would not live in forked workers, which set their own number.
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "hpsearch", COMMAND],
            env={**inherited, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def request(self, request: Mapping[str, object]) -> None:
        assert self.popen.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has died; that will be told
            self.popen.stdin.write(json.dumps(request).encode() + b"\n")
            self.popen.stdin.flush()

    def hang_up(self) -> None:
        """Ask it to end."""
        assert self.popen.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.popen.stdin.close()

    def end(self) -> None:
        """End all its workers, and it."""
        self.hang_up()
        try:
            self.popen.wait(KILL_SECONDS + 5)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
        self._reader.join(1)  # what was said last; a worker that outlives its server may keep the pipe open

    def _read(self) -> None:
        assert self.popen.stdout is not None
        with self.popen.stdout as lines:
            for line in lines:
                text = line.decode(errors="replace").rstrip()
                event = _parsed(text)
                if "code" in event:
                    self.events.put(Died(event["id"], event["code"]))
                elif not event:
                    self.events.put(Note(text))


def _parsed(text: str) -> dict[str, int]:
    """An event of the server's; empty for what a worker wrote."""
    if text.startswith('{"id": '):
        with contextlib.suppress(ValueError):
            event: dict[str, int] = json.loads(text)
            return event
    return {}


def serve() -> list[str] | None:
    """Start workers as requested until standard input ends, then end those that are left.

    Returns twice, as fork does: None in the server at its end, in each worker the arguments of its command.
    """
    gc.collect()
    gc.freeze()  # or collections in workers would touch, and so copy, all that they share with the server
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    for ignored in (signal.SIGINT, signal.SIGTERM):  # the supervisor ends it; a terminal's Ctrl-C reaches all of them
        signal.signal(ignored, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None  # loaded here: forked workers take no locks
    children: dict[int, int] = {}  # pid -> id
    unread = b""
    while True:
        ready, _, _ = select.select([0, wake_read], [], [])
        if wake_read in ready:
            os.read(wake_read, 4096)
            _tell_deaths(children)
        if 0 in ready:
            received = os.read(0, 65536)
            if not received:
                _end(children)
                return None
            *lines, unread = (unread + received).split(b"\n")
            for line in lines:
                request = json.loads(line)
                server = os.getpid()
                pid = _start(request, (wake_read, wake_write))
                if pid == 0:
                    _end_with(server, libc)
                    return list(request["arguments"])
                children[pid] = request["id"]


def _start(request: Mapping[str, object], own_fds: Sequence[int]) -> int:
    """The worker's process id; 0 in a forked worker itself."""
    arguments, environment = request["arguments"], request["environment"]
    assert isinstance(arguments, list)
    assert isinstance(environment, dict)
    if not may_fork():
        command = [sys.executable, "-m", "hpsearch", *arguments]
        no_stdin = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)]
        own_signals = [signal.SIGINT, signal.SIGTERM]
        return os.posix_spawn(
            sys.executable, command, {**os.environ, **environment}, file_actions=no_stdin, setsigdef=own_signals
        )
    sys.stdout.flush()
    if pid := os.fork():
        return pid
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for fd in own_fds:
        os.close(fd)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)  # the requests are the server's
    os.close(nothing)
    os.environ.update(environment)
    return 0


def _end_with(server: int, libc: ctypes.CDLL | None) -> None:
    """Have the system send SIGTERM to this worker when its server ends."""
    if libc is not None:
        libc.prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGTERM))
    if os.getppid() != server:  # it has ended already
        os.kill(os.getpid(), signal.SIGTERM)


def may_fork() -> bool:
    """Whether this process may go on in a fork: on Linux, with a single thread."""
    try:
        return sys.platform == "linux" and len(list(Path("/proc/self/task").iterdir())) == 1
    except OSError:
        return False


def _tell_deaths(children: dict[int, int]) -> None:
    while children:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        if (number := children.pop(pid, None)) is not None:
            _tell({"id": number, "code": os.waitstatus_to_exitcode(status)})


def _end(children: dict[int, int]) -> None:
    for pid in children:
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + KILL_SECONDS
    while children and time.monotonic() < deadline:
        _tell_deaths(children)
        time.sleep(0.01)
    for pid in children:
        os.kill(pid, signal.SIGKILL)
    while children:
        _tell_deaths(children)
        time.sleep(0.01)


def _tell(event: Mapping[str, int]) -> None:
    with contextlib.suppress(OSError):  # the supervisor is gone, so this is about to end
        os.write(1, json.dumps(event).encode() + b"\n")
