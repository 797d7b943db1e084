"""Any program as an objective: started for each trial, and read for the values that it prints or writes."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hpsearch.config.schema.objective import EPOCH, PLACEHOLDER, ObjectiveConfig
from hpsearch.config.usercode import UserCodeError
from hpsearch.programs.calling import Report
from hpsearch.programs.gpus import visible
from hpsearch.programs.messages import Task
from hpsearch.programs.redrawn import Found, Printed, last_states
from hpsearch.results import goodness

POLL_SECONDS = 0.2  # between two looks into a file, or whether the program is over
COMPARED = 2**16  # bytes by which a file that is appended to is told from one that is written anew
GRACE_SECONDS = 2.0  # from SIGTERM to SIGKILL
LAST_LINES = 5  # of a failed program's output, in a message
LINE = re.compile(rb"([^\r\n]*)(\r\n|\n|\r(?!\Z))")  # behind a return at the end may come a new line
EPOCH_KEYS = ("epoch", "step")  # of a line of JSON


Reader = Callable[[str], Found | None]
"""Finds a value in a line."""


class KilledError(UserCodeError):
    """Somebody else killed the program, as the system does where memory runs out."""


def filled_in(objective: ObjectiveConfig, task: Task) -> list[str]:
    """The command with the values of a trial in place of their names."""
    values = {**task.params, **_of_trial(task)}
    return [
        re.sub(PLACEHOLDER, lambda found: _text(values.get(found[1], found[0])), word) for word in objective.command
    ]


def run_command(objective: ObjectiveConfig, task: Task, report: Report) -> float:
    """The best value that the program gives; its output goes where this process's output goes.

    It is of this process's group, so that it ends with it.

    Raises:
        UserCodeError: it ended with another exit code than 0, or gave no value.
        TrialEnded: `report` says so; the program has ended then.
    """
    words = filled_in(objective, task)
    environment = {**os.environ, **visible(task.device, os.environ)}
    read, values = _reader(objective), [value for _, value in task.earlier]
    watched = _file(objective, task)
    before = watched.read_bytes() if watched is not None and watched.exists() else b""
    try:
        process = subprocess.Popen(
            words, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
    except OSError as error:
        raise UserCodeError(
            f"{words[0]!r} cannot be started: {error.strerror}.\nThe command: {_shown(words)}"
        ) from None
    said: list[str] = []
    with process:
        try:
            lines = _lines(process) if watched is None else _lines_of_file(watched, before, process, said)
            for found in last_states(lines if watched is not None else _remembered(lines, said), read):
                values.append(found[0])
                report(*found)
            code = process.wait()
        finally:
            _end(process)
    if code:
        tail = "\n".join(said).rstrip()
        ending = KilledError if code == -signal.SIGKILL else UserCodeError
        raise ending(f"the program ended with {_ending(code)}.\n{tail}".rstrip())
    numbers = [value for value in values if goodness(value, objective.direction) > -float("inf")]
    if not numbers:
        raise UserCodeError(f"the program gave no value.\n{_wanted(objective)}")
    return max(numbers, key=lambda value: goodness(value, objective.direction))


def _of_trial(task: Task) -> dict[str, Any]:
    device = "cuda:0" if task.device.startswith("cuda") else task.device  # a worker's GPU is the only one that it sees
    named = {"epochs": task.epochs, "seed": task.seed, "device": device}
    return {**named, "checkpoint": task.checkpoint, "trial": task.number}


def _text(value: Any) -> str:
    """As command lines have it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ",".join(map(_text, value))
    return str(value)


def _reader(objective: ObjectiveConfig) -> Reader:
    if objective.pattern is not None:
        return _matching(re.compile(objective.pattern))
    return _json_of(objective.key or objective.metric)


def _matching(pattern: re.Pattern[str]) -> Reader:
    epoch_place = pattern.groupindex.get(EPOCH)
    value_place = next(place for place in range(1, pattern.groups + 1) if place != epoch_place)

    def read(line: str) -> Found | None:
        found = pattern.search(line)
        if found is None or found[value_place] is None:
            return None
        epoch = found[epoch_place] if epoch_place is not None else None
        with contextlib.suppress(ValueError):
            return float(found[value_place]), int(epoch) if epoch is not None else None
        return None

    return read


