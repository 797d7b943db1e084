"""wrap: a search over any program that takes values as arguments and says how good they were."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from hpsearch.cli.grouped_options import with_groups
from hpsearch.cli.importing import importing
from hpsearch.cli.option_groups import Output, StageBudget, Training
from hpsearch.cli.stages import DryRunOption, NameOption
from hpsearch.cli.wrapped_options import Wrapped
from hpsearch.errors import ConfigError


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


def value_of(metric: str) -> tuple[str, str | None]:
    """What the value is called, and the pattern of its lines, if it is one: with a group in parentheses, and at most
    another one, of the epoch."""
    if "(" not in metric:
        if re.search(r"[\[\]*+?^$|=]", metric):
            raise ConfigError(
                f"--metric {metric} has no group that holds the value.\n"
                r"Allowed: a regular expression with one, as 'val_acc=([0-9.]+)'; or a name in lines of JSON."
            )
        return metric, None
    if "(?P<epoch>" in metric:  # the word in front of the other group
        before = re.sub(r"\(\?P<epoch>[^()]*\)", " ", metric).partition("(")[0]
        words = re.findall(r"[A-Za-z_][\w-]*", re.sub(r"\\.", " ", before))
        return words[-1].strip("-_") or "value" if words else "value", metric
    named = re.match(r"[A-Za-z_][\w-]*", metric.lstrip("\\b^"))
    return (named[0].strip("-_") or "value") if named else "value", metric
