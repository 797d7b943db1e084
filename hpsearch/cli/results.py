"""status, best, boundary, trial, export: what studies say, whoever made them. None of them imports torch."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hpsearch.cli.options import (
    JsonOption,
    QuietOption,
    StorageOption,
    StudyArgument,
    VerboseOption,
    read_settings,
    set_verbosity,
)
from hpsearch.errors import ConfigError

if TYPE_CHECKING:
    from hpsearch.search.evidence import Evidence
    from hpsearch.storage import Database


class BestFormat(StrEnum):
    """What `best` prints."""

    table = "table"
    json = "json"
    toml = "toml"


class ExportFormat(StrEnum):
    """What `export` writes."""

    csv = "csv"
    json = "json"


def _open(storage: str | None) -> Database:
    from hpsearch.storage import open_database

    return open_database(read_settings(storage=storage).run.storage)


def _gather(storage: str | None, study: str | None) -> Evidence:
    from hpsearch.search.evidence import gather
    from hpsearch.storage import list_studies

    db = _open(storage)
    if study is None:
        studies = list_studies(db)
        if not studies:
            raise ConfigError(f"there are no studies in {db.url} yet.\nStart with: hpsearch coarse")
        study = studies[-1].name
    return gather(db, study)


def status(
    study: StudyArgument = None,
    storage: StorageOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Say how the studies stand; with a name, that one in full.

    Example: `hpsearch status` or `hpsearch status coarse --json`
    """
    set_verbosity(verbose, quiet)

    from hpsearch.cli.output import print_stage, show_table, value_text
    from hpsearch.search import attributes
    from hpsearch.search.summary import stage_summary
    from hpsearch.storage import read_overview

    if study is not None:
        summary = stage_summary(_gather(storage, study))
        if as_json:
            typer.echo(json.dumps(summary.as_dict()))
        else:
            print_stage(summary, quiet=quiet)
        return
    rows: list[dict[str, Any]] = []
    for row in read_overview(_open(storage)):
        attrs, total = row.study.attrs, sum(row.counts.values())
        rows.append(
            {
                "study": row.study.name,
                "stage": attrs.get(attributes.STAGE),
                "from": (attrs.get(attributes.PROVENANCE) or {}).get("from"),
                "trials": total,
                "finished": total - row.counts.get("WAITING", 0) - row.counts.get("RUNNING", 0),
                "running": row.counts.get("RUNNING", 0),
                "pruned": row.counts.get("PRUNED", 0),
                "failed": row.counts.get("FAIL", 0),
                "best": row.best,
            }
        )
    if as_json:
        typer.echo(json.dumps(rows))
        return
    columns = ("study", "stage", "from", "trials", "finished", "running", "pruned", "failed", "best")
    cells = (
        (*(row[name] if row[name] is not None else "-" for name in columns[:-1]), value_text(row["best"]))
        for row in rows
    )
    show_table(columns, cells, right=frozenset(columns[3:]))


