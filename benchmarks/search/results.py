"""One finished search as a line of JSON, so that a run goes on where it was ended, and reads as it stands."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple


class Cell(NamedTuple):
    """What is run: one search."""

    way: str
    problem: str
    trials: int
    seed: int


@dataclass(frozen=True)
class Result:
    """What came of it.

    Attributes:
        epochs: of a whole trial.
        num_trials: that were begun.
        changes: epochs paid for, and the regret of what would be chosen from then on.
        seconds: that it took, its own and those of the problem.
    """

    way: str
    problem: str
    trials: int
    seed: int
    group: str
    epochs: int
    num_trials: int
    changes: Sequence[tuple[int, float]]
    seconds: float

    @property
    def cell(self) -> Cell:
        return Cell(self.way, self.problem, self.trials, self.seed)

    def regret(self, spent: float, before: float = 1.0) -> float:
        """After so many epochs; `before` there is anything to choose."""
        found = before
        for at, regret in self.changes:
            if at > spent:
                break
            found = regret
        return found

    def as_line(self) -> str:
        return json.dumps({**asdict(self), "changes": [(at, round(regret, 6)) for at, regret in self.changes]})


def read(file: Path) -> list[Result]:
    """Those in a file; a last line that was cut off is left out."""
    found = []
    for line in file.read_text().splitlines() if file.exists() else []:
        try:
            found.append(Result(**json.loads(line)))
        except json.JSONDecodeError:
            continue
    return found


def append(file: Path, result: Result) -> None:
    with file.open("a+") as lines:
        if lines.tell() and not file.read_bytes().endswith(b"\n"):
            lines.write("\n")  # behind one that was cut off
        lines.write(result.as_line() + "\n")


def of_ways(results: Iterable[Result], ways: Sequence[str], problems: Sequence[str]) -> list[Result]:
    return [result for result in results if result.way in ways and result.problem in problems]
