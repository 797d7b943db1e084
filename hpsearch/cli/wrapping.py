"""wrap: a search over any program that takes values as arguments and says how good they were."""

from __future__ import annotations

from typing import Annotated

import typer

from hpsearch.cli.budget_options import StageBudget
from hpsearch.cli.grouped_options import with_groups
from hpsearch.cli.importing import importing
from hpsearch.cli.option_groups import Output, Training
from hpsearch.cli.stages import DryRunOption, NameOption
from hpsearch.cli.wrapped_options import Wrapped
from hpsearch.programs.value_pattern import value_of


@with_groups
def wrap(
    words: Annotated[
        list[str], typer.Argument(metavar="-- PROGRAM...", help="With {lr} where the value of lr belongs.")
    ],
    budget: StageBudget,
    searched: Wrapped,
    training: Training,
    output: Output,
    metric: Annotated[
        str, typer.Option(metavar="NAME|REGEX", help="The value's name in lines of JSON; or 'val_acc=([0-9.]+)'.")
    ] = "value",
    name: NameOption = "wrapped",
    dry_run: DryRunOption = False,
) -> None:
    """Search over any program: each trial starts it with other values, and reads what it prints.

    The value of a trial is the best that its program says; a program that ends with another exit code than 0 has
    failed. A bar that is drawn over and over gives its last value; `(?P<epoch>[0-9]+)` in REGEX is its epoch. {epochs},
    {seed}, {device}, {trial} and {checkpoint}, a folder that stays through kills, can stand among its words, too. A
    worker's GPU is the only one that its programs see.

    Example: `hpsearch wrap --space 'lr=log(1e-5,1)' --metric 'val_acc=([0-9.]+)' -- python train.py --lr {lr}`
    """
    with importing():
        from hpsearch.cli.searching import search_coarse

    search_coarse(
        budget,
        searched.of(words, *value_of(metric)),
        training,
        output,
        name,
        None,
        skip_checks=True,
        dry_run=dry_run,
    )
