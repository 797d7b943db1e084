"""What stages are called, one after the other."""

from __future__ import annotations

import re


def fine_name(source: str) -> str:
    """`coarse` -> `fine`, `fine` -> `fine-2`, `fine-2` -> `fine-3`, `mnist-coarse` -> `mnist-fine`, `x` -> `x-fine`."""
    if match := re.fullmatch(r"((?:.*-)?fine)(?:-(\d+))?", source):
        return f"{match[1]}-{int(match[2] or 1) + 1}"
    if match := re.fullmatch(r"((?:.*-)?)coarse((?:-.*)?)", source):
        return f"{match[1]}fine{match[2]}"
    return f"{source}-fine"
