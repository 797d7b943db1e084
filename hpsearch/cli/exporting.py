"""`export --to`: a study's trials as the runs of another program."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from hpsearch.cli.opening import gather_latest, open_storage
from hpsearch.errors import ConfigError, RefusedError, Typed
from hpsearch.wording import count_text

if TYPE_CHECKING:
    from hpsearch.analysis.study_trials import StudyTrials
    from hpsearch.analysis.trackers.runs import Exported
    from hpsearch.cli.option_groups import Output


def export_to(tracker: str, storage: str | None, study: str | None, place: str | None, output: Output) -> None:
    """Hand over, and say what became of it.

    Raises:
        ConfigError: there is no place, or nothing can be written there.
        MissingExtraError: the tracker is not installed.
    """
    from hpsearch.analysis.trackers import csv_tables, mlflow, tensorboard
    from hpsearch.analysis.trackers.runs import runs_of, study_key
    from hpsearch.storage import read_epochs

    if place is None and tracker != "mlflow":
        raise ConfigError(f"--to {tracker} writes several files.\nAllowed: with --output FOLDER.")
    db = open_storage(storage)
    evidence = gather_latest(db, study)
    runs, name = runs_of(evidence, read_epochs(db, evidence.study)), evidence.study.name
    if not runs:
        raise RefusedError(
            f"no trial of {name!r} has begun, so there are no runs.\nLook again: ", Typed(("hpsearch", "status"))
        )
    if tracker == "mlflow":
        done = mlflow.log_runs(runs, name, study_key(evidence, db.url), place, _artifacts(evidence))
    elif tracker == "tensorboard":
        done = tensorboard.write_events(runs, evidence.ranges, evidence.metric.column, name, Path(place or ""))
    else:
        done = csv_tables.write_tables(runs, Path(place or ""))
    waiting = len(evidence.trials) - len(runs)
    if output.as_json:
        typer.echo(json.dumps({"study": name, "to": tracker, **asdict(done), "waiting": waiting}))
    elif not output.quiet:
        typer.echo(_said(done, len(runs), name, waiting), err=True)


def _artifacts(evidence: StudyTrials) -> dict[str, str | Path]:
    """Of the best trial: how to train it again, and its weights where they are kept."""
    from hpsearch.analysis.export import best_study_file
    from hpsearch.analysis.records import trial_record

    best = evidence.best
    if best is None:
        return {}
    found: dict[str, str | Path] = {}
    with contextlib.suppress(ConfigError):  # of another program
        found["best.toml"] = best_study_file(evidence)
    kept, own = evidence.record.weights, trial_record(best).weights
    weights = kept.path if kept is not None and kept.number == best.number else own
    if weights is not None and weights.exists():
        found["weights.safetensors"] = weights
    return found


def _said(done: Exported, num_runs: int, study: str, waiting: int) -> str:
    parts = [f"{done.new} new"] if done.new != num_runs else []
    parts += [f"{done.replaced} replaced"] if done.replaced else []
    parts += [f"{done.unchanged} there already"] if done.unchanged else []
    parts += [f"{count_text(waiting, 'trial')} not begun, left out"] if waiting else []
    return f"{count_text(num_runs, 'run')} of {study!r} in {done.place}" + (f": {', '.join(parts)}" if parts else "")
