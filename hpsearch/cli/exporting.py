"""export: a study's trials as CSV or JSON, or with --to as the runs of another program."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hpsearch.cli.grouped_options import with_groups
from hpsearch.cli.opening import gather_latest, open_storage
from hpsearch.cli.option_groups import Output, Storage
from hpsearch.cli.options import StudyArgument
from hpsearch.errors import ConfigError, RefusedError, Typed
from hpsearch.wording import count_text

if TYPE_CHECKING:
    from hpsearch.analysis.study_trials import StudyTrials
    from hpsearch.analysis.trackers.runs import Exported


class Tracker(StrEnum):
    """To whom `export` hands runs."""

    mlflow = "mlflow"
    tensorboard = "tensorboard"
    csv = "csv"


class ExportFormat(StrEnum):
    """What `export` writes."""

    csv = "csv"
    json = "json"


@with_groups
def export(
    storage: Storage,
    output: Output,
    study: StudyArgument = None,
    form: Annotated[
        ExportFormat | None,
        typer.Option("--format", "-f", help="csv: a row per trial; json: all there is. [default: csv]"),
    ] = None,
    to: Annotated[
        Tracker | None,
        typer.Option("--to", help="As runs of another program; csv: two tables, as Weights & Biases has them."),
    ] = None,
    file: Annotated[
        str | None,
        typer.Option("--output", "-o", help="Where to; stdout if not given. --to: a folder, or a tracking URI."),
    ] = None,
) -> None:
    """Write all trials of a study as CSV or JSON, or hand them to another program as runs.

    --to mlflow makes an experiment of the study, in a folder, at a tracking URI, or where MLFLOW_TRACKING_URI says;
    --to tensorboard writes scalars and the HParams table, --to csv runs.csv and history.csv. Run again, it replaces
    what has changed.

    Example: `hpsearch export coarse -f csv -o coarse.csv` or `hpsearch export coarse --to tensorboard -o runs`
    """
    if to is not None:
        if form is not None:
            raise ConfigError(f"--format {form} says what is printed, --to {to} who reads it.\nAllowed: one of them.")
        _export_to(to, storage.storage, study, file, output)
        return

    from hpsearch.analysis.export import study_as_csv, study_as_dict
    from hpsearch.results import plain
    from hpsearch.storage import read_epochs

    evidence = gather_latest(open_storage(storage.storage), study)
    if output.as_json or form is ExportFormat.json:
        epochs = read_epochs(open_storage(storage.storage), evidence.study)
        text = json.dumps(plain(study_as_dict(evidence, epochs))) + "\n"
    else:
        text = study_as_csv(evidence)
    if file is None:
        typer.echo(text, nl=False)
        return
    try:
        Path(file).write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise ConfigError(f"--output {file} cannot be written: {error.strerror}.") from None
    if not output.quiet:
        typer.echo(f"{count_text(len(evidence.trials), 'trial')} of {evidence.study.name!r} in {file}", err=True)


def _export_to(tracker: str, storage: str | None, study: str | None, place: str | None, output: Output) -> None:
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
    from hpsearch.analysis.trial_records import trial_record

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
