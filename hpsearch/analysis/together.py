"""Hyperparameters that count together, as learning rate and batch where only their quotient does: kept and in words."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any

from hpsearch.analysis.stored_values import list_in, of_type
from hpsearch.wording import listed_text


@dataclass(frozen=True, slots=True)
class Together:
    """Numbers that count together, along lines that no range follows, by the trials of a study.

    Attributes:
        params: two or more, first the two that share most.
        study: whose trials show it.
    """

    params: tuple[str, ...]
    study: str

    def __str__(self) -> str:
        """`lr and batch count together, by the trials of coarse`."""
        return f"{listed_text(self.params)} count together, by the trials of {self.study}"

    @property
    def text(self) -> str:
        """The same, and what it means for who reads ranges."""
        where = "a line in the plane of both" if len(self.params) == 2 else "lines across their ranges"
        return f"{self}: no range of one alone tells good values from bad, the good ones lie along {where}"

    def among(self, params: Container[str]) -> Together | None:
        """Those of them that are there; None where fewer than two are, as one number alone counts with no other."""
        return found_together([name for name in self.params if name in params], self.study)

    def as_dict(self) -> dict[str, Any]:
        """As kept with a study, and as JSON."""
        return {"params": list(self.params), "study": self.study}


def found_together(params: Sequence[str], study: str) -> Together | None:
    """Of what was found in the trials of a study, which may be nothing."""
    return Together(tuple(params), study) if len(params) > 1 else None


def kept_together(stored: Any) -> Together | None:
    """From what `as_dict` wrote."""
    kept = of_type(dict, stored) or {}
    params, study = list_in(kept.get("params")), of_type(str, kept.get("study"))
    if study is None or not all(isinstance(name, str) for name in params):
        return None
    return found_together(params, study)
