"""coarse and fine: the commands that search."""

from __future__ import annotations

from typing import Annotated

import typer

from hpsearch.cli.budget_options import KeptBudget
from hpsearch.cli.grouped_options import with_groups
from hpsearch.cli.importing import importing
from hpsearch.cli.option_groups import Output, Searched, Training

NameOption = Annotated[str | None, typer.Option(help="Name of the study.")]
SkipChecksOption = Annotated[bool, typer.Option("--skip-checks", help="Search even where the net cannot learn.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Show the plan and its estimated time; make no study.")]


@with_groups
def coarse(
    budget: KeptBudget,
    searched: Searched,
    training: Training,
    output: Output,
    name: NameOption = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="STUDY", help="Take lr's range from a check, or search around a training; and the config."
        ),
    ] = None,
    skip_checks: SkipChecksOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Search wide and short, over nets on images or, with --objective, over a function of yours; see also `wrap`.

    Many trials of few epochs, rates and regularization drawn log-uniformly; over a function, as many trials as the
    ranges of --space deserve. A search over nets begins with a few quick checks: initial loss, regularization, 20
    images learnt by heart. The same command again goes on where it was stopped.

    Example: `hpsearch coarse --epochs 5 --space 'lr=log(1e-6,1e-3)'` or, after a check, `hpsearch coarse --from check`;
    `hpsearch coarse --objective train:objective --space 'rate=log(1e-4,1)'`
    """
    with importing():
        from hpsearch.cli.searching import search_coarse

    search_coarse(budget, searched, training, output, name, source, skip_checks=skip_checks, dry_run=dry_run)


@with_groups
def fine(
    source: Annotated[str, typer.Option("--from", metavar="STUDY", help="The study to narrow: any in the storage.")],
    budget: KeptBudget,
    searched: Searched,
    training: Training,
    output: Output,
    name: NameOption = None,
    rename: Annotated[
        list[str] | None,
        typer.Option(metavar="PARAM=NAME", help="What a parameter of the study is called here; none drops it."),
    ] = None,
    forget: Annotated[
        bool, typer.Option("--forget", help="Begin without what the trials of the stages before say.")
    ] = False,
    continue_top: Annotated[
        int | None,
        typer.Option(min=0, metavar="K", help="The K best trials go on from their kept states; trials of the budget."),
    ] = None,
    dry_run: DryRunOption = False,
) -> None:
    """Narrow the ranges of a study to where its trials did well, and train longer.

    Data, model and training are those of the study, or its function or program, which --trust allows; unless a study
    file is given with -c. Its ranges do not count then, only those given with --space. Over a function or a program,
    ranges stay before a Gaussian process that knows all those trials and explains them: it keeps away from what is bad
    by itself.

    Example: `hpsearch fine --from coarse --trials 50 --epochs 20`
    """
    with importing():
        from hpsearch.cli.searching import search_fine

    own = {"fine.forget": True if forget else None, "fine.continue_top": continue_top}
    search_fine(source, budget, searched, training, output, name, rename or [], own=own, dry_run=dry_run)
