"""The user's code, from outside: a process that is told trials, says what they gave, and can be ended at any time."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence

from hpsearch.config.schema.objective import ObjectiveConfig
from hpsearch.config.usercode import trusted
from hpsearch.programs import messages
from hpsearch.programs.given import ForkedProcess, given
from hpsearch.programs.gpus import visible
from hpsearch.programs.messages import (
    Answer,
    Broken,
    Ended,
    Event,
    Left,
    Message,
    Pruned,
    Ready,
    Suggested,
    Task,
    Unready,
)
from hpsearch.programs.output import OutputReader

GRACE_SECONDS = 3.0  # from SIGTERM to SIGKILL
START_SECONDS = 120.0  # for the imports of the user's code

inside = False
"""Whether this is such a process itself, in which no search begins."""


class Program:
    """Runs one trial at a time; its process serves for many, and there is a new one where that ended.

    Args:
        objective: what it runs; a function must be trusted by this process.
        device: of the worker. An Optuna objective, which is not told it, sees that GPU alone.
    """

    def __init__(self, objective: ObjectiveConfig, device: str = "cpu") -> None:
        self._objective, self._device = objective, device
        self._process: subprocess.Popen[bytes] | ForkedProcess | None = None
        self._sent = self._received = -1
        self._output: OutputReader | None = None
        self._left = b""
        self._events: deque[Message] = deque()
        self.takes: frozenset[str] = frozenset()
        """What the code is given by name, as `epochs`; known once it has been started."""

    def start(self) -> None:
        """Have the code imported, unless it is.

        Raises:
            UnreadyError: it cannot be.
        """
        if self._process is not None:
            return
        if inside:
            raise UnreadyError(
                f"a search over {self._objective.name} begins while the module of an objective is imported.\n"
                'Put that call below `if __name__ == "__main__":`, or the function into a module of its own.'
            )
        self._open()
        until = time.monotonic() + START_SECONDS
        while (left := until - time.monotonic()) > 0:
            match self._next(left):
                case Ready(takes):
                    self.takes = frozenset(takes)
                    return
                case Unready(why):
                    self.end()
                    raise UnreadyError(why)
                case Broken(reason):
                    raise UnreadyError(f"{self._objective.name}: importing it ended the process: {reason}.")
        self.end()
        raise UnreadyError(f"{self._objective.name}: importing it takes more than {START_SECONDS:g} s.")

    def begin(self, task: Task) -> None:
        """Start a trial; `next` tells what becomes of it."""
        self.start()
        assert self._output is not None
        self._output.begin(task.output)
        with contextlib.suppress(BrokenPipeError):  # `next` will find out
            messages.send(self._sent, task)

    def answer(self, why: str = "", *, advice: bool = False) -> None:
        """To a `Reported`: go on; or end, and why; where that is advice, the code decides."""
        with contextlib.suppress(BrokenPipeError):
            messages.send(self._sent, Answer(why, advice))

    def suggest(self, suggested: Suggested) -> None:
        """To a `Suggest`."""
        with contextlib.suppress(BrokenPipeError):
            messages.send(self._sent, suggested)

    def next(self, seconds: float) -> Event | None:
        """What the trial says within this time; a process that is gone has broken it."""
        found = self._next(seconds)
        if isinstance(found, Ended | Broken | Left | Pruned) and self._output is not None:
            self._output.end()
        return found if isinstance(found, Event) else None

    def end(self) -> None:
        """End the process, and all that it has started."""
        if self._process is None:
            return
        for signum in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signum)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(GRACE_SECONDS)
                if signum == signal.SIGTERM and self._has_group():
                    continue
                break
        self._close()

    def _has_group(self) -> bool:
        """Whether some process that it has started is still there."""
        assert self._process is not None
        try:
            os.killpg(self._process.pid, 0)
        except (ProcessLookupError, PermissionError):
            return False
        return True

    def _open(self) -> None:
        received, theirs = os.pipe()
        ours, sent = os.pipe()
        read, printed = os.pipe()
        try:
            self._process = self._forked((received, sent, read), ours, theirs, printed) or subprocess.Popen(
                [sys.executable, "-m", "hpsearch.programs.child", str(ours), str(theirs), str(printed)],
                pass_fds=(ours, theirs, printed),
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env={**os.environ, **self._visible()},
            )
        finally:
            os.close(ours)
            os.close(theirs)
            os.close(printed)
        self._output = OutputReader(read)
        self._received, self._sent, self._left = received, sent, b""
        first = {"objective": self._objective.model_dump(mode="json"), "trusted": trusted()}
        with contextlib.suppress(BrokenPipeError):
            os.write(sent, json.dumps(first).encode() + b"\n")

    def _forked(self, not_its_own: Sequence[int], received: int, sent: int, printed: int) -> ForkedProcess | None:
        """A fork of this process, where that has the function; it never comes back here."""
        if given(self._objective.function) is None:
            return None

        def serve() -> None:
            main = importlib.import_module("hpsearch.programs.child").main  # which imports us
            for descriptor in not_its_own:
                os.close(descriptor)
            os.environ.update(self._visible())
            main(received, sent, printed)

        return ForkedProcess(serve)

    def _visible(self) -> dict[str, str]:
        return visible(self._device, os.environ) if self._objective.defines else {}

    def _next(self, seconds: float) -> Message | None:
        if not self._events:
            self._hear(seconds)
        return self._events.popleft() if self._events else None

    def _hear(self, seconds: float) -> None:
        ready, _, _ = select.select([self._received], [], [], max(0.0, seconds))
        if not ready:
            return
        chunk = os.read(self._received, 2**16)
        if not chunk:
            assert self._process is not None
            try:
                code = self._process.wait(GRACE_SECONDS)
            except subprocess.TimeoutExpired:  # the code has closed what we speak through
                self.end()
                self._events.append(Broken("it has closed the descriptors through which it is heard"))
                return
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            self._close()
            self._events.append(Broken(f"its process ended with {how}", killed=code == -signal.SIGKILL))
            return
        *lines, self._left = (self._left + chunk).split(b"\n")
        self._events += [messages.read(line) for line in lines]

    def _close(self) -> None:
        for descriptor in (self._received, self._sent):
            os.close(descriptor)
        if self._output is not None:
            self._output.close()
            self._output = None
        self._process, self._sent, self._received = None, -1, -1
        self._events.clear()


class UnreadyError(Exception):
    """The user's code is not there, or not as it should be; the message is for people."""