def best(
    study: StudyArgument = None,
    output: Annotated[BestFormat, typer.Option("--format", "-f", help="table, json, or toml: a study file.")] = (
        BestFormat.table
    ),
    storage: StorageOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Show the best trial; as a study file it can be fed back with -c.

    Example: `hpsearch best fine -f toml > best.toml && hpsearch coarse -c best.toml --name again`
    """
    set_verbosity(verbose, quiet)

    from hpsearch.cli.output import line, params_text, value_text
    from hpsearch.search.export import best_study_file
    from hpsearch.search.summary import best_or_refuse, trial_as_dict, value_name

    evidence = _gather(storage, study)
    found = best_or_refuse(evidence)
    if as_json or output is BestFormat.json:
        typer.echo(json.dumps({"study": evidence.study.name, **trial_as_dict(found)}))
    elif output is BestFormat.toml:
        typer.echo(best_study_file(evidence), nl=False)
    else:
        line("study", evidence.study.name)
        line("trial", f"{found.number}")
        line(value_name(evidence), value_text(found.value))
        line("params", params_text(found))


def boundary(
    study: StudyArgument = None,
    storage: StorageOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Say where the best trial lies in each range: a best on the boundary means that the range was wrong.

    Example: `hpsearch boundary fine`
    """
    set_verbosity(verbose, quiet)

    from rich.text import Text

    from hpsearch.cli.output import line, searched_text, show_table
    from hpsearch.search.summary import best_or_refuse, verdicts
    from hpsearch.space import format_range, format_value

    evidence = _gather(storage, study)
    best_or_refuse(evidence)
    found = verdicts(evidence)
    if as_json:
        parameters = [verdict.as_dict() for verdict in found]
        typer.echo(json.dumps({"study": evidence.study.name, "parameters": parameters}))
        return
    rows: list[tuple[Any, ...]] = []
    for verdict in found:
        flagged = "bold red" if verdict.verdict in ("lower", "upper") else ""
        position = f"{verdict.position:.2f}" if verdict.position is not None else "-"
        rows.append(
            (
                verdict.param,
                format_value(verdict.best, verdict.proposed),
                searched_text(verdict),
                position,
                Text(verdict.verdict, style=flagged),
                format_range(verdict.proposed),
            )
        )
    show_table(("param", "best", "range", "position", "verdict", "proposed"), rows)
    for verdict in found:
        line(verdict.param, verdict.reason)


def trial(
    study: Annotated[str, typer.Argument(metavar="STUDY")],
    number: Annotated[int, typer.Argument(metavar="N", min=0)],
    storage: StorageOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Show one trial: hyperparameters, how it ended, its curves epoch by epoch.

    Example: `hpsearch trial coarse 61`
    """
    set_verbosity(verbose, quiet)

    from dataclasses import asdict

    from hpsearch.cli.output import line, params_text, show_table, value_text
    from hpsearch.search.evidence import gather
    from hpsearch.search.summary import trial_as_dict, value_name
    from hpsearch.storage import read_epochs

    db = _open(storage)
    evidence = gather(db, study)
    row = next((row for row in evidence.trials if row.number == number), None)
    if row is None:
        raise ConfigError(f"{study!r} has no trial {number}.\nAllowed: 0 ... {len(evidence.trials) - 1}.")
    epochs = read_epochs(db, evidence.study, [number]).get(number, [])
    if as_json:
        curves = [{key: value for key, value in asdict(epoch).items() if key != "number"} for epoch in epochs]
        typer.echo(json.dumps({"study": study, **trial_as_dict(row), "epochs": _finite(curves)}))
        return
    line("trial", f"{number} of {study}: {row.state}")
    line(value_name(evidence), value_text(row.value))
    line("params", params_text(row))
    for name, value in sorted(row.attrs.items()):
        if name != "structure" and not name.startswith("hpsearch"):
            line(name, str(value))
    if epochs:
        columns = ("epoch", "cost", "train_loss", "val_loss", "train_acc", "val_acc", "update_ratio", "lr")
        cells = (
            (
                epoch.epoch,
                *(f"{getattr(epoch, name):.4g}" for name in columns[1:4]),
                *(f"{getattr(epoch, name):.4f}" for name in columns[4:6]),
                *(f"{getattr(epoch, name):.2e}" for name in columns[6:]),
            )
            for epoch in epochs
        )
        show_table(columns, cells, right=frozenset(columns))
    elif row.intermediate:
        show_table(("step", "value"), ((step, value_text(value)) for step, value in sorted(row.intermediate.items())))


def _finite(value: Any) -> Any:
    """JSON has no nan and inf: as text."""
    if isinstance(value, list):
        return [_finite(item) for item in value]
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, float) and value - value != 0:
        return str(value)
    return value


def export(
    study: StudyArgument = None,
    output: Annotated[
        ExportFormat, typer.Option("--format", "-f", help="csv: a row per trial; json: all there is.")
    ] = (ExportFormat.csv),
    file: Annotated[Path | None, typer.Option("--output", "-o", help="Where to; stdout if not given.")] = None,
    storage: StorageOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Write all trials of a study as CSV or JSON.

    Example: `hpsearch export coarse -f csv -o coarse.csv`
    """
    set_verbosity(verbose, quiet)

    from hpsearch.search.export import study_as_csv, study_as_dict
    from hpsearch.storage import read_epochs

    evidence = _gather(storage, study)
    if as_json or output is ExportFormat.json:
        epochs = read_epochs(_open(storage), evidence.study)
        text = json.dumps(_finite(study_as_dict(evidence, epochs))) + "\n"
    else:
        text = study_as_csv(evidence)
    if file is None:
        typer.echo(text, nl=False)
        return
    try:
        file.write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise ConfigError(f"--output {file} cannot be written: {error.strerror}.") from None
    if not quiet:
        typer.echo(f"{len(evidence.trials)} trials of {evidence.study.name!r} in {file}", err=True)
