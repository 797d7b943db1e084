"""Everything that hpsearch raises on purpose.

A message is one or two lines that name the key or the file, the value, and what is allowed. Only the command
line turns an error into an exit code.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass


def with_options(words: Sequence[str], options: Sequence[str]) -> list[str]:
    """A command with more options: in front of a program's words, which stand behind `--`."""
    end = list(words).index("--") if "--" in words else len(words)
    return [*words[:end], *options, *words[end:]]


@dataclass(frozen=True)
class Typed:
    """A command in a message, word for word; `anew` where it begins a search."""

    words: Sequence[str]
    anew: bool = False

    def text(self, needed: Sequence[str] = ()) -> str:
        """As it is typed, with what it needs besides."""
        return shlex.join(with_options(self.words, needed))


class HpsearchError(Exception):
    """Base of all errors meant for the user: of the parts of a message, in their order."""

    needed: tuple[str, ...] = ()
    """What each command in the message needs besides, as `--storage URL`: the command line knows."""
    needed_anew: tuple[str, ...] = ()
    """The same of a command that begins a search."""

    def __init__(self, *message: str | Typed) -> None:
        super().__init__(*message)

    def __str__(self) -> str:
        return "".join(self._shown(part) if isinstance(part, Typed) else str(part) for part in self.args)

    def _shown(self, command: Typed) -> str:
        return command.text([*(self.needed_anew if command.anew else ()), *self.needed])

    exit_code = 1
    label = "error"
    """What stands before the message."""


class ConfigError(HpsearchError):
    """A study file, a flag or an environment variable says something that is not allowed."""

    exit_code = 2


class DataError(HpsearchError):
    """A data set cannot be read or is not fit to train on."""


class MissingExtraError(HpsearchError):
    """A package is missing that one of the optional features needs."""

    exit_code = 2

    def __init__(self, feature: str, package: str, extra: str) -> None:
        super().__init__(f'{feature} needs the package {package}.\nInstall it with: pip install "hpsearch[{extra}]"')


class StorageError(HpsearchError):
    """The database cannot be opened, read or written."""


class StudyNotFoundError(StorageError):
    """No study of that name is in the storage."""

    exit_code = 2


class RefusedError(HpsearchError):
    """A check or a fingerprint says no: going on would give numbers that mean something else."""

    exit_code = 3


class EngineError(HpsearchError):
    """A training engine cannot run the given model or optimizer."""
