"""run: the whole procedure as one command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hpsearch.cli.grouped_options import with_groups
from hpsearch.cli.importing import importing
from hpsearch.cli.option_groups import Output, Searched, Training
from hpsearch.cli.stages import DryRunOption, SkipChecksOption


@with_groups
def run(
    searched: Searched,
    training: Training,
    output: Output,
    name: Annotated[
        str | None, typer.Option(help="What the stages' names begin with: NAME-coarse, NAME-fine, NAME-fine-2.")
    ] = None,
    gain: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="VALUE",
            help="A stage that gains less is the last one.  [default: 0.005, or one standard error where that is more]",
        ),
    ] = None,
    max_stages: Annotated[int, typer.Option(min=1, help="Most stages, the coarse one included.")] = 4,
    time_budget: Annotated[
        str | None,
        typer.Option(
            "--time",
            metavar="TIME",
            help="Wall clock for this command: 10m, 90s, 1h30m. Stages are made to fit; what is left can go on later.",
        ),
    ] = None,
    skip_checks: SkipChecksOption = False,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also draw all of it at the end: one HTML page.")
    ] = None,
    dry_run: DryRunOption = False,
) -> None:
    """Check, search coarse, then fine and fine again until the best is inside every range and stops improving.

    Says after each stage why it goes on or stops. The same command again goes on where it was stopped, at any place;
    the stages are those of `coarse` and `fine` by hand. Their sizes are set with --set coarse.trials=50 and the like.
    With --time, stages get as many trials and epochs as fit.

    Example: `hpsearch run --data faces --time 10m`
    """
    with importing():
        from hpsearch.cli.procedure_run import run_whole_procedure

    run_whole_procedure(
        searched,
        training,
        output,
        name=name,
        gain=gain,
        max_stages=max_stages,
        time_budget=time_budget,
        checks=not skip_checks,
        report=report,
        dry_run=dry_run,
    )
