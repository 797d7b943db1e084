"""csv:FILE - images by a table of their paths and labels; and folders whose metadata.csv or .jsonl is such a table.

Relative paths start at the table's folder. The draw of the test share depends on labels and paths alone, in any order.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from typing_extensions import override

from hpsearch.config import DataConfig
from hpsearch.config.data_sources import REGEX
from hpsearch.datasets import notes
from hpsearch.datasets.groups import groups_by_name
from hpsearch.datasets.image_files import ImageFiles, left_out
from hpsearch.datasets.images import Progress
from hpsearch.datasets.layout import SPLITS, splits_among
from hpsearch.datasets.listing import Listing, readable, subfolders
from hpsearch.datasets.tables import NAMES, Table, first_of, read_table
from hpsearch.errors import ConfigError, DataError

METADATA = ("metadata.csv", "metadata.jsonl")
MAX_NAMED = 5  # missing files in a message


class Row(NamedTuple):
    """One image of a table."""

    line: int
    path: Path
    label: str
    split: str
    group: str | None


class Columns(NamedTuple):
    """Where a table has what is looked for."""

    path: str
    label: str
    split: str | None
    group: str | None


class Tabled(ImageFiles):
    """The images of a table, or of several that each have one split; `root` is what the paths have in common.

    Args:
        tables: files, by the split that they are for; "" where their rows say, or all are to train on.
        root: the folder.
        config: `data.csv` and `data.group` name columns.
        data_dir: below which decoded images are kept.
        progress: hears how far decoding is.
    """

    def __init__(
        self,
        tables: Mapping[str, Path],
        root: Path,
        config: DataConfig,
        data_dir: Path,
        progress: Progress | None = None,
    ) -> None:
        super().__init__(next(iter(tables.values())), root, config, data_dir, progress)
        self.tables = tables
        self.description = f"images listed in {self.path}"

    @cached_property
    def class_names(self) -> tuple[str, ...]:  # type: ignore[override]
        """The labels of the training images, as numbers where all are, else as text, sorted.

        Raises:
            DataError: the tables cannot be read, or have fewer than two.
        """
        labels = {row.label for row in self._rows if row.split == "train"}
        if len(labels) < 2:
            raise DataError(f"{self.path} has {len(labels)} label to train on.\nAllowed: at least 2.")
        whole = all(label.isdecimal() for label in labels)
        return tuple(sorted(labels, key=(lambda label: (int(label), label)) if whole else None))

    @override
    def _found(self) -> dict[str, Listing]:
        place = {name: label for label, name in enumerate(self.class_names)}
        readable({row.path.suffix.lower() for row in self._rows})
        found = {}
        for split in SPLITS:
            rows = [row for row in self._rows if row.split == split]
            if unknown := next((row for row in rows if row.label not in place), None):
                raise DataError(
                    f"{self.path}, line {unknown.line}: label {unknown.label!r} has no image to train on.\n"
                    f"Allowed: {', '.join(self.class_names)}."
                )
            if rows:
                rows.sort(key=lambda row: (place[row.label], self._relative(row.path)))
                labels = np.array([place[row.label] for row in rows], dtype=np.int64)
                groups = [row.group for row in rows if row.group is not None]
                found[split] = Listing([row.path for row in rows], labels, Counter(), groups or None)
        return found

    def as_csv(self) -> Mapping[str, str | None] | None:
        """How the csv module reads it: file, encoding, delimiter, and the columns path, label and split.

        None where that does not say it all: of lines of JSON, several tables, splits that paths say.
        """
        [(of_table, table, columns), *others] = self._read
        splits = {row.split for row in self._rows}
        if others or of_table or (columns.split is None and splits != {"train"}) or table.delimiter is None:
            return None
        return {
            "file": str(table.path),
            "encoding": table.encoding,
            "delimiter": table.delimiter,
            "path": columns.path,
            "label": columns.label,
            "split": columns.split,
        }

    @override
    def _split_notes(self, found: Mapping[str, Listing]) -> Sequence[str]:
        lines = []
        if "val" in found:
            num_without = len(self.class_names) - len(np.unique(found["val"].y))
            lines.append(notes.hold_out_note("", len(found["val"].y), num_without))
        if "test" not in found:
            lines.append(notes.test_share_note(""))
        return lines

    @override
    def _other_notes(self, found: Mapping[str, Listing]) -> Sequence[str]:
        return [notes.columns_note(self.path.name, self._columns._asdict()), left_out(found)]

    @cached_property
    def _read(self) -> list[tuple[str, Table, Columns]]:
        own = self.config.csv
        named = [own.path, own.label, own.split, own.group, self.config.group]
        tables = [(split, read_table(path, [name for name in named if name])) for split, path in self.tables.items()]
        return [(split, table, self._columns_of(table)) for split, table in tables]

    @property
    def _columns(self) -> Columns:
        return self._read[0][2]

    def _columns_of(self, table: Table) -> Columns:
        """Where the paths, labels, splits and groups of a table are.

        Raises:
            ConfigError: data.group and data.csv.group are two.
            DataError: there is no such column, or none that is called as one of its kind.
        """
        own = self.config.csv
        group = None if (self.config.group or "").startswith(REGEX) else self.config.group
        if self.config.group and own.group and self.config.group != own.group:
            raise ConfigError(
                f"data.group = {self.config.group!r} and data.csv.group = {own.group!r} are two.\nAllowed: one of them."
            )
        found = {"path": table.column("path", own.path), "label": table.column("label", own.label)}
        for kind, column in found.items():
            if column is None:
                raise DataError(
                    f"{table.path} has no column that is called {', '.join(NAMES[kind])}.\n"
                    f"It has: {', '.join(map(repr, table.columns))}; data.csv.{kind} names one."
                )
        path, label = found["path"] or "", found["label"] or ""
        split = None if own.split == "none" else table.column("split", own.split)
        given = group or own.group
        if given == "none" or (self.config.group and group is None):
            return Columns(path, label, split, None)
        return Columns(path, label, split, table.column("group", given))

    @cached_property
    def _rows(self) -> list[Row]:
        """Of all tables, checked.

        Raises:
            DataError: a path, label, split or group is missing, or a file is not there, or is named twice.
        """
        rows = [row for split, table, columns in self._read for row in self._rows_of(split, table, columns)]
        known: dict[str, Row] = {}
        for row in rows:
            first = known.setdefault(os.path.normpath(row.path), row)
            if first is not row:
                raise DataError(
                    f"{self.path}, line {row.line} names {row.path} again, as line {first.line} does.\n"
                    "Allowed: each image once, or it might be in two splits."
                )
        if missing := [row for row in rows if not _is_file(row.path)]:
            shown = "; ".join(f"line {row.line}: {row.path}" for row in missing[:MAX_NAMED])
            more = "; ..." if len(missing) > MAX_NAMED else ""
            what = "1 file is" if len(missing) == 1 else f"{len(missing):,} files are"
            raise DataError(
                f"{self.path}: {what} not there ({shown}{more}).\nRelative paths start at {self.path.parent}/."
            )
        if not any(row.split == "train" for row in rows):
            raise DataError(f"{self.path} has no image to train on.\nAllowed: rows whose split is train.")
        if (self.config.group or "").startswith(REGEX):
            groups = groups_by_name(self.config.group or "", [row.path for row in rows])
            rows = [row._replace(group=group) for row, group in zip(rows, groups, strict=True)]
        return rows

    def _rows_of(self, of_table: str, table: Table, columns: Columns) -> list[Row]:
        paths = [row[columns.path] for _, row in table.rows]
        # As in a folder: train/cat/1.jpg is to train on, if no column says so.
        tops = [Path(path).parts[0] if len(Path(path).parts) > 1 else "" for path in paths]
        by_top = {top: split for split, names in splits_among(set(tops)).items() for top in names}
        if "train" not in by_top.values():
            by_top = {}
        rows = []
        for (line, row), top in zip(table.rows, tops, strict=True):
            for kind, column in columns._asdict().items():
                if column is not None and not row[column]:
                    raise DataError(f"{table.path}, line {line} has no {kind}: column {column!r} is empty.")
            split = of_table or by_top.get(top, "train")
            if columns.split is not None and not of_table:
                split = _split(row[columns.split], columns.split, table.path, line)
            group = None if columns.group is None else row[columns.group]
            rows.append(Row(line, table.path.parent / row[columns.path], row[columns.label], split, group))
        return rows


def metadata_tables(folder: Path) -> dict[str, Path]:
    """Tables with the labels of a folder's images, by split; empty where its folders are the classes.

    As Hugging Face's image folders have them: one in the folder itself, or one in the folder of each split.

    Raises:
        DataError: one cannot be read.
    """
    places = {"": folder}
    names = splits_among(subfolders(folder))
    places |= {split: folder / several[0] for split, several in names.items() if len(several) == 1}
    found = {split: each / name for split, each in places.items() for name in METADATA if (each / name).is_file()}
    found = {split: path for split, path in found.items() if _has_labels(path)}
    if "" in found:
        return {"": found[""]}
    return found if "train" in found else {}


def _has_labels(path: Path) -> bool:
    columns = read_table(path).columns
    return "file_name" in columns and first_of("label", columns) is not None


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # as of a name that is too long
        return False


def _split(value: str, column: str, path: Path, line: int) -> str:
    found = splits_among([value])
    if not found:
        known = ", ".join(name for names in SPLITS.values() for name in names)
        raise DataError(
            f'{path}, line {line}: {column} = {value!r} is not a split.\nAllowed: {known}; or data.csv.split = "none".'
        )
    return next(iter(found))
