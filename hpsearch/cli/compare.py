"""compare: random search against a grid, and other samplers, at equal budget and equal seeds."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hpsearch.cli.options import (
    ConfigOption,
    JsonOption,
    QuietOption,
    SeedOption,
    SetOption,
    SpaceOption,
    StorageOption,
    VerboseOption,
    read_settings,
    set_verbosity,
)
from hpsearch.cli.signals import stopped
from hpsearch.cli.stages import (
    DataOption,
    DeviceOption,
    DryRunOption,
    EpochsOption,
    ModelOption,
    NameOption,
    PrunerOption,
    TrialsOption,
)
from hpsearch.wording import duration_text

if TYPE_CHECKING:
    from hpsearch.config import Settings
    from hpsearch.search.compare import ComparisonPlan
    from hpsearch.search.comparison import Comparison


def compare(
    samplers: Annotated[
        str, typer.Option(metavar="A,B,...", help="Two or more of random, grid, qmc, tpe, gp, cmaes.")
    ] = "random,grid",
    repeats: Annotated[int, typer.Option(min=1, help="Searches of each sampler, with seeds of their own.")] = 10,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write one offline HTML page.")
    ] = None,
    epochs: EpochsOption = None,
    trials: TrialsOption = None,
    config: ConfigOption = None,
    name: NameOption = None,
    data: DataOption = None,
    model: ModelOption = None,
    pruner: PrunerOption = None,
    sets: SetOption = None,
    space: SpaceOption = None,
    seed: SeedOption = None,
    device: DeviceOption = None,
    storage: StorageOption = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Compare random search with a grid on your data: equal budgets, equal seeds, several repeats.

    Each search is a study of its own, with the settings of [coarse]; the grid moves by a random offset in each repeat.
    The same command again goes on where it was stopped; more repeats or samplers join what is there.

    Example: `hpsearch compare --trials 9 --repeats 10 --epochs 5 -o compare.html`
    """
    set_verbosity(verbose, quiet)
    flags = {
        "coarse.trials": trials,
        "coarse.epochs": epochs,
        "coarse.pruner": pruner,
        "coarse.seed": seed,
        "train.seed": seed,
        "data.source": data,
        "model.name": model,
        "run.device": device,
    }
    settings = read_settings(config, sets, space, storage=storage, flags=flags)

    from hpsearch.search.compare import plan_comparison

    asked = [sampler.strip() for sampler in samplers.split(",") if sampler.strip()]
    plan = plan_comparison(settings, asked, repeats, name or "compare")
    if dry_run:
        _show_plan(plan, settings, as_json)
        return
    start = time.monotonic()
    comparison = _run(plan, settings, as_json, quiet)
    if output is not None:
        from hpsearch.datasets.atomic import replacing
        from hpsearch.report.compare_page import compare_page

        with replacing(output) as file:
            file.write(compare_page(comparison).encode())
    if as_json:
        seconds = round(time.monotonic() - start, 3)
        typer.echo(json.dumps({**comparison.as_dict(), "page": str(output) if output else None, "seconds": seconds}))
    else:
        _print_comparison(comparison, time.monotonic() - start, output, quiet)


def _run(plan: ComparisonPlan, settings: Settings, as_json: bool, quiet: bool) -> Comparison:
    from hpsearch.cli.compare_progress import make_progress
    from hpsearch.cli.progress import data_progress
    from hpsearch.search.compare import run_comparison
    from hpsearch.search.images import load_data
    from hpsearch.search.stopping import Stop
    from hpsearch.storage import open_database

    stop = Stop()
    try:
        db = open_database(settings.run.storage, create=True)
        with data_progress(quiet or as_json) as progress:
            data = load_data(next(plan.searches()).trial_config, settings.run, progress)
        stream = sys.stderr if as_json else sys.stdout
        with make_progress(plan, stream, quiet=quiet) as watching, stop.on_signals():
            return run_comparison(db, plan, settings.run, data, watching, watching.search_finished, stop)
    except KeyboardInterrupt as interruption:
        raise stopped(interruption) from None


def _print_comparison(comparison: Comparison, seconds: float, output: Path | None, quiet: bool) -> None:
    from hpsearch.cli.output import line, show_table
    from hpsearch.search.comparison import band
    from hpsearch.search.comparison_text import band_text, budget_text, importance_text, notes, wins_text

    line("compare", f"{', '.join(comparison.samplers)} · {budget_text(comparison)} · {duration_text(seconds)}")
    if not quiet:
        for note in notes(comparison):
            line("note", note)
    columns = ("sampler", "best val_acc", "wins", *(f"{param} values" for param in comparison.ranges))
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


def _show_plan(plan: ComparisonPlan, settings: Settings, as_json: bool) -> None:
    """What the comparison would do; nothing is written."""
    from hpsearch.cli.output import line
    from hpsearch.search.session import look_ahead
    from hpsearch.space import format_range

    outlooks = [look_ahead(search, settings.run) for search in plan.searches() if search.repeat == 0]
    known = [outlook.seconds for outlook in outlooks if outlook.seconds is not None]
    seconds = plan.num_repeats * sum(known) if len(known) == len(outlooks) else None
    searches = len(plan.samplers) * plan.num_repeats
    described = {
        "comparison": plan.name,
        "samplers": list(plan.samplers),
        "repeats": plan.num_repeats,
        "trials": plan.settings.trials,
        "trials_asked": plan.num_asked,
        "epochs": plan.settings.epochs,
        "studies": [search.name for search in plan.searches()],
        "estimated_seconds": seconds,
        "estimate_unknown": next((outlook.unknown for outlook in outlooks if outlook.unknown), None),
    }
    if as_json:
        typer.echo(json.dumps(described))
        return
    each = f"{plan.settings.trials} trials x {plan.settings.epochs} epochs"
    line("compare", f"{', '.join(plan.samplers)}: {plan.num_repeats} repeats, {searches} searches of {each}")
    for param, range_ in plan.config.space.items():
        line(param, format_range(range_))
    about = f"about {duration_text(seconds)}" if seconds is not None else None
    line("time", about or f"not known: {described['estimate_unknown']}")
    if plan.num_asked != plan.settings.trials:
        line("note", f"the largest balanced grid within {plan.num_asked} trials has {plan.settings.trials} points")
