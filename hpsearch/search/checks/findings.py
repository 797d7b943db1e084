"""What the checks before a search find: plain values, no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from hpsearch.errors import RefusedError
from hpsearch.results import plain

Outcome = Literal["ok", "note", "failed"]
UNSAID = ("data", "net")  # in a line, unless they fail


def four_digits(value: float) -> float | str:
    """For JSON, as far as it says something."""
    rounded: float | str = plain(float(f"{value:.4g}"))
    return rounded


@dataclass(frozen=True)
class Finding:
    """One check: how it ended, what was seen, what to do.

    A note is worth a look and stops nothing; a failed check stops a search.
    """

    name: str
    outcome: Outcome
    text: str
    """What was seen, for a line that says which check it is."""
    advice: str = ""
    """What to do, naming keys of the study file; empty where there is nothing to do."""
    measured: Mapping[str, Any] = field(default_factory=dict)
    """The numbers behind it, plain JSON."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "name": self.name,
            "outcome": self.outcome,
            "text": self.text,
            "advice": self.advice,
            "measured": dict(self.measured),
        }


@dataclass(frozen=True)
class CheckReport:
    """All findings, in the order of the checks."""

    findings: tuple[Finding, ...]

    @property
    def failed(self) -> list[Finding]:
        """Those that stop a search."""
        return [finding for finding in self.findings if finding.outcome == "failed"]

    @property
    def ok(self) -> bool:
        """Whether a search may start."""
        return not self.failed

    def __getitem__(self, name: str) -> Finding:
        return next(finding for finding in self.findings if finding.name == name)

    def line(self) -> str:
        """The checks as one line: `initial loss 2.304 (ln 10 = 2.303; allowed 1.15 to 11.5) ok · ...`."""
        shown = [each for each in self.findings if each.name not in UNSAID or each.outcome == "failed"]
        return " · ".join(f"{finding.text} {finding.outcome}" for finding in shown)

    def as_dict(self) -> dict[str, Any]:
        """For JSON, and for the attribute of a study."""
        return {"ok": self.ok, "findings": [finding.as_dict() for finding in self.findings]}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> CheckReport:
        """The report that `as_dict` gave."""
        return cls(tuple(Finding(**finding) for finding in plain["findings"]))

    def refuse_if_failed(self) -> None:
        """Let no search start on what cannot work.

        Raises:
            RefusedError: a check failed; says which, and what to do.
        """
        if self.ok:
            return
        first, *others = self.failed
        more = f" ({', '.join(other.name for other in others)} failed, too)" if others else ""
        raise RefusedError(
            f"the check {first.name!r} failed: {first.text}{more}.\n"
            f"{first.advice[:1].upper()}{first.advice[1:]}; or search anyway with --skip-checks."
        )
