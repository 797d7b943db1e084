"""A process that has everything imported and starts workers by fork, seen from inside and from outside.

Importing torch and what else a worker needs takes seconds, which a forked worker has behind it: one that dies is
followed by the next within a fraction of a second. The server does nothing but wait, so it has a single thread and no
device, without which forking would not be safe; a system where it is not gets a fresh interpreter each time.

The server itself is a fork of the command, made when that has imported torch and done nothing else yet: so torch is
imported once, and its 300 MB are there once. Its successors, and the server of a command that has threads, have
an interpreter of their own.

A forked worker drains as soon as its server is gone, whatever ended it: the system sends it SIGTERM. One with an
interpreter of its own sees it a few seconds later, when it next renews its leases; before its first trial, while the
database is away, it sees it when the database is back, and ends then.

    requests   server's stdin, JSON: {"id": 3, "arguments": ["worker", ...], "environment": {...}}; {} is to get ready
               for such a one; its end ends all
    events     server's stdout, JSON: {"id": 3, "code": -9} of one that is gone; other lines are workers' notes
"""

from __future__ import annotations

import atexit
import contextlib
import json
import math
import os
import queue as thread_queue
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import IO, NoReturn

from hpsearch.fleet.forking import KILL_SECONDS

COMMAND = "fork-server"
# Pools of OpenMP or BLAS would not live in forked workers, which set their own number.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


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

    Args:
        main: runs the command line that `sys.argv` says; with it, the server is a fork of this process, which
            `may_fork` must allow, and imports nothing until it is asked to get ready. Without, it is a new
            interpreter that gets ready at once.
    """

    def __init__(self, main: Callable[[], object] | None = None) -> None:
        self.events: thread_queue.SimpleQueue[Died | Note] = thread_queue.SimpleQueue()
        self._alive: dict[int, _Server] = {}
        self._num_started = 0
        self._ended = False
        self._server = _Server(self.events, _Fork(main)) if main else self._new_server()

    def __enter__(self) -> ForkServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended = True
        self._server.end()

    def get_ready(self) -> None:
        """Import what workers need, before the first is asked for."""
        self._server.request({})

    def hang_up(self) -> None:
        """No worker is needed. The process ends by itself, which the context's end waits for."""
        self._server.hang_up()

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
        self._server = self._new_server()
        return None

    def _new_server(self) -> _Server:
        server = _Server(self.events, _new_interpreter())
        server.request({})
        return server


def _own_environment() -> dict[str, str]:
    """Of a server: workers get their settings by request."""
    return {name: value for name, value in os.environ.items() if not name.startswith("HPSEARCH_")} | ONE_THREAD


def _new_interpreter() -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "hpsearch", COMMAND]
    return subprocess.Popen(command, env=_own_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE)


class _Fork:
    """This process once more, as a server; to be handled as a `subprocess.Popen`."""

    def __init__(self, main: Callable[[], object]) -> None:
        requests, events = os.pipe(), os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _become_server(main, requests, events)
        os.close(requests[0])
        os.close(events[1])
        self.stdin: IO[bytes] = os.fdopen(requests[1], "wb")
        self.stdout: IO[bytes] = os.fdopen(events[0], "rb")
        self._code: int | None = None

    def poll(self) -> int | None:
        """Its exit code, or minus the signal that ended it, once it has ended."""
        if self._code is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:  # whoever started us has the system take care of such ends (SIGCHLD ignored)
                pid, status = self.pid, 0
            self._code = os.waitstatus_to_exitcode(status) if pid else None
        return self._code

    def wait(self, timeout: float | None = None) -> int:
        """Raises subprocess.TimeoutExpired."""
        deadline = time.monotonic() + (math.inf if timeout is None else timeout)
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(COMMAND, timeout or 0.0)
            time.sleep(0.005)
        return code

    def kill(self) -> None:
        """End it now, if it has not ended."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


def _become_server(main: Callable[[], object], requests: tuple[int, int], events: tuple[int, int]) -> NoReturn:
    """In the fork: do what a new interpreter would do with the server's command, and end."""
    code = 1
    try:
        os.dup2(requests[0], 0)
        os.dup2(events[1], 1)
        for fd in (*requests, *events):
            if fd > 1:
                os.close(fd)
        atexit._clear()  # what is registered so far is the command's
        environment = _own_environment()
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = ["hpsearch", COMMAND]
        main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


class _Server:
    """One server process."""

    def __init__(self, events: thread_queue.SimpleQueue[Died | Note], popen: subprocess.Popen[bytes] | _Fork) -> None:
        self.events = events
        self.popen = popen
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
