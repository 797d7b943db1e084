"""Labels as people keep them, and the classes 0 ... C-1 that they plainly mean.

Shape suffixes: N = images, C = classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from hpsearch.datasets.images import Array, Labels
from hpsearch.errors import DataError

Form = Literal["integers", "floats", "booleans", "text", "one-hot"]

ALLOWED = "Allowed: one label an image, as integers, text, or a row with a single 1 among zeros"
MAX_SHOWN = 12  # labels in a message
LARGEST = 2**53  # whole numbers up to here are exact as floats


@dataclass(frozen=True, eq=False)
class Classes:
    """The classes of a data set, as the labels of its training split say: `values` (C) are the labels as they stood."""

    values: Array
    names: tuple[str, ...]
    notes: tuple[str, ...]

    def number(self, y: Array, name: str) -> Labels:
        """N in int64, 0 ... C-1, of labels in any form; a split may lack classes.

        Raises:
            DataError: one of them is no label, or not of these classes.
        """
        plain_N, _ = _plain(y, name)
        order_C = np.argsort(self.values)
        sorted_C = self.values[order_C]
        if sorted_C.dtype.kind == plain_N.dtype.kind:
            place_N = np.minimum(np.searchsorted(sorted_C, plain_N), len(sorted_C) - 1)
            known_N = sorted_C[place_N] == plain_N
        else:  # text among numbers
            place_N, known_N = np.zeros(len(plain_N), np.int64), np.zeros(len(plain_N), bool)
        if not known_N.all():
            row = int(np.argmin(known_N))
            raise _no_label(name, row, plain_N[row].item(), f"Allowed: {_listed(self.values)}.")
        return order_C[place_N].astype(np.int64)


def read_classes(y: Array, name: str, class_names: Array | None = None, where: str = "") -> Classes:
    """The classes of a training split whose labels are integers, whole floats, booleans, text or one-hot.

    Integers with gaps, or that begin elsewhere than at 0, are classes in their order. Class names are the labels
    themselves, unless `class_names` has others: one for each label that there is, in their order; or one for each
    number from 0, where those of numbers without an image are left out. With labels that are text, `class_names` says
    the order. What was not plain numbers from 0 is said in the notes.

    Raises:
        DataError: what the labels mean is not plain: fractions, several a row, negative ones (but -1 beside 1 alone),
            a single one beyond a gap, almost as many as images. Or names and labels do not fit each other.
    """
    plain_N, form = _plain(y, name)
    values_C, first_C, counts_C = np.unique(plain_N, return_index=True, return_counts=True)
    given = _names(class_names, where)
    notes = []
    if form == "text":
        if given is None and 2 * len(values_C) > len(plain_N):
            raise DataError(
                f"{name} holds {len(values_C)} different texts for {len(plain_N)} images.\n"
                "Allowed: names of classes, for two images or more each; or class_names beside them."
            )
        notes.append(f"the labels are text: {len(values_C)} classes, from {values_C[0]!s} to {values_C[-1]!s}")
    else:
        _check_numbers(name, form, values_C, first_C, counts_C, named=given is not None)
        notes += _numbers_note(form, values_C)
    if given is None:
        names = [str(bool(v)) if form == "booleans" else str(v) for v in values_C.tolist()]
        return Classes(values_C, tuple(names), tuple(notes))
    if form == "text":
        values_C, names = _named_by_text(values_C, given, name, first_C, where)
    else:
        names = _named_by_number(values_C, given, name, where)
    if left_out := len(given) - len(names):
        notes.append(f"{left_out} of {len(given)} class_names have no image and are left out")
    return Classes(values_C, tuple(names), tuple(notes))


def _plain(y: Array, name: str) -> tuple[Array, Form]:
    """N in int64 or text, and the form that they came in."""
    y = y.astype(y.dtype.newbyteorder("="), copy=False) if y.dtype.kind in "iufUS" else y
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim == 2 and len(y) and y.shape[1] > 1 and y.dtype.kind in "biuf":
        ones_NC = y == 1
        good_N = (ones_NC | (y == 0)).all(1) & (ones_NC.sum(1) == 1)
        if not good_N.all():
            row = int(np.argmin(good_N))
            raise _no_label(name, row, y[row, :MAX_SHOWN].tolist(), f"{ALLOWED}.")
        return ones_NC.argmax(1), "one-hot"
    if y.ndim != 1 or not len(y):
        raise DataError(f"{name} holds {y.dtype} in shape {y.shape}.\n{ALLOWED}.")
    match y.dtype.kind:
        case "b":
            return y.astype(np.int64), "booleans"
        case "i" | "u":
            return _checked(y, y.astype(np.float64) < 2.0**63, name).astype(np.int64), "integers"
        case "f":
            with np.errstate(invalid="ignore"):
                whole_N = (np.abs(y) <= LARGEST) & (np.floor(y) == y)
            return _checked(y, whole_N, name).astype(np.int64), "floats"
        case "S":
            y = np.array([_decoded(text, name, row) for row, text in enumerate(y.tolist())])
            return _checked(y, y != "", name), "text"
        case "U" | "T":
            y = np.array(y.tolist(), dtype=np.str_)
            return _checked(y, y != "", name), "text"
    raise DataError(f"{name} holds {y.dtype} in shape {y.shape}.\n{ALLOWED}.")


def _checked(y: Array, good_N: Array, name: str) -> Array:
    if not good_N.all():
        row = int(np.argmin(good_N))
        raise _no_label(name, row, y[row].item(), f"{ALLOWED}.")
    return y


def _decoded(text: bytes, name: str, row: int) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError:
        raise _no_label(name, row, text, "Allowed: text in UTF-8.") from None


def _no_label(name: str, row: int, value: Any, allowed: str) -> DataError:
    return DataError(f"{name}[{row}] = {value!r} is not a label.\n{allowed}")


def _check_numbers(name: str, form: Form, values_C: Array, first_C: Array, counts_C: Array, *, named: bool) -> None:
    """Whether numbers can be classes: some mean "no label", and a single one far off is a slip."""
    if values_C[0] < 0 and values_C.tolist() != [-1, 1]:
        allowed = "Allowed: 0 and above, or -1 and 1; leave images without a label out."
        raise _no_label(name, int(first_C[0]), values_C[0].item(), allowed)
    if form == "one-hot" or named or values_C[0] < 0:
        return
    gap_C = np.diff(values_C, prepend=values_C[0]) > 1
    beside_C = gap_C | np.append(gap_C[1:], False)
    if (alone_C := np.flatnonzero(beside_C & (counts_C == 1))).size:
        last = int(alone_C[-1])
        allowed = "Allowed: labels without gaps, or two images or more of each; this one is alone beside a gap."
        raise _no_label(name, int(first_C[last]), values_C[last].item(), allowed)


def _numbers_note(form: Form, values_C: Array) -> list[str]:
    num, described = len(values_C), _listed(values_C)
    match form:
        case "one-hot":
            return [f"the labels are one-hot: {num} classes, columns {described}"]
        case "booleans":
            return ["the labels are true and false: False is class 0, True is class 1"] if num == 2 else []
    floats = ["the labels are floats, all of them whole numbers"] if form == "floats" else []
    if values_C[0] == 0 and values_C[-1] == num - 1:
        return floats
    return [*floats, f"the labels {described} are taken for {num} classes that keep these names"]


def _listed(values_C: Array) -> str:
    """`0 ... 9`, or the labels one by one."""
    if values_C.dtype.kind == "i" and len(values_C) > 2 and values_C[-1] - values_C[0] == len(values_C) - 1:
        return f"{values_C[0]} ... {values_C[-1]}"
    shown = ", ".join(map(str, values_C[:MAX_SHOWN].tolist()))
    return shown if len(values_C) <= MAX_SHOWN else f"{shown}, ... {values_C[-1]}"


def _names(class_names: Array | None, where: str) -> list[str] | None:
    if class_names is None:
        return None
    if class_names.dtype.kind not in "UST" or class_names.ndim != 1:
        raise DataError(
            f"{where}class_names holds {class_names.dtype} in shape {class_names.shape}.\nAllowed: text in shape (C,)."
        )
    names = class_names.tolist()
    return [_decoded(n, f"{where}class_names", i) if isinstance(n, bytes) else str(n) for i, n in enumerate(names)]


def _named_by_number(values_C: Array, given: list[str], name: str, where: str) -> list[str]:
    if len(given) == len(values_C):
        return given
    if values_C[0] >= 0 and values_C[-1] < len(given):
        return [given[value] for value in values_C.tolist()]
    raise DataError(
        f"{where}class_names: {len(given)} given, but {name} has {len(values_C)} labels: {_listed(values_C)}.\n"
        "Allowed: a name for each label that there is, or for each number from 0."
    )


def _named_by_text(values_C: Array, given: list[str], name: str, first_C: Array, where: str) -> tuple[Array, list[str]]:
    place = {text: index for index, text in enumerate(given)}
    for value, row in zip(values_C.tolist(), first_C.tolist(), strict=True):
        if value not in place:
            raise _no_label(name, row, value, f"Allowed: those of {where}class_names, {_listed(np.array(given))}.")
    order = sorted(values_C.tolist(), key=place.__getitem__)
    return np.array(order), order
