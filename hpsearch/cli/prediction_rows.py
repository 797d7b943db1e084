"""Predictions as text, written as they come: a row of CSV an image, or one JSON document."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from typing import Any, BinaryIO

from hpsearch.analysis.export import FORMULA, safe_cell
from hpsearch.search.prediction import Prediction, Unreadable

DIGITS = 6  # of a probability


class CsvRows:
    """`file,class,probability`, with more pairs of columns where more classes are asked for.

    Names of files are their own bytes, in quotes where they need them. One that a spreadsheet would take for a formula
    gets ./ in front, and is still the same file.
    """

    def __init__(self, out: BinaryIO, num_classes: int) -> None:
        self._out = out
        more = [f"{name}_{rank}" for rank in range(2, num_classes + 1) for name in ("class", "probability")]
        self._write("file", "class", "probability", *more)

    def add(self, predictions: Iterable[Prediction]) -> None:
        """One row each."""
        for each in predictions:
            name = each.name if each.row is None else f"{each.name}[{each.row}]"
            cells = (cell for name, p in each.top for cell in (safe_cell(name), f"{p:.{DIGITS}g}"))
            self._write(f"./{name}" if name.startswith(FORMULA) else name, *cells)

    def end(self, unreadable: Iterable[Unreadable]) -> None:
        """Files without an image have no row."""

    def _write(self, *cells: str) -> None:
        row = io.StringIO()
        csv.writer(row).writerow(cells)  # ends in \r\n: only so are names quoted that hold either
        text = f"{row.getvalue().removesuffix(chr(13) + chr(10))}\n"
        self._out.write(text.encode("utf-8", errors="surrogateescape"))


class JsonRows:
    """One document; bytes of a file's name that are no UTF-8 are as Python escapes them, `os.fsencode` undoes it."""

    def __init__(self, out: BinaryIO, about: Mapping[str, Any]) -> None:
        self._out, self._first = out, True
        self._out.write(f'{json.dumps(about)[:-1]}, "predictions": ['.encode())

    def add(self, predictions: Iterable[Prediction]) -> None:
        """One object each."""
        for each in predictions:
            top = [{"class": name, "probability": float(f"{p:.{DIGITS}g}")} for name, p in each.top]
            row = {"row": each.row} if each.row is not None else {}
            more = {"top": top} if len(top) > 1 else {}
            self._out.write(b"\n" if self._first else b",\n")
            self._out.write(json.dumps({"file": each.name, **row, **top[0], **more}).encode())
            self._first = False

    def end(self, unreadable: Iterable[Unreadable]) -> None:
        """With the files that have no image."""
        failed = json.dumps([{"file": each.name, "why": each.why} for each in unreadable])
        self._out.write(f'],\n"failed": {failed}}}\n'.encode())
