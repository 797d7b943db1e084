"""compare: random search against a grid, and other samplers, at equal budget and equal seeds."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hpsearch.cli.budget_options import BudgetFromValues
from hpsearch.cli.grouped_options import with_groups
from hpsearch.cli.option_groups import Output, Searched, Training, settings_of
from hpsearch.cli.signals import stopped
from hpsearch.cli.stages import DryRunOption, NameOption
from hpsearch.errors import ConfigError
from hpsearch.wording import count_text, duration_text, trials_text

if TYPE_CHECKING:
    from hpsearch.analysis.sampler_comparison import Comparison
    from hpsearch.config import Settings
    from hpsearch.search.compare_samplers import ComparisonPlan


@with_groups
def compare(
    budget: BudgetFromValues,
    searched: Searched,
    training: Training,
    output: Output,
    samplers: Annotated[
        str, typer.Option(metavar="A,B,...", help="Two or more of random, grid, qmc, tpe, gp, cmaes.")
    ] = "random,grid",
    repeats: Annotated[int, typer.Option(min=1, help="Searches of each sampler, with seeds of their own.")] = 10,
    page: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write one offline HTML page.")
    ] = None,
    name: NameOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Compare random search with a grid on your data: equal budgets, equal seeds, several repeats.

    Each search is a study of its own, with the settings of [coarse]; the grid moves by a random offset in each repeat.
    The same command again goes on where it was stopped; more repeats or samplers join what is there.

    Example: `hpsearch compare --trials 9 --repeats 10 --epochs 5 -o compare.html`
    """
    if budget.sampler is not None:
        raise ConfigError(
            f"--sampler {budget.sampler} is one; samplers are compared.\nAllowed: --samplers random,grid."
        )
    settings = settings_of(searched, training, {**budget.flags("coarse"), **searched.flags("coarse")})

    from hpsearch.search.compare_samplers import plan_comparison

    asked = [sampler.strip() for sampler in samplers.split(",") if sampler.strip()]
    plan = plan_comparison(settings, asked, repeats, name or "compare")
    if dry_run:
        _show_plan(plan, settings, output)
        return
    start = time.monotonic()
    comparison = _run(plan, settings, output)
    if page is not None:
        from hpsearch.datasets.atomic import replacing
        from hpsearch.report.compare_page import compare_page

        with replacing(page) as file:
            file.write(compare_page(comparison).encode())
    if output.as_json:
        seconds = round(time.monotonic() - start, 3)
        typer.echo(json.dumps({**comparison.as_dict(), "page": str(page) if page else None, "seconds": seconds}))
    else:
        _print_comparison(comparison, time.monotonic() - start, page, output.quiet)


def _run(plan: ComparisonPlan, settings: Settings, output: Output) -> Comparison:
    from hpsearch.cli.compare_progress import make_comparison_progress
    from hpsearch.search.compare_samplers import run_comparison
    from hpsearch.search.stage_run import open_search
    from hpsearch.worker.stopping import Stop

    stop = Stop()
    try:
        db = open_search(settings.run, settings.study)
        stream = sys.stderr if output.as_json else sys.stdout
        with make_comparison_progress(plan, stream, quiet=output.quiet) as watching, stop.on_signals():
            return run_comparison(db, plan, settings.run, watching, watching.search_finished, stop)
    except KeyboardInterrupt as interruption:
        raise stopped(interruption) from None


def _print_comparison(comparison: Comparison, seconds: float, output: Path | None, quiet: bool) -> None:
    from hpsearch.analysis.sampler_comparison import band
    from hpsearch.analysis.sampler_comparison_text import band_text, budget_text, importance_text, notes, wins_text
    from hpsearch.cli.output import line, show_table

    line("compare", f"{', '.join(comparison.samplers)} · {budget_text(comparison)} · {duration_text(seconds)}")
    if not quiet:
        for note in notes(comparison):
            line("note", note)
    columns = (
        "sampler",
        f"best {comparison.metric.column}",
        "wins",
        *(f"{param} values" for param in comparison.ranges),
    )
    rows = (
        (
            sampler,
            band_text(band(comparison.finals[sampler])),
            wins_text(comparison, sampler),
            *(f"{count:.3g}" for count in comparison.distinct(sampler).values()),
        )
        for sampler in comparison.samplers
    )
    show_table(columns, rows, right=frozenset(columns[1:]))
    first, *others = comparison.samplers
    for other in others:
        difference = comparison.difference(first, other)
        line("paired", f"{first} - {other}: {band_text(difference, '+')} over equal seeds")
    if comparison.importances:
        line("matters", f"{importance_text(comparison)}   (PED-ANOVA over all trials)")
    if output is not None:
        line("page", str(output))
    elif not quiet:
        line("next", "the same command with -o compare.html draws it")


def _show_plan(plan: ComparisonPlan, settings: Settings, output: Output) -> None:
    """What the comparison would do; nothing is written."""
    from hpsearch.cli.output import line
    from hpsearch.search.stage_run import preview_stage
    from hpsearch.space import format_range

    outlooks = [preview_stage(search, settings.run) for search in plan.searches() if search.repeat == 0]
    known = [outlook.seconds for outlook in outlooks if outlook.seconds is not None]
    seconds = plan.num_repeats * sum(known) if len(known) == len(outlooks) else None
    searches = len(plan.samplers) * plan.num_repeats
    described = {
        "comparison": plan.name,
        "samplers": list(plan.samplers),
        "repeats": plan.num_repeats,
        "trials": plan.settings.trials,
        "trials_asked": plan.num_asked,
        "epochs": outlooks[0].num_epochs,
        "studies": [search.name for search in plan.searches()],
        "estimated_seconds": seconds,
        "estimate_unknown": next((outlook.unknown for outlook in outlooks if outlook.unknown), None),
    }
    if output.as_json:
        typer.echo(json.dumps(described))
        return
    each = trials_text(plan.settings.trials, outlooks[0].num_epochs)
    line(
        "compare",
        f"{', '.join(plan.samplers)}: {count_text(plan.num_repeats, 'repeat')}, {searches} searches of {each}",
    )
    for param, range_ in plan.config.space.items():
        line(param, format_range(range_))
    about = f"about {duration_text(seconds)}" if seconds is not None else None
    line("time", about or f"not known: {described['estimate_unknown']}")
    if plan.num_asked != plan.settings.trials:
        line(
            "note",
            f"the largest balanced grid within {count_text(plan.num_asked, 'trial')} leaves {plan.settings.trials}",
        )
