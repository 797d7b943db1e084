"""A script is composed of parts, each with what it needs; templates are text with what varies filled in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import jinja2

TEMPLATES = "hpsearch.search.training_script"


@dataclass(frozen=True)
class Part:
    """Some lines of a script.

    Args:
        text: the lines; empty where there is nothing to do.
        imports: lines that import what they use.
        packages: that have to be installed, beside torch and numpy.
    """

    text: str
    imports: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()


def part(template: str, *, imports: Iterable[str] = (), packages: Iterable[str] = (), **given: Any) -> Part:
    """What a template makes of these values."""
    text = _environment().get_template(f"{template}.py.jinja").render(**given)
    return Part(text.strip("\n"), tuple(imports), tuple(packages))


def tidied(text: str) -> str:
    """With two blank lines around functions and classes, and never more."""
    lines: list[str] = []
    inside = False  # of a function or class
    for line in text.splitlines():
        line = line.rstrip()
        begins = line.startswith(("def ", "class ", "@"))
        if line and not line.startswith((" ", ")", "]", "}")):
            decorated = bool(lines) and lines[-1].startswith("@")
            if (begins or inside) and lines and not decorated:
                while lines and not lines[-1]:
                    lines.pop()
                lines += ["", ""]
            inside = begins
        if line or lines[-2:] != ["", ""]:
            lines.append(line)
    return "\n".join(lines).strip("\n") + "\n"


def rows_text(rows: Iterable[int], width: int = 110) -> str:
    """Whole numbers as lines, for a list of many of them."""
    return "\n".join(f"    {line}" for line in _lines([f"{row}," for row in rows], width))


def _lines(words: Iterable[str], width: int) -> Iterator[str]:
    line = ""
    for word in words:
        if line and len(line) + len(word) >= width:
            yield line
            line = ""
        line = f"{line} {word}" if line else word
    if line:
        yield line


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader(TEMPLATES),
        autoescape=False,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
