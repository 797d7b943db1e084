"""Tables of image files: csv and its kin, and lines of JSON. Everything is text; each row knows its line.

A delimiter is what lets the wanted columns be found; a byte order mark says how the text is coded, else it is UTF-8.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hpsearch.errors import DataError

DELIMITERS = (",", ";", "\t", "|")
BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
NAMES: Mapping[str, Sequence[str]] = {
    "path": (
        "path", "file_name", "filename", "file", "file_path", "filepath",
        "image", "image_path", "img_path", "image_file",
    ),
    "label": ("label", "class", "target", "category", "class_name", "label_name", "labels", "diagnosis", "y"),
    "split": ("split", "subset", "partition"),
    "group": ("group", "group_id", "patient", "patient_id", "subject", "subject_id"),
}  # fmt: skip
"""Of the columns that are looked for, by what is in them; in any case, the first that is there."""


@dataclass(frozen=True)
class Table:
    """Rows of text, with the line that each begins on."""

    path: Path
    columns: Sequence[str]
    rows: Sequence[tuple[int, Mapping[str, str]]]
    encoding: str = "utf-8"
    delimiter: str | None = None
    """Of a csv file."""

    def column(self, kind: str, given: str | None) -> str | None:
        """The column that is given, or the first one that is called as one of its kind; None if there is none.

        Raises:
            DataError: the one that is given is not there.
        """
        if given is None:
            return first_of(kind, self.columns)
        if given not in self.columns:
            raise DataError(f"{self.path} has no column {given!r}.\nIt has: {', '.join(map(repr, self.columns))}.")
        return given


def first_of(kind: str, columns: Sequence[str]) -> str | None:
    """The first name of its kind that is among the columns."""
    by_name = {column.strip().casefold(): column for column in reversed(columns)}
    return next((by_name[name] for name in NAMES[kind] if name in by_name), None)


def read_table(path: Path, wanted: Sequence[str] = ()) -> Table:
    """The table in a file: lines of JSON where it is called .jsonl, else columns with a header.

    `wanted` are columns that must be there: they tell which delimiter it is, as do those that are called as usual.

    Raises:
        DataError: it cannot be read, or is no table.
    """
    text, encoding = _text(path)
    is_json = path.suffix.lower() in (".jsonl", ".ndjson")
    table = _from_json(path, text) if is_json else _from_csv(path, text, wanted)
    return replace(table, encoding=encoding)


def _text(path: Path) -> tuple[str, str]:
    """What is in a file, and its encoding."""
    try:
        content = path.read_bytes()
    except OSError as error:
        hint = f"Say folder:{path} for a folder of images." if path.is_dir() else "Allowed: a file that may be read."
        raise DataError(f"{path} cannot be read: {error.strerror}.\n{hint}") from error
    coding = next((coding for mark, coding in BOMS if content.startswith(mark)), "utf-8")
    try:
        return content.decode(coding), coding
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}, line {line} is no text in UTF-8.\nAllowed: UTF-8, or UTF-16 with its mark."
        ) from error


def _from_csv(path: Path, text: str, wanted: Sequence[str]) -> Table:
    head = text.lstrip("\r\n").splitlines()[:1]

    def found(delimiter: str) -> tuple[int, int]:
        columns = next(csv.reader(head, delimiter=delimiter), [])
        names = [column.strip() for column in columns]
        known = sum(name in names for name in wanted) + sum(first_of(kind, names) is not None for kind in NAMES)
        return known, len(names)

    delimiter = max(DELIMITERS, key=found)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    columns: list[str] = []
    rows: list[tuple[int, dict[str, str]]] = []
    begins = 1
    try:
        for fields in reader:
            at, begins = begins, reader.line_num + 1
            if not any(field.strip() for field in fields):
                continue
            if not columns:
                columns = [field.strip() for field in fields]
            elif len(fields) != len(columns):
                raise DataError(
                    f"{path}, line {at} has {len(fields)} fields for {len(columns)} columns.\n"
                    'Allowed: as many; a field with a delimiter in it stands in quotes, "a, b".'
                )
            else:
                rows.append((at, dict(zip(columns, map(str.strip, fields), strict=True))))
    except csv.Error as error:
        raise DataError(
            f"{path}, line {reader.line_num} cannot be read: {error}.\nAllowed: quotes that end."
        ) from error
    return replace(_checked(path, columns, rows), delimiter=delimiter)


def _from_json(path: Path, text: str) -> Table:
    columns: dict[str, None] = {}
    rows: list[tuple[int, dict[str, str]]] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}, line {number} is no JSON: {error}.") from error
        if not isinstance(row, dict):
            raise DataError(f"{path}, line {number} is no object.\nAllowed: a line such as {{...}} for each image.")
        rows.append((number, {key: _plain(value) for key, value in row.items()}))
        columns |= dict.fromkeys(row)
    filled = [(number, dict.fromkeys(columns, "") | row) for number, row in rows]
    return _checked(path, list(columns), filled)


def _plain(value: Any) -> str:
    """A value of JSON as a column would have it; what is missing is empty."""
    if value is None:
        return ""
    return value.strip() if isinstance(value, str) else json.dumps(value)


def _checked(path: Path, columns: Sequence[str], rows: Sequence[tuple[int, Mapping[str, str]]]) -> Table:
    if twice := sorted({column for column in columns if columns.count(column) > 1}):
        raise DataError(f"{path} has two columns {twice[0]!r}.\nAllowed: one of each name.")
    if not rows:
        raise DataError(f"{path} has no rows.\nAllowed: a line with the names of columns, and one for each image.")
    return Table(path, columns, rows)
