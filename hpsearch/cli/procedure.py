"""run: the whole procedure as one command."""

from __future__ import annotations

import json
import re
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hpsearch.cli.fleet_options import DevicesOption, WorkersOption, split_devices
from hpsearch.cli.opening import storage_flag
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
    ModelOption,
    SkipChecksOption,
    stage_flags,
)
from hpsearch.errors import ConfigError

if TYPE_CHECKING:
    from hpsearch.search.advice import Advice
    from hpsearch.search.procedure import Procedure
    from hpsearch.storage import Database

UNITS = {"h": 3600, "m": 60, "s": 1}  # seconds


def run(
    config: ConfigOption = None,
    name: Annotated[
        str | None, typer.Option(help="What the stages' names begin with: NAME-coarse, NAME-fine, NAME-fine-2.")
    ] = None,
    data: DataOption = None,
    model: ModelOption = None,
    gain: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="VAL_ACC",
            help="A stage that gains less is the last one.  [default: 0.005, or one standard error where that is more]",
        ),
    ] = None,
    max_stages: Annotated[int, typer.Option(min=1, help="Most stages, the coarse one included.")] = 4,
    time_budget: Annotated[
        str | None,
        typer.Option(
            "--time", metavar="TIME", help="Wall clock for this command: 10m, 90s, 1h30m. What is left can go on later."
        ),
    ] = None,
    skip_checks: SkipChecksOption = False,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also draw all of it at the end: one HTML page.")
    ] = None,
    sets: SetOption = None,
    space: SpaceOption = None,
    seed: SeedOption = None,
    device: DeviceOption = None,
    workers: WorkersOption = 0,
    devices: DevicesOption = None,
    storage: StorageOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Check, search coarse, then fine and fine again until the best is inside every range and stops improving.

    Says after each stage why it goes on or stops. The same command again goes on where it was stopped, at any place;
    the stages are those of `coarse` and `fine` by hand. Their sizes are set with --set coarse.trials=50 and the like.
    With --time, the stage that is at work is left at the end of an epoch.

    Example: `hpsearch run --data faces --time 10m`
    """
    set_verbosity(verbose, quiet)
    start = time.monotonic()
    seconds = parse_duration(time_budget) if time_budget is not None else None
    if report is not None and not report.absolute().parent.is_dir():
        raise ConfigError(f"--report {report}: there is no folder {report.parent}.")
    flags = {
        **stage_flags("coarse", None, None, None, None, seed, data, model, device),
        "fine.seed": seed,
    }
    settings = read_settings(config, sets, space, storage=storage, flags=flags)

    from hpsearch.cli.procedure_progress import ProcedureProgress
    from hpsearch.search.decision import Limits
    from hpsearch.search.procedure import run_procedure
    from hpsearch.search.stopping import Stop
    from hpsearch.storage import open_database

    stop = Stop()
    try:
        db = open_database(settings.run.storage, create=True)
        limits = Limits(gain, max_stages, seconds)
        with ProcedureProgress(quiet=quiet, as_json=as_json) as progress, stop.on_signals():
            procedure = run_procedure(
                db,
                settings,
                name=name,
                limits=limits,
                checks=not skip_checks,
                listener=progress,
                load_images=progress.load_images,
                workers=workers,
                devices=split_devices(devices),
                stop=stop,
            )
        if report is not None:
            _write_report(db, procedure, report)
    except KeyboardInterrupt as interruption:
        raise stopped(interruption) from None
    advice = _advise(db, procedure, gain).at(storage_flag(settings.run.storage))
    document = _as_dict(procedure, advice, time.monotonic() - start, report)
    if as_json:
        typer.echo(json.dumps(document))
    else:
        _print_end(procedure, advice, document)


def parse_duration(text: str) -> float:
    """Seconds of `90s`, `10m`, `1h30m`, `1.5h`; a bare number is in seconds.

    Raises:
        ConfigError: it is none of these, or nothing.
    """
    amount = r"(\d+(?:\.\d+)?)"
    match = re.fullmatch(rf"(?:{amount}h)?(?:{amount}m)?(?:{amount}s?)?", text.strip().lower())
    parts = match.groups() if match else ()
    seconds = sum(float(part) * unit for part, unit in zip(parts, UNITS.values(), strict=False) if part)
    if seconds <= 0:
        raise ConfigError(f"--time {text} is not a time.\nAllowed: 90s, 10m, 1h30m, or a number of seconds.")
    return seconds


def _write_report(db: Database, procedure: Procedure, path: Path) -> None:
    from hpsearch.report.search_report import make_report

    made = make_report(db, [stage.name for stage in procedure.stages])
    try:
        path.write_text(made.html, encoding="utf-8", errors="replace")
    except OSError as error:
        raise ConfigError(f"--report {path} cannot be written: {error.strerror}.") from None


def _advise(db: Database, procedure: Procedure, gain: float | None) -> Advice:
    """What the stages say; where the time is up, the same command goes on."""
    from hpsearch.search.lineage import advise

    again = ["hpsearch", *sys.argv[1:]]
    advice = advise(db, procedure.stages[-1].evidence, again=again, gain=gain)
    if procedure.ending.ending == "time" and advice.go_on:
        return replace(advice, text="the same command goes on", words=tuple(again))
    return advice


def _as_dict(procedure: Procedure, advice: Advice, seconds: float, report: Path | None) -> dict[str, Any]:
    from hpsearch.search.summary import trial_as_dict

    stages = [
        {**summary.as_dict(), "go_on": decision.go_on, "reason": decision.reason}
        for summary, decision in zip(procedure.summaries, procedure.decisions, strict=True)
    ]
    best = None
    if procedure.best_stage is not None and procedure.best is not None:
        epochs = procedure.summaries[procedure.stages.index(procedure.best_stage)].epochs
        best = {"study": procedure.best_stage.name, "epochs": epochs, **trial_as_dict(procedure.best)}
    return {
        "stages": stages,
        **advice.as_dict(),
        "ending": procedure.ending.ending,
        "reason": procedure.ending.reason,
        "best": best,
        "report": str(report) if report is not None else None,
        "seconds": round(seconds, 3),
    }


def _print_end(procedure: Procedure, advice: Advice, document: dict[str, Any]) -> None:
    from hpsearch.cli.output import line, print_advice
    from hpsearch.search.evidence import params_text
    from hpsearch.wording import duration_text, value_text

    best, trial = document["best"], procedure.best
    if best is not None and trial is not None:
        head = (
            f"trial {trial.number} of {best['study']}  val_acc {value_text(trial.value)} after {best['epochs']} epochs"
        )
        line("best", f"{head}  {params_text(trial)}")
        others = [
            f"{summary.study} {value_text(summary.best.value)} after {summary.epochs}"
            for summary in procedure.summaries
            if summary.best is not None and summary.study != best["study"]
        ]
        if others:
            line("others", " · ".join(others))
    line("time", duration_text(document["seconds"]))
    if document["report"] is not None:
        line("report", document["report"])
    print_advice(replace(advice, reason=""))  # why it stopped stands above
