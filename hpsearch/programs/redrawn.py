"""What a program says on lines that it draws over: a progress bar gives its last state, not each that it went through.

A bar ends with a new line; where it is wiped off (tqdm with leave=False) or begins again at a lower percentage; where
the pattern says of which epoch a value is, also where the next epoch begins.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

PERCENTAGE = re.compile(r"(\d{1,3})%")
CURSOR_UP = "\x1b[A"  # a bar below others goes back to them, so that the new line before it is drawn again is no end

Found = tuple[float, int | None]
"""A value and its epoch; None where the line does not say it."""


@dataclass(frozen=True, slots=True)
class Printed:
    """What was printed up to the end of a line, or up to where it is drawn over."""

    text: str
    is_redrawn: bool = False
    """Whether a carriage return follows: what comes next is drawn over it."""


def last_states(printed: Iterable[Printed], read: Callable[[str], Found | None]) -> Iterator[Found]:
    """The values that `read` finds: of a line that is drawn over, the last one, and the last one of each epoch."""
    held: Found | None = None
    percentage = -1
    for each in printed:
        found, now = read(each.text), _percentage(each.text)
        is_other_bar = each.is_redrawn and each.text != "" and not each.text.strip()  # wiped off
        is_other_bar = is_other_bar or (now is not None and now < percentage)
        is_other_epoch = found is not None and held is not None and found[1] != held[1]
        if held is not None and (is_other_bar or is_other_epoch):
            yield held
            held = None
        if is_other_bar:
            percentage = -1
        held = found if found is not None else held
        percentage = now if now is not None else percentage
        if not each.is_redrawn and not each.text.endswith(CURSOR_UP):
            if held is not None:
                yield held
            held, percentage = None, -1
    if held is not None:
        yield held


def _percentage(text: str) -> int | None:
    found = PERCENTAGE.search(text)
    return int(found[1]) if found is not None else None