def _json_of(key: str) -> Reader:
    def read(line: str) -> Found | None:
        text = line.strip()
        if not text.startswith("{"):
            return None
        try:
            said = json.loads(text)
        except ValueError:
            return None
        value = said.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        epochs = (said.get(name) for name in EPOCH_KEYS)
        return float(value), next((e for e in epochs if isinstance(e, int) and not isinstance(e, bool)), None)

    return read


def _remembered(printed: Iterator[Printed], said: list[str]) -> Iterator[Printed]:
    """The same; `said` has the last lines, each as it was drawn last."""
    is_redrawn = False
    for each in printed:
        if each.text:
            said[:] = [*(said[:-1] if is_redrawn else said), each.text][-LAST_LINES:]
        is_redrawn = each.is_redrawn and bool(each.text or is_redrawn)
        yield each


def _lines(process: subprocess.Popen[bytes]) -> Iterator[Printed]:
    """What the program prints, passed on as it comes.

    It is over when the program is: what it has left behind may hold its output open.
    """
    assert process.stdout is not None
    left, output = b"", process.stdout.fileno()
    while True:
        is_over = process.poll() is not None
        if not select.select([output], [], [], 0 if is_over else POLL_SECONDS)[0]:
            if is_over:
                break
            continue
        if not (chunk := os.read(output, 2**16)):
            break
        _pass_on(chunk)
        data, place = left + chunk, 0
        for found in LINE.finditer(data):
            yield Printed(found[1].decode(errors="replace"), is_redrawn=found[2] == b"\r")
            place = found.end()
        left = data[place:]
    if left:
        yield Printed(left.decode(errors="replace"))


def _lines_of_file(path: Path, before: bytes, process: subprocess.Popen[bytes], said: list[str]) -> Iterator[Printed]:
    """What the program writes to a file that was `before`; what it prints is passed on."""

    def pass_on() -> None:
        for _ in _remembered(_lines(process), said):
            pass

    printing = threading.Thread(target=pass_on, daemon=True)
    printing.start()
    place, left, is_over = len(before), b"", False
    before = before[:COMPARED]
    while not is_over:
        is_over = process.poll() is not None  # before the look: what was written by then is seen
        if path.exists():
            with path.open("rb") as file:
                if file.read(len(before)) != before or path.stat().st_size < place:  # written anew, not appended to
                    place, left, before = 0, b"", b""
                file.seek(place)
                *whole, left = (left + file.read()).split(b"\n")
                place = file.tell()
            yield from (Printed(line.decode(errors="replace")) for line in whole)
        if not is_over:
            time.sleep(POLL_SECONDS)
    if left:
        yield Printed(left.decode(errors="replace"))
    printing.join(POLL_SECONDS)


def _file(objective: ObjectiveConfig, task: Task) -> Path | None:
    if objective.file is None:
        return None
    values = {**task.params, **_of_trial(task)}
    return Path(re.sub(PLACEHOLDER, lambda found: _text(values.get(found[1], found[0])), objective.file))


def _pass_on(chunk: bytes) -> None:
    with contextlib.suppress(OSError):  # a full disk ends no trial
        sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()


def _end(process: subprocess.Popen[bytes]) -> None:
    """End it, and what it has left behind: all of this process's group, if it leads one, but this process."""
    if os.getpgrp() == os.getpid():
        before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.killpg(0, signal.SIGTERM)
        signal.signal(signal.SIGTERM, before)
    elif process.poll() is None:
        process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(GRACE_SECONDS)
    if process.poll() is None:
        process.kill()


def _ending(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _shown(words: list[str]) -> str:
    return " ".join(words)


def _wanted(objective: ObjectiveConfig) -> str:
    where = f"the file {objective.file}" if objective.file is not None else "its output"
    if objective.pattern is not None:
        return f"No line of {where} fits {objective.pattern!r}."
    return f'{where[:1].upper()}{where[1:]} has no line of JSON with {{"{objective.key or objective.metric}": NUMBER}}.'
