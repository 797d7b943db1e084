"""What `hpsearch run` does, and what it prints at its end."""

from __future__ import annotations

import json
import re
import shlex
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import typer

from hpsearch.analysis.advice_form import Advice
from hpsearch.analysis.decision import Limits
from hpsearch.analysis.gain import called_later_text
from hpsearch.analysis.lineage import advise
from hpsearch.analysis.study_trials import params_text
from hpsearch.analysis.summary import trial_as_dict
from hpsearch.cli.option_groups import Output, Searched, Training, settings_of
from hpsearch.cli.options import storage_flag
from hpsearch.cli.output import line, print_advice
from hpsearch.cli.plan_lines import print_plan
from hpsearch.cli.search_progress import SearchProgress
from hpsearch.cli.signals import stopped
from hpsearch.config import RunConfig, Settings
from hpsearch.config.data_sources import CsvPath, FolderPath, parse_source
from hpsearch.errors import ConfigError
from hpsearch.search.procedure import Procedure, first_plan, run_procedure
from hpsearch.search.stage_run import check_devices, open_search, preview_stage
from hpsearch.stages.time_budget import share_of_stage
from hpsearch.storage import Database
from hpsearch.tuning.settling import Settled
from hpsearch.wording import count_text, duration_text
from hpsearch.worker.stopping import Stop

UNITS = {"h": 3600, "m": 60, "s": 1}  # seconds


def run_whole_procedure(
    searched: Searched,
    training: Training,
    output: Output,
    *,
    name: str | None,
    gain: float | None,
    max_stages: int,
    time_budget: str | None,
    checks: bool,
    report: Path | None,
    dry_run: bool,
) -> None:
    """`hpsearch run`."""
    start, stop = time.monotonic(), Stop()
    seconds = parse_duration(time_budget) if time_budget is not None else None
    if report is not None and not report.absolute().parent.is_dir():
        raise ConfigError(f"--report {report}: there is no folder {report.parent}.")
    settings = settings_of(searched, training, searched.flags("coarse", "fine"))
    check_devices(settings.run)
    progress = SearchProgress(quiet=output.quiet, as_json=output.as_json, shorter=_shorter_text)
    limits = Limits(gain, max_stages, seconds)
    if dry_run:
        plan = first_plan(settings, name, limits)
        with progress:
            own = seconds * share_of_stage(0, max_stages) if seconds is not None else None
            settled = preview_stage(plan, settings.run, progress, own)
        plan = settled.plan
        if output.as_json:
            typer.echo(json.dumps({**plan.as_dict(), **settled.as_dict()}))
        else:
            print_plan(plan, settled)
            line("then", "fine stages around what worked, until the best is inside every range and stops improving")
        return
    try:
        db = open_search(settings.run, settings.study)
        with progress, stop.on_signals():
            procedure = run_procedure(
                db, settings, name=name, limits=limits, checks=checks, listener=progress, stop=stop
            )
        if report is not None:
            _write_report(db, procedure, settings.run, report)
    except KeyboardInterrupt as interruption:
        raise stopped(interruption) from None
    advice = _advise(db, procedure, gain, time_budget).at(storage_flag(settings.run.storage))
    document = _as_dict(procedure, advice, time.monotonic() - start, report)
    document["use"] = _use(procedure, settings)
    if output.as_json:
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


def round_duration(seconds: float) -> str:
    """About so long, as `parse_duration` reads it: `40s`, `3m`, `2h`, `2h30m`."""
    if seconds < 95:
        return f"{max(5, 5 * round(seconds / 5))}s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes}m"
    hours, rest = divmod(10 * round(minutes / 10), 60)
    return f"{hours}h{rest}m" if rest else f"{hours}h"


def _shorter_text(settled: Settled) -> str:
    """How a procedure is made shorter, with a time that is half of what its stage would take alone."""
    return f"shorter with --time {round_duration((settled.seconds or 0.0) / 2)}"


def _write_report(db: Database, procedure: Procedure, run: RunConfig, path: Path) -> None:
    from hpsearch.report.search_report import make_report

    made = make_report(db, [stage.name for stage in procedure.stages], run)
    try:
        path.write_text(made.html, encoding="utf-8", errors="replace")
    except OSError as error:
        raise ConfigError(f"--report {path} cannot be written: {error.strerror}.") from None


def _advise(db: Database, procedure: Procedure, gain: float | None, time_budget: str | None) -> Advice:
    """What the stages say; where the time is up, the same command goes on. A new search gets as much time."""
    again = ["hpsearch", *sys.argv[1:]]
    advice = advise(db, procedure.stages[-1].evidence, again=again, gain=gain)
    if procedure.ending.ending == "time" and advice.go_on:
        return replace(advice, text="the same command goes on", words=tuple(again))
    words = advice.words or ()
    if time_budget is None or words[:2] != ("hpsearch", "run") or any(word.startswith("--time") for word in words):
        return advice
    return replace(advice, words=(*words, "--time", time_budget))


def _as_dict(procedure: Procedure, advice: Advice, seconds: float, report: Path | None) -> dict[str, Any]:
    stages = [
        {**summary.as_dict(), "go_on": decision.go_on, "reason": decision.reason}
        for summary, decision in zip(procedure.summaries, procedure.decisions, strict=True)
    ]
    best, metric = None, procedure.summaries[-1].metric.name
    if procedure.best_stage is not None and procedure.best is not None:
        epochs = procedure.summaries[procedure.stages.index(procedure.best_stage)].best_epochs
        best = {"study": procedure.best_stage.name, "epochs": epochs, "metric": metric, **trial_as_dict(procedure.best)}
    return {
        "stages": stages,
        **advice.as_dict(),
        "ending": procedure.ending.ending,
        "reason": procedure.ending.reason,
        "best": best,
        "report": str(report) if report is not None else None,
        "seconds": round(seconds, 3),
    }


def _use(procedure: Procedure, settings: Settings) -> str | None:
    """How image files are given to the best net; None where it is not kept, or was not trained on image files."""
    are_files = isinstance(parse_source(settings.study.data.source), FolderPath | CsvPath)
    if procedure.best_stage is None or settings.run.keep == "none" or not are_files:
        return None
    storage = storage_flag(settings.run.storage)
    words = ["hpsearch", "predict", procedure.best_stage.name, "IMAGES"]
    return shlex.join([*words, *(["--storage", storage] if storage is not None else [])])


def _print_end(procedure: Procedure, advice: Advice, document: dict[str, Any]) -> None:
    best, trial, stages = document["best"], procedure.best, procedure.summaries
    if best is not None and trial is not None:
        of_best = next(summary for summary in stages if summary.study == best["study"])
        head = f"trial {trial.number} of {best['study']}  {stages[-1].metric.column} {of_best.best_text}"
        head += f" after {count_text(best['epochs'], 'epoch')}" if best["epochs"] is not None else ""
        line("best", f"{head}  {params_text(trial)}")
        others = [
            f"{summary.study} {summary.best_text}"
            + (f" after {summary.best_epochs}" if summary.best_epochs is not None else "")
            + called_later_text(summary, stages[place + 1 :])
            for place, summary in enumerate(stages)
            if summary.best is not None and summary.study != best["study"]
        ]
        if others:
            line("others", " · ".join(others))
    line("time", duration_text(document["seconds"]))
    if document["report"] is not None:
        line("report", document["report"])
    if document["use"] is not None:
        line("use", document["use"])
    print_advice(replace(advice, reason=""))  # why it stopped stands above
