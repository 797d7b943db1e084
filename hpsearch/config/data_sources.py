"""What data.source may be, decided here alone: images of ours by name, a folder, a table, an npz file, a function.

A prefix is never a module: `folder:photos` is a path, however much it looks like MODULE:FUNCTION.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeAlias

SOURCES = ("digits", "faces", "cifar10", "cifar100", "mnist", "fashion-mnist", "svhn", "synthetic")
FOLDER, CSV, NPZ, FUNCTION = "folder:PATH", "csv:PATH", "npz:PATH", "MODULE:FUNCTION"
KINDS = (*SOURCES, FOLDER, CSV, NPZ, FUNCTION)
"""All forms of data.source, as they are shown."""

NOT_YET = {
    "torchvision": "data sets by torchvision's names",
    "hf": "data sets and nets of the Hugging Face hub",
}
"""Prefixes that are kept free, and what they will stand for."""

FOR_NETS = "timm"
"""A prefix of nets alone, see `config.net_names`."""

PREFIXES = ("folder", "csv", "npz", FOR_NETS, *NOT_YET)

REGEX = "regex:"
"""What an expression for file names begins with, where a column could be named as well."""


@dataclass(frozen=True, slots=True)
class Named:
    """Images that come with a package, are downloaded, or are made up."""

    name: str

    @property
    def kind(self) -> str:
        """One of KINDS."""
        return self.name

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class FolderPath:
    """One folder of images per class; `path` as the user wrote it, without what makes no difference (`./`, `//`)."""

    path: str
    kind = FOLDER

    def __str__(self) -> str:
        return f"folder:{self.path}"


@dataclass(frozen=True, slots=True)
class CsvPath:
    """A table of image files with their labels; `path` as for a folder."""

    path: str
    kind = CSV

    def __str__(self) -> str:
        return f"csv:{self.path}"


@dataclass(frozen=True, slots=True)
class NpzPath:
    """Arrays in a file; `path` as for a folder."""

    path: str
    kind = NPZ

    def __str__(self) -> str:
        return f"npz:{self.path}"


@dataclass(frozen=True, slots=True)
class UserFunction:
    """The user's own code; see `config.usercode`."""

    name: str
    kind = FUNCTION

    def __str__(self) -> str:
        return self.name


DataSource: TypeAlias = Named | FolderPath | CsvPath | NpzPath | UserFunction

PATHS: dict[str, type[FolderPath | CsvPath | NpzPath]] = {"folder": FolderPath, "csv": CsvPath, "npz": NpzPath}


def parse_source(text: str) -> DataSource:
    """What a data.source names. `str()` of it is the one way to write it: `folder:./photos/` is `folder:photos`.

    A relative path stays relative, so that a folder with images, study files and database can move as a whole, and
    `..` stays as well: it may lead through a link.

    Raises:
        ValueError: it is none of KINDS; the message says what is allowed.
    """
    prefix, sign, path = text.partition(":")
    if sign and (kind := prefix.lower()) in PREFIXES:
        if kind in NOT_YET:
            raise ValueError(not_yet(kind))
        if kind == FOR_NETS:
            raise ValueError(f"allowed: {', '.join(KINDS)}; {kind}: is for model.name")
        plain = str(PurePosixPath(path))
        if not path.strip() or not plain.strip():
            raise ValueError(f"allowed: {kind}:PATH, the path is missing")
        return PATHS[kind](plain)
    if text in SOURCES:
        return Named(text)
    if is_user_code(text):
        return UserFunction(text)
    raise ValueError(f"allowed: {', '.join(KINDS)}")


def is_user_code(name: str) -> bool:
    """Whether a name has the form `dotted.module:attribute`, and no prefix for a module."""
    module, sign, attribute = name.partition(":")
    names = all(part.isidentifier() for part in (*module.split("."), attribute))
    return bool(sign) and names and module.lower() not in PREFIXES


def not_yet(prefix: str) -> str:
    """What to do instead of naming images or a net by a prefix that is not taken up yet."""
    return f"{NOT_YET[prefix]} are not there yet; MODULE:FUNCTION can return them, see docs/own-code.md"


def one_spelling(text: str) -> str:
    """A data.source as `parse_source` writes it; what is none stays as it is."""
    try:
        return str(parse_source(text))
    except ValueError:
        return text


def meant(text: str) -> str | None:
    """A folder that is there, or the name of a file, with the prefix that it lacks; None for anything else."""
    for ending, prefix in ((".npz", "npz"), (".csv", "csv"), (".tsv", "csv"), (".jsonl", "csv")):
        if text.endswith(ending):
            return f"{prefix}:{text}"
    try:
        return f"folder:{text}" if Path(text).is_dir() else None
    except (OSError, ValueError):
        return None
