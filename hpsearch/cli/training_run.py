"""What `hpsearch train` does: a plan is made, and shown or trained."""

from __future__ import annotations

import json
import sys
import time

import typer

from hpsearch.cli.option_groups import Output, Trained, Training, settings_of
from hpsearch.cli.options import storage_flag
from hpsearch.cli.output import document_alone, line
from hpsearch.cli.plan_lines import outlook_lines
from hpsearch.cli.search_progress import SearchProgress
from hpsearch.cli.signals import stopped
from hpsearch.cli.training_progress import TrainingProgress
from hpsearch.cli.training_summary import print_training, read_training
from hpsearch.config import Settings
from hpsearch.config.schema.objective import refuse_objective
from hpsearch.results import EpochResult
from hpsearch.search.stage_run import check_devices, open_search
from hpsearch.search.training_run import preview_training, run_training
from hpsearch.stages.training_plan import TrainingPlan, plan_training
from hpsearch.storage import Database, find_study, read_epochs, read_trials
from hpsearch.wording import count_text
from hpsearch.worker.stopping import Stop


def train_once(
    trained: Trained,
    training: Training,
    output: Output,
    name: str,
    epochs: int | None,
    num_seeds: int,
    *,
    dry_run: bool,
) -> None:
    """`hpsearch train`."""
    settings = settings_of(trained, training, {**trained.flags(), "train.epochs": epochs})
    refuse_objective(settings.study.objective, "hpsearch train")
    plan = plan_training(settings.study, name, num_seeds)
    if not output.silent and "space" in settings.study.model_fields_set and plan.unused:
        typer.echo(f"note: [space] is not used by train: {', '.join(plan.unused)}", err=True)
    if dry_run:
        _show_plan(plan, settings, output)
        return
    start, stop = time.monotonic(), Stop()
    try:
        db = open_search(settings.run, settings.study)
        progress = TrainingProgress(quiet=output.quiet, as_json=output.as_json, past=lambda: _ended_epochs(db, name))
        with progress, stop.on_signals(), document_alone(output.as_json):
            run_training(db, plan, settings.run, listener=progress, stop=stop)
    except KeyboardInterrupt as interruption:
        raise stopped(interruption) from None
    again = ["hpsearch", *sys.argv[1:]]
    found = read_training(db, name, time.monotonic() - start, storage_flag(settings.run.storage), again)
    if output.as_json:
        checks = progress.report.as_dict() if progress.report is not None else None
        typer.echo(json.dumps({**found.as_dict(), "checks": checks}))
    else:
        print_training(found, quiet=output.quiet)
    if found.summary.counts.get("FAIL", 0) == found.summary.num_trials:
        raise typer.Exit(code=1)


def _ended_epochs(db: Database, name: str) -> dict[int, list[EpochResult]]:
    """Of runs that have ended. Those of a run that was killed go on from its checkpoint, or from the start."""
    study = find_study(db, name)
    ended = [trial.number for trial in read_trials(db, study, states=("COMPLETE", "PRUNED"))]
    return read_epochs(db, study, ended)


def _show_plan(plan: TrainingPlan, settings: Settings, output: Output) -> None:
    """What the training would do, for --dry-run."""
    check_devices(settings.run)
    with SearchProgress(quiet=output.quiet, as_json=output.as_json) as progress:
        settled = preview_training(plan, settings.run, progress)
    if output.as_json:
        typer.echo(json.dumps({**plan.as_dict(), **settled.as_dict()}))
        return
    seeds = f"seed {plan.seeds[0]}" if plan.num_seeds == 1 else f"seeds {plan.seeds[0]} to {plan.seeds[-1]}"
    line("study", f"{plan.name}: {seeds} x {count_text(plan.settings.epochs, 'epoch')}")
    for label, text in outlook_lines(settled):
        line(label, text)
