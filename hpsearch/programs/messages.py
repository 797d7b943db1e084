"""What a worker and the process that runs the user's code say to each other: JSON, a line each, through two pipes."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from hpsearch.results import plain


@dataclass(frozen=True, slots=True)
class Task:
    """One trial, as the user's code is told of it."""

    number: int
    params: Mapping[str, Any] = field(default_factory=dict)
    """By the names of the space, with those that are not searched."""
    epochs: int = 1
    seed: int = 0
    device: str = "cpu"
    checkpoint: str = ""
    """A folder of the trial, which later attempts find as this one left it."""
    earlier: tuple[tuple[int, float], ...] = ()
    """What an attempt that this one goes on from has reported: epochs and values."""
    output: str = ""
    """A file for what is printed, its beginning and its end; what is there stays."""
    study: str = ""
    """Its search."""


@dataclass(frozen=True, slots=True)
class Ready:
    """The user's code is there."""

    takes: tuple[str, ...] = ()
    """What it is given by name, beside the parameters."""


@dataclass(frozen=True, slots=True)
class Unready:
    """It is not, or not as it should be."""

    why: str


@dataclass(frozen=True, slots=True)
class Reported:
    """A value on the way; the code waits for an `Answer`."""

    value: float
    epoch: int


@dataclass(frozen=True, slots=True)
class Suggest:
    """The code wants a value; it waits for a `Suggested`."""

    name: str
    distribution: str
    """Of the call, as Optuna's databases hold it."""


@dataclass(frozen=True, slots=True)
class Noted:
    """What the code keeps with its trial."""

    name: str
    kept: Any


@dataclass(frozen=True, slots=True)
class Ended:
    """The trial's value."""

    value: float


@dataclass(frozen=True, slots=True)
class Broken:
    """The trial raised."""

    reason: str
    """In one line."""
    traceback: str = ""
    killed: bool = False
    """Whether its process was killed from outside, as where memory ran out: nothing that the code raised."""


@dataclass(frozen=True, slots=True)
class Left:
    """The trial ended because it was told to."""


@dataclass(frozen=True, slots=True)
class Pruned:
    """The code has ended the trial by itself, as Optuna's objectives do."""


@dataclass(frozen=True, slots=True)
class Answer:
    """To a `Reported`."""

    why: str = ""
    """Why the trial is to end; empty: it goes on."""
    advice: bool = False
    """Whether that is for the code to decide."""


@dataclass(frozen=True, slots=True)
class Suggested:
    """To a `Suggest`."""

    chosen: Any = None
    """The value, of a choice its place among those of the call."""
    wrong: str = ""
    """Why there is none; the message is for people."""


Event = Reported | Suggest | Noted | Ended | Broken | Left | Pruned
"""What a trial says."""
Message = Task | Ready | Unready | Event | Answer | Suggested
KINDS: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (Task, Ready, Unready, Reported, Suggest, Noted, Ended, Broken, Left, Pruned, Answer, Suggested)
}


def written(message: Message) -> bytes:
    """As a line."""
    return json.dumps([type(message).__name__, plain(asdict(message))]).encode() + b"\n"


def read(line: bytes | str) -> Message:
    """From such a line.

    Raises:
        ValueError: it is none.
    """
    kind, values = json.loads(line)
    if "value" in values:
        values["value"] = float(values["value"])
    if "earlier" in values:
        values["earlier"] = tuple((epoch, float(value)) for epoch, value in values["earlier"])
    found: Message = KINDS[kind](**values)
    return found


def send(descriptor: int, message: Message) -> None:
    """Write a message, all of it."""
    data = memoryview(written(message))
    while data:
        data = data[os.write(descriptor, data) :]
