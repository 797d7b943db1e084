"""What an advice is: what to do, why, and the command for it; for a terminal, a page, or as JSON."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from hpsearch.errors import with_options


@dataclass(frozen=True)
class Advice:
    """What to do, why, and the command for it."""

    text: str
    words: tuple[str, ...] | None = None
    """The command, word for word; None where there is none."""
    go_on: bool | None = None
    """Whether to search on; None where that is not the question yet."""
    reason: str = ""
    """Why to search on, or to stop."""
    other_text: str = ""
    """What else there is to do, and when."""
    other_words: tuple[str, ...] | None = None
    search: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)
    """The config of the new search that `words` begin."""

    @property
    def command(self) -> str | None:
        """As it is typed."""
        return shlex.join(self.words) if self.words is not None else None

    @property
    def other_command(self) -> str | None:
        """As it is typed."""
        return shlex.join(self.other_words) if self.other_words is not None else None

    @property
    def sentence(self) -> str:
        """Reason and advice as running text."""
        begins = {True: "Search on: ", False: "Stop searching: ", None: ""}[self.go_on]
        said = [f"{begins}{self.reason}" if self.reason else "", self.text]
        return " ".join(_sentence(part) for part in said if part)

    @property
    def other_sentence(self) -> str:
        """What else there is to do, as running text."""
        return _sentence(self.other_text) if self.other_text else ""

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "go_on": self.go_on,
            "reason": self.reason or None,
            "advice": self.text or None,
            "next": self.command,
            "otherwise": self.other_command,
        }

    def at(self, storage: str | None) -> Advice:
        """The same with commands that find a storage which is not the default one."""
        if storage is None:
            return self
        places = {"words": self.words, "other_words": self.other_words}
        option = ("--storage", storage)
        named = {n: tuple(with_options(w, option)) if w and w[1] != "data" else w for n, w in places.items()}
        return replace(self, **named)  # type: ignore[arg-type]


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith(('.', '?')) else '.'}"
