"""What coarse and fine do: a plan is made, and shown or run."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from typing import Any

import typer
from typing_extensions import override

from hpsearch.analysis.advice import SEARCHED
from hpsearch.analysis.lineage import advise
from hpsearch.analysis.records import stage_record
from hpsearch.analysis.study_trials import StudyTrials, read_study
from hpsearch.cli.budget_options import StageBudget
from hpsearch.cli.option_groups import Output, Searched, Training, settings_of
from hpsearch.cli.options import storage_flag
from hpsearch.cli.output import document_alone, line, print_advice, print_stage
from hpsearch.cli.plan_lines import print_plan
from hpsearch.cli.search_progress import SearchProgress
from hpsearch.cli.signals import stopped
from hpsearch.config import Settings
from hpsearch.errors import ConfigError
from hpsearch.search.checks.findings import CheckReport
from hpsearch.search.stage_run import check_devices, open_search, preview_stage, run_stage
from hpsearch.stages.continued import handed_on
from hpsearch.stages.fine_planning import plan_fine
from hpsearch.stages.next_ranges import planned_summary
from hpsearch.stages.opening import keep_stored_ranges
from hpsearch.stages.plan import StagePlan
from hpsearch.stages.planning import plan_coarse
from hpsearch.storage import Database, find_study, open_database
from hpsearch.worker.stopping import Stop


def search_coarse(
    budget: StageBudget,
    searched: Searched,
    training: Training,
    output: Output,
    name: str | None,
    source: str | None,
    *,
    skip_checks: bool,
    dry_run: bool,
) -> None:
    """`hpsearch coarse`."""
    flags = {**budget.flags("coarse"), **searched.flags("coarse")}
    check = stored = None
    if source is not None:
        run = settings_of(searched, training, {}).run
        check_devices(run)
        check = find_study(open_database(run.storage), source)
        stored = None if searched.config else stage_record(check).config
    settings = settings_of(searched, training, flags, stored=stored)
    plan = plan_coarse(settings, name or "coarse", check)
    if dry_run:
        _show_plan(plan, settings, output)
        return
    try:
        db = open_search(settings.run, settings.study)
        _run(db, plan, settings, output, checks=not skip_checks)
    except KeyboardInterrupt as stop:
        raise stopped(stop) from None


def search_fine(
    source: str,
    budget: StageBudget,
    searched: Searched,
    training: Training,
    output: Output,
    name: str | None,
    renames: list[str],
    *,
    own: Mapping[str, Any],
    dry_run: bool,
) -> None:
    """`hpsearch fine`; `own` are its own flags, by the keys that they set."""
    flags = {**budget.flags("fine"), **searched.flags("fine"), **own}
    run = settings_of(searched, training, {}).run if searched.config else settings_of(Searched(), training, {}).run
    check_devices(run)
    db = open_database(run.storage)
    evidence = read_study(db, source, _parse_renames(renames))
    stored = None if searched.config else handed_on(evidence.record)
    if stored is None and searched.config is None and not output.quiet:
        typer.echo(f"note: {source!r} holds no study file; what -c and flags do not say is as by default", err=True)
    if stored is None and searched.is_own and searched.direction is None and searched.config is None:
        flags["objective.direction"] = evidence.direction
    settings = settings_of(searched, training, flags, stored=stored)
    plan = plan_fine(evidence, settings, name, strict=not dry_run, db=db)
    if dry_run:
        _show_plan(plan, settings, output)
        return
    if evidence.num_finished < len(evidence.trials) and not output.quiet:
        typer.echo(
            f"note: {source!r} is not finished ({evidence.num_finished} of {len(evidence.trials)} trials)", err=True
        )
    try:
        db = open_search(settings.run, settings.study)
        plan, moved = keep_stored_ranges(db, plan, settings.ranges_given)
        if moved and not output.quiet:
            typer.echo(f"note: {source!r} has gone on; {plan.name!r} keeps the ranges it started with", err=True)
        _run(db, plan, settings, output)
    except KeyboardInterrupt as stop:
        raise stopped(stop) from None


MORE = "trials: the same command with --name NAME and another --seed; a study keeps the budget that it began with"


class _Remembering(SearchProgress):
    """Keeps what the checks found, for the document of --json."""

    checks: CheckReport | None = None

    @override
    def checked(self, report: CheckReport) -> None:
        self.checks = report
        super().checked(report)


def _run(db: Database, plan: StagePlan, settings: Settings, output: Output, *, checks: bool = True) -> None:
    """Create or resume a stage, work on it, show what came out."""
    start, stop = time.monotonic(), Stop()
    progress = _Remembering(quiet=output.quiet, as_json=output.as_json)
    with progress, stop.on_signals(), document_alone(output.as_json):
        evidence = run_stage(db, plan, settings.run, listener=progress, stop=stop, checks=checks)
    _show_stage(db, evidence, settings, progress.checks, time.monotonic() - start, output)


def _show_stage(
    db: Database, evidence: StudyTrials, settings: Settings, checks: CheckReport | None, seconds: float, output: Output
) -> None:
    summary = planned_summary(evidence, seconds=seconds)
    advice = advise(db, evidence, again=["hpsearch", *sys.argv[1:]]).at(storage_flag(settings.run.storage))
    if output.as_json:
        is_coarse = evidence.record.kind == "coarse"
        found = {"checks": checks.as_dict() if checks is not None else None} if is_coarse else {}
        typer.echo(json.dumps({**summary.as_dict(), **found, **advice.as_dict()}))
    else:
        print_stage(summary)
        if not output.quiet and summary.stage in SEARCHED and summary.num_finished == summary.num_trials:
            line("more", MORE)
        if not output.quiet:
            print_advice(advice)  # last, so that the command to go on with stands right above the prompt
    if summary.counts.get("FAIL", 0) == summary.num_trials:
        raise typer.Exit(code=1)


def _show_plan(plan: StagePlan, settings: Settings, output: Output) -> None:
    """What the stage would do, for --dry-run."""
    check_devices(settings.run)
    with SearchProgress(quiet=output.quiet, as_json=output.as_json) as progress:
        for note in plan.notes:
            progress.note(note)
        settled = preview_stage(plan, settings.run, progress)
    plan = settled.plan  # an objective was asked what it is told, and its sampler may be another one for that
    if output.as_json:
        typer.echo(json.dumps({**plan.as_dict(), **settled.as_dict()}))
    else:
        print_plan(plan, settled)


def _parse_renames(renames: list[str]) -> dict[str, str | None]:
    parsed: dict[str, str | None] = {}
    for text in renames:
        old, sign, new = text.partition("=")
        if not sign or not new:
            raise ConfigError(f"--rename {text} is not allowed.\nAllowed: --rename PARAM=NAME, --rename PARAM=none.")
        parsed[old] = None if new == "none" else new
    return parsed
