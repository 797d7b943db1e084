"""What stages are called, one after the other."""

from __future__ import annotations

import re
from collections.abc import Collection


def fine_name(source: str) -> str:
    """`coarse` -> `fine`, `fine` -> `fine-2`, `fine-2` -> `fine-3`, `mnist-coarse` -> `mnist-fine`, `x` -> `x-fine`."""
    if match := re.fullmatch(r"((?:.*-)?fine)(?:-(\d+))?", source):
        return f"{match[1]}-{int(match[2] or 1) + 1}"
    if match := re.fullmatch(r"((?:.*-)?)coarse((?:-.*)?)", source):
        return f"{match[1]}fine{match[2]}"
    return f"{source}-fine"


def next_name(name: str, taken: Collection[str]) -> str:
    """`train` -> `train-2`, `train-2` -> `train-3`: the first that no study has."""
    stem, sign, number = name.rpartition("-")
    if not (sign and number.isdecimal()):
        stem, number = name, "1"
    count = int(number) + 1
    while f"{stem}-{count}" in taken:
        count += 1
    return f"{stem}-{count}"
