"""What is searched where it is a program: the options of `hpsearch wrap` in place of those of other searches."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import typer

from hpsearch.cli.grouped_options import OptionGroup
from hpsearch.cli.option_groups import Searched


@dataclass(frozen=True)
class Wrapped(OptionGroup):
    """What a search over a program searches."""

    PANEL: ClassVar[str] = "What is searched"

    space: Annotated[
        list[str] | None, typer.Option(metavar="NAME=RANGE", help="A range: 'lr=log(1e-6,1e-3)'. Repeatable.")
    ] = None
    direction: Annotated[str, typer.Option(metavar="WHICH", help="Which values are better: maximize or minimize.")] = (
        "maximize"
    )
    file: Annotated[
        str | None, typer.Option(metavar="PATH", help="Read lines from this file that the program writes instead.")
    ] = None
    timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="A program that says nothing for so long has failed.")
    ] = None
    seed: Annotated[int | None, typer.Option(min=0, help="Draws hyperparameters; and {seed}.")] = None
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any key of the study file: objective.explosion=3."),
    ] = None

    def of(self, words: Sequence[str], metric: str, pattern: str | None) -> Searched:
        """The same for a program of these words."""
        return WrappedSearch(
            sets=self.sets,
            seed=self.seed,
            space=self.space,
            program={
                "objective.command": tuple(words),
                "objective.metric": metric,
                "objective.pattern": pattern,
                "objective.direction": self.direction,
                "objective.file": self.file,
                "objective.timeout": self.timeout,
                "objective.seed": self.seed,
            },
        )


@dataclass(frozen=True)
class WrappedSearch(Searched):
    """A search over a program. No group of options."""

    program: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def flags(self, *stages: str) -> dict[str, Any]:
        """By the keys that they set."""
        return {**{f"{stage}.seed": self.seed for stage in stages}, **self.program}
