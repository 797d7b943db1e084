"""A process that starts workers by fork, seen from inside: see `fork_server`."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

KILL_SECONDS = 30.0  # from SIGTERM to SIGKILL
PR_SET_PDEATHSIG = 1  # of Linux's prctl: the signal that a process gets when its parent ends


def serve(get_ready: Callable[[], None]) -> list[str] | None:
    """Start workers as requested until standard input ends, then end those that are left.

    Returns twice, as fork does: None in the server at its end, in each worker the arguments of its command.

    Args:
        get_ready: imports what workers need; called at the first request.
    """
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    for ignored in (signal.SIGINT, signal.SIGTERM):  # the supervisor ends it; a terminal's Ctrl-C reaches all of them
        signal.signal(ignored, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None  # loaded here: forked workers take no locks
    children: dict[int, int] = {}  # pid -> id
    unread, ready_to_fork = b"", False
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
                if not ready_to_fork:
                    get_ready()
                    gc.collect()
                    gc.freeze()  # or collections in workers would touch, and so copy, all that they share with it
                    ready_to_fork = True
                if not (request := json.loads(line)):
                    continue
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
