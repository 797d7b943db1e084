"""Objectives that are given as functions, not by a name: of a script, a notebook, a lambda.

They are called in a process that this one forks, as no other could import them; what can be imported goes by its name.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hpsearch.config.usercode import note_hash, trust
from hpsearch.errors import ConfigError

POLL_SECONDS = 0.01  # between two looks whether a process has ended

_given: dict[str, Callable[..., Any]] = {}
_only_here: set[str] = set()


def give(function: Callable[..., Any]) -> str:
    """The name under which a function is called from now on, MODULE:FUNCTION; it is trusted.

    Raises:
        ConfigError: it is no function, or there is no way to call it here.
    """
    if not callable(function):
        raise ConfigError(
            f"an objective of {function!r:.60} cannot be called.\n"
            'Allowed: a function, or its name as "train:objective".'
        )
    module = str(getattr(function, "__module__", None) or "given")
    label = str(getattr(function, "__qualname__", type(function).__qualname__))
    is_importable = label.isidentifier() and getattr(sys.modules.get(module), label, None) is function
    if is_importable and module != "__main__":
        name = f"{module}:{label}"
        trust(name)
        return name
    if not hasattr(os, "fork"):
        raise ConfigError(
            f"{label} cannot be called in another process: this system forks none.\n"
            "Allowed: a function of a module that can be imported."
        )
    script = _script() if is_importable else None
    own = label.rpartition(".")[2].replace("<lambda>", "lambda_")
    name = f"{script or module}:{own if own.isidentifier() else 'objective'}"
    _given[name] = function
    if script is None:
        _only_here.add(name)
    note_hash(name, _hash(function))
    trust(name)
    return name


def given(name: str | None) -> Callable[..., Any] | None:
    """The function that was given under this name; None where it is to be imported."""
    return _given.get(name) if name is not None else None


def refuse_workers_elsewhere(name: str | None, where: str) -> None:
    """Whether other processes than this one and its children can call it.

    Raises:
        ConfigError: they cannot.
    """
    if name in _only_here:
        raise ConfigError(
            f"{name} is a function of this process alone, which {where} cannot import.\n"
            "Allowed: one worker; or a function of a module, as from train import objective."
        )


def _script() -> str | None:
    """The name under which the main module can be imported from the working folder."""
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    path = Path(file).resolve() if file else None
    is_there = path is not None and path.suffix == ".py" and path.parent == Path.cwd().resolve()
    return path.stem if path is not None and is_there and path.stem.isidentifier() else None


def _hash(function: Callable[..., Any]) -> str:
    code = getattr(function, "__code__", None)
    said = (code.co_code, repr([c for c in code.co_consts if not hasattr(c, "co_code")])) if code else type(function)
    return f"sha256:{hashlib.sha256(repr(said).encode()).hexdigest()[:12]}"


class ForkedProcess:
    """A fork of this process that leads a group of its own, with what is used here of `subprocess.Popen`.

    Args:
        target: what it does; it ends then.
    """

    def __init__(self, target: Callable[[], None]) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads: it calls the function alone
            self.pid = os.fork()
        self.returncode: int | None = None
        if self.pid:
            return
        code = 1
        try:
            _become_alone()
            target()
            code = 0
        finally:
            os._exit(code)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, or minus the signal that ended it.

        Raises:
            subprocess.TimeoutExpired: it goes on.
        """
        until = time.monotonic() + timeout if timeout is not None else None
        while self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
            elif until is not None and time.monotonic() > until:
                raise subprocess.TimeoutExpired("a forked process", timeout or 0.0)
            else:
                time.sleep(POLL_SECONDS)
        return self.returncode


def _become_alone() -> None:
    """No signals, input or output of a notebook, or threads of the process that was forked."""
    os.setsid()
    for signum, handler in ((signal.SIGTERM, signal.SIG_DFL), (signal.SIGINT, signal.default_int_handler)):
        signal.signal(signum, handler)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    sys.stdout, sys.stderr = (open(number, "w", buffering=1, closefd=False) for number in (1, 2))  # noqa: SIM115
    if (torch := sys.modules.get("torch")) is not None:  # its pools of threads have not come along
        torch.set_num_threads(1)
