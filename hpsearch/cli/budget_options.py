"""Options for the budget of a stage: how much it trains, and who proposes. Groups as in `option_groups`."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Any, ClassVar

import typer

from hpsearch.cli.grouped_options import OptionGroup
from hpsearch.cli.options import assignments
from hpsearch.errors import ConfigError


@dataclass(frozen=True)
class Budget(OptionGroup):
    """How much a stage trains, and who proposes."""

    PANEL: ClassVar[str] = "Budget"

    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs of each trial.")] = None
    trials: Annotated[int | None, typer.Option(min=1, help="The budget: exactly so many trials.")] = None
    sampler: Annotated[str | None, typer.Option(help="random, qmc, grid, tpe, gp, cmaes or auto.")] = None
    pruner: Annotated[
        str | None, typer.Option(help="none, extrapolation, or one of Optuna's: median, hyperband, ...")
    ] = None

    def flags(self, stage: str) -> dict[str, Any]:
        """By the keys of a stage that they set."""
        return {f"{stage}.{field.name}": getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True)
class BudgetFromValues(Budget):
    """How much a stage trains, what it tries first, and who proposes the rest."""

    enqueue: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE,...", help="Values to try first: lr=0.1,reg=1e-3; one trial. Repeatable."),
    ] = None

    def flags(self, stage: str) -> dict[str, Any]:
        """By the keys of a stage that they set."""
        given = [assignments(text) for text in self.enqueue] if self.enqueue else None
        return {**super().flags(stage), f"{stage}.enqueue": given}


@dataclass(frozen=True)
class StageBudget(BudgetFromValues):
    """How much a stage trains, who proposes, and what is done at its end."""

    repeat_best: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="At the end, train the N best again, with other seeds: the mean counts."),
    ] = None
    halving: Annotated[
        str | None, typer.Option(metavar="HOW", help="At epochs' ends, stop or promote the best: none, stop, promote.")
    ] = None
    epochs_budget: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Exactly so many epochs over all trials, of which as many as fit."),
    ] = None

    def flags(self, stage: str) -> dict[str, Any]:
        """By the keys of a stage that they set.

        Raises:
            ConfigError: there are two budgets.
        """
        if self.trials is not None and self.epochs_budget is not None:
            raise ConfigError(
                f"--trials {self.trials} and --epochs-budget {self.epochs_budget} are two budgets.\n"
                "Allowed: one of them."
            )
        return super().flags(stage)


@dataclass(frozen=True)
class KeptBudget(StageBudget):
    """The same of nets, whose states can be kept."""

    keep_top: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Keep the states of the N best trials, for fine --continue-top."),
    ] = None
