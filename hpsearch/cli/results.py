"""status, best, boundary: what studies say, whoever made them. None imports torch, unless for weights."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hpsearch.cli.grouped_options import with_groups
from hpsearch.cli.opening import find_latest, gather_latest, open_storage
from hpsearch.cli.option_groups import Output, Storage
from hpsearch.cli.options import StudyArgument, TrustOption, read_settings, storage_flag
from hpsearch.errors import ConfigError, RefusedError, Typed
from hpsearch.wording import value_text

if TYPE_CHECKING:
    from hpsearch.analysis.study_trials import StudyTrials
    from hpsearch.config import RunConfig


class BestFormat(StrEnum):
    """What `best` prints."""

    table = "table"
    json = "json"
    toml = "toml"
    py = "py"


@with_groups
def status(
    storage: Storage,
    output: Output,
    study: StudyArgument = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Follow it until it is done; Ctrl-C leaves.")] = False,
    interval: Annotated[float, typer.Option(min=0.1, help="--watch: seconds between two looks.")] = 1.0,
) -> None:
    """Say how the studies stand; with a name, that one in full.

    --watch follows a study, the latest one without a name: on a terminal as a page that is drawn again at each look,
    elsewhere as one line per look (with --json: one JSON document per line). It ends with the study, exit code 0;
    Ctrl-C ends the watching alone, exit code 130.

    Example: `hpsearch status` or `hpsearch status coarse --watch`
    """

    if watch:
        from hpsearch.analysis.snapshots import Watcher
        from hpsearch.cli.watch import follow

        db = open_storage(storage.storage)
        follow(Watcher(db, find_latest(db, study)), interval, as_json=output.as_json)
        return

    from dataclasses import replace

    from hpsearch.analysis.lineage import advise
    from hpsearch.analysis.study_list import listed_studies
    from hpsearch.analysis.uses_of_test_images import count_uses
    from hpsearch.cli.fleet_status import print_workers
    from hpsearch.cli.output import print_stage, show_table
    from hpsearch.storage import list_studies, read_epochs
    from hpsearch.storage.activity import num_taken_again, read_activity, workers_of

    if study is not None:
        from hpsearch.stages.next_ranges import planned_summary

        db = open_storage(storage.storage)
        evidence = gather_latest(db, study)
        summary = replace(
            planned_summary(evidence, epochs=read_epochs(db, evidence.study)),
            uses=count_uses([evidence.study], list_studies(db)),
        )
        activity = read_activity(db, evidence.study)
        workers, again = workers_of(activity), num_taken_again(activity)
        advice = advise(db, evidence).at(storage_flag(read_settings(storage=storage.storage).run.storage))
        if output.as_json:
            fleet = {"workers": [worker.as_dict() for worker in workers], "taken_again": again}
            typer.echo(json.dumps({**summary.as_dict(), **fleet, **advice.as_dict()}))
        else:
            print_stage(summary, None if output.quiet else advice)
            if not output.quiet:
                print_workers(workers, again)
        return
    listed = listed_studies(open_storage(storage.storage))
    if output.as_json:
        typer.echo(json.dumps([each.as_dict() for each in listed]))
        return
    paused = ("paused",) if any(each.paused for each in listed) else ()  # as those with rungs alone are
    numbers = ("trials", "finished", "running", *paused, "pruned", "exploded", "failed")
    columns = ("study", "stage", "from", *numbers)
    rows = [(each.as_dict(), each.value_name) for each in listed]
    cells = (
        (*(row[name] if row[name] is not None else "-" for name in columns), value_text(row["best"]), value_name)
        for row, value_name in rows
    )
    heads = (*("at rungs" if name == "paused" else name for name in columns), "best", "of")
    show_table(heads, cells, right=frozenset(heads[3:-1]))


@with_groups
def best(
    storage: Storage,
    output: Output,
    study: StudyArgument = None,
    form: Annotated[
        BestFormat, typer.Option("--format", "-f", help="table, json, toml: a study file; py: a script.")
    ] = (BestFormat.table),
    weights: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write its net there, for use without hpsearch.")
    ] = None,
    onnx: Annotated[bool, typer.Option("--onnx", help="--weights: model.onnx, too.")] = False,
    force: Annotated[bool, typer.Option("--force", help="--weights: replace files that are there.")] = False,
    trust: TrustOption = None,
) -> None:
    """Show the best trial; as a study file it can be fed back with -c.

    --weights writes three files: weights.safetensors; model.toml with classes, images, normalization, net and where it
    comes from; predict.py, a plain PyTorch script that classifies images with both. A net of MODULE:FUNCTION is
    imported there from your code, all others are spelt out.

    -f py writes a plain PyTorch script that trains it without hpsearch: the same images, validation images, net and
    values, by torch, torchvision and numpy alone. It reads the images, to see which they are.

    --onnx adds model.onnx, from pixels 0 ... 255 of images of the right size to probabilities: input images, any number
    of them as B,C,H,W; output probabilities; the classes and model.toml are in its metadata.

    Example: `hpsearch best fine -f toml > best.toml && hpsearch train -c best.toml` or `hpsearch best --weights net`
    """

    from hpsearch.analysis.best_trial import best_or_refuse
    from hpsearch.analysis.export import best_study_file
    from hpsearch.analysis.folds import folds_text
    from hpsearch.analysis.gain import ahead_once_text
    from hpsearch.analysis.origins import origin_of
    from hpsearch.analysis.repeats import chosen_text, repeated_text
    from hpsearch.analysis.study_trials import params_text
    from hpsearch.analysis.summary import trial_as_dict
    from hpsearch.cli.output import line
    from hpsearch.config.metric import measures_text

    evidence = gather_latest(open_storage(storage.storage), study)
    found = best_or_refuse(evidence)
    if onnx and weights is None:
        raise ConfigError("--onnx says what is written to a folder.\nAllowed: with --weights FOLDER.")
    files: list[Path] = []
    if weights is not None:
        run = read_settings(storage=storage.storage, trusted=trust).run
        files = _write_weights(evidence, run, weights, onnx=onnx, force=force)
    if output.as_json or form is BestFormat.json:
        document = {"study": evidence.study.name, "metric": evidence.metric.name, **trial_as_dict(found)}
        if evidence.repeated:
            document["repeated"] = [each.as_dict() for each in evidence.repeated]
        written = {"files": list(map(str, files))} if files else {}
        typer.echo(json.dumps({**document, "measures": evidence.measures_of(found), **written}))
    elif form is BestFormat.toml:
        typer.echo(best_study_file(evidence), nl=False)
    elif form is BestFormat.py:
        from hpsearch.search.training_script import training_script

        run = read_settings(storage=storage.storage, trusted=trust).run
        typer.echo(training_script(evidence, run), nl=False)
    else:
        line("study", evidence.study.name)
        line("trial", f"{found.number}")
        line(evidence.record.value_name, chosen_text(found.value, evidence.repeated))
        for each in evidence.repeated:
            line("again", repeated_text(each, evidence.metric))
        if (ahead := evidence.ahead_once) is not None:
            line("once", ahead_once_text(ahead, evidence.metric))
        if said := folds_text(found):
            line("folds", said)
        line("params", params_text(found))
        if (origin := origin_of(found.attrs)) is not None:
            line("origin", str(origin))
        if measures := evidence.measures_of(found):
            line("measures", measures_text(measures))
    if files and not output.quiet:
        typer.echo(f"weights  in {weights}; without hpsearch: python {files[-1]} IMAGE...", err=True)


def _write_weights(evidence: StudyTrials, run: RunConfig, folder: Path, *, onnx: bool, force: bool) -> list[Path]:
    from hpsearch.search.trained_net import load_net
    from hpsearch.search.weights_folder import refuse_replacing, write_weights

    refuse_replacing(folder, force=force)
    return write_weights(load_net(evidence, run), folder, onnx=onnx)


@with_groups
def boundary(
    storage: Storage,
    output: Output,
    study: StudyArgument = None,
) -> None:
    """Say where the best trial lies in each range: a best on the boundary means that the range was wrong.

    Example: `hpsearch boundary fine`
    """

    from rich.text import Text

    from hpsearch.analysis.best_trial import best_or_refuse
    from hpsearch.analysis.decision import beyond_text, searched_beyond
    from hpsearch.analysis.lineage import read_descendants
    from hpsearch.analysis.summary import stage_summary
    from hpsearch.cli.output import line, searched_text, show_table
    from hpsearch.space import format_range, format_value
    from hpsearch.stages.next_ranges import planned_verdicts

    db = open_storage(storage.storage)
    evidence = gather_latest(db, study)
    best_or_refuse(evidence)
    found = planned_verdicts(evidence)
    if evidence.record.is_training:
        name = evidence.study.name
        raise RefusedError(
            f"{name!r} was trained with given values, so it has no ranges.\nSearch around them: ",
            Typed(("hpsearch", "coarse", "--from", name)),
        )
    on_end = any(verdict.verdict in ("lower", "upper") for verdict in found)
    later = [stage_summary(each) for each in read_descendants(db, evidence)] if on_end else []
    beyond = [searched_beyond(verdict, later) for verdict in found]
    if output.as_json:
        parameters = [
            {**verdict.as_dict(), "searched_beyond": None if other is None else other[0].study}
            for verdict, other in zip(found, beyond, strict=True)
        ]
        typer.echo(json.dumps({"study": evidence.study.name, "metric": evidence.metric.name, "parameters": parameters}))
        return
    rows: list[tuple[Any, ...]] = []
    for verdict in found:
        flagged = "bold red" if verdict.verdict in ("lower", "upper") and not verdict.at_limit else ""
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
    for verdict, other in zip(found, beyond, strict=True):
        line(verdict.param, verdict.reason)
        if other is not None:
            line(verdict.param, beyond_text(*other))
