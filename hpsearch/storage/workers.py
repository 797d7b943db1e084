"""Who a worker is, and whether its process still lives on this machine."""

from __future__ import annotations

import hashlib
import os
import secrets
import socket
from functools import lru_cache
from pathlib import Path


def new_worker_id() -> str:
    """A name of its own for a worker of this process: host/pid/random."""
    return f"{host()}/{os.getpid()}/{secrets.token_hex(4)}"


@lru_cache(maxsize=1)
def host() -> str:
    """The host's name and a hash of this boot and process namespace: where a process id means what it says.

    Two containers may share a host name and yet not see each other's processes.
    """
    try:
        scope = Path("/proc/sys/kernel/random/boot_id").read_text() + str(Path("/proc/self/ns/pid").readlink())
    except OSError:  # not Linux
        scope = ""
    return f"{socket.gethostname()[:100]}-{hashlib.sha256(scope.encode()).hexdigest()[:6]}"


def is_of_this_host(worker: str) -> bool:
    """Whether its process id means here what it means to the worker."""
    return worker.partition("/")[0] == host()


def is_dead(worker: str) -> bool:
    """Whether the worker ran on this host and its process is gone; False when that cannot be known."""
    pid = worker.partition("/")[2].partition("/")[0]
    if (
        os.name != "posix" or not is_of_this_host(worker) or not pid.isdigit()
    ):  # signal 0 would end a process on Windows
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return _waits_to_be_reaped(int(pid))


def _waits_to_be_reaped(pid: int) -> bool:
    """Whether the process has ended, but its parent has not asked how: a container's first process may never ask."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # gone since, or not Linux
        return False
    return fields[:1] == ["Z"]
