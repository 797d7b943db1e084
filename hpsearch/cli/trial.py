"""trial: one trial as someone looks at it who babysits the training. Imports no torch."""

from __future__ import annotations

import json
import sys
import textwrap
from typing import TYPE_CHECKING, Annotated

import typer

from hpsearch.cli.grouped_options import with_groups
from hpsearch.cli.opening import open_storage
from hpsearch.cli.option_groups import Output, Storage
from hpsearch.cli.options import read_settings
from hpsearch.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hpsearch.analysis.diagnosis import Diagnosis
    from hpsearch.analysis.repeats import Repeated
    from hpsearch.analysis.study_trials import StudyTrials
    from hpsearch.config.metric import Metric
    from hpsearch.results import EpochResult
    from hpsearch.storage import Database, TrialRow

SHORT = 12  # epochs; a longer table needs --table
WIDTH = 80  # columns where there is no terminal
WIDEST = 110  # columns; curves stretched further are no easier to read
COLUMNS = ("epoch", "cost", "train_loss", "val_loss", "train_acc", "val_acc", "update_ratio", "lr")
VERDICT_STYLES = {
    "exploded": "bold red",
    "dead": "red",
    "lr too high": "red",
    "lr too low": "yellow",
    "overfitting": "yellow",
    "underfitting": "yellow",
    "healthy": "green",
}


@with_groups
def trial(
    study: Annotated[str, typer.Argument(metavar="STUDY")],
    storage: Storage,
    output: Output,
    number: Annotated[
        int | None, typer.Argument(metavar="N", min=0, help="Its number; without it, the best one.")
    ] = None,
    table: Annotated[
        bool | None, typer.Option("--table/--no-table", help="The epochs as a table; not given: when they are few.")
    ] = None,
) -> None:
    """Show one trial: hyperparameters, how it ended, what its curves say and what to try next, the curves.

    Example: `hpsearch trial coarse` or `hpsearch trial coarse 61 --table`
    """

    from hpsearch.analysis.diagnosis import diagnose_study, with_dead_units
    from hpsearch.analysis.layer_updates import judge_updates, updates_line
    from hpsearch.analysis.stopped_trials import stopped_trials
    from hpsearch.analysis.study_trials import read_study
    from hpsearch.analysis.summary import trial_as_dict
    from hpsearch.cli.output import line
    from hpsearch.results import plain
    from hpsearch.storage import read_epochs
    from hpsearch.worker.best_weights import read_silent_units, read_update_ratios

    db = open_storage(storage.storage)
    evidence = read_study(db, study)
    if number is None:
        if evidence.best is None:
            found = stopped_trials(evidence)
            stopped = f"; of those stopped at a rung, {found.number} is the best" if found is not None else ""
            raise ConfigError(
                f"{study!r} has no best trial yet: none has finished.\n"
                f"Give the number of one: 0 ... {len(evidence.trials) - 1}{stopped}."
            )
        number = evidence.best.number
    row = next((row for row in evidence.trials if row.number == number), None)
    if row is None:
        raise ConfigError(f"{study!r} has no trial {number}.\nAllowed: 0 ... {len(evidence.trials) - 1}.")
    epochs = read_epochs(db, evidence.study, [number])
    diagnosis = diagnose_study(evidence.study, evidence.trials, epochs).get(number)
    if diagnosis is not None:
        diagnosis = with_dead_units(diagnosis, read_silent_units(evidence.study, row))
    own = epochs.get(number, [])
    layers = judge_updates(read_update_ratios(evidence.study, row), [epoch.lr for epoch in own])
    printed = _output_file(db, evidence, number)
    if output.as_json:
        called = _called_again(evidence, row)
        document = {
            "study": study,
            "metric": evidence.metric.name,
            **trial_as_dict(row),
            "repeated": called.as_dict() if called is not None else None,
            "measures": evidence.measures_of(row),
            "output": printed,
            "epochs": [epoch.as_point() for epoch in own],
            "layer_updates": [layer.as_dict() for layer in layers],
            "diagnosis": diagnosis.as_dict() if diagnosis else None,
        }
        typer.echo(json.dumps(plain(document)))
        return
    _print_facts(evidence, row)
    if printed is not None:
        line("output", printed)
    if not evidence.metric.is_own:
        print_diagnosis(diagnosis, row, trained_here=evidence.record.trained_here)
    if layers:
        line("updates", updates_line(layers))
    _print_curves(row, own, evidence)
    if table or (table is None and len(own or row.intermediate) <= SHORT):
        _print_table(row, own, evidence)


def _output_file(db: Database, evidence: StudyTrials, number: int) -> str | None:
    """What the code of a trial printed, a file, where this machine has it."""
    if not evidence.metric.is_own:
        return None
    from hpsearch.worker.trial_folders import OUTPUT, folder_of_stage

    stage = folder_of_stage(read_settings().run.artifact_dir, db, evidence.study, evidence.record.fingerprint)
    file = stage / str(number) / OUTPUT
    return str(file) if file.is_file() else None


def _print_facts(evidence: StudyTrials, row: TrialRow) -> None:
    from hpsearch.analysis import attributes
    from hpsearch.analysis.called_again import repeats_trial
    from hpsearch.analysis.folds import folds_text
    from hpsearch.analysis.missed_rungs import missed_rungs_of
    from hpsearch.analysis.origins import origin_of
    from hpsearch.analysis.repeats import repeated_text
    from hpsearch.analysis.study_trials import params_text
    from hpsearch.analysis.trial_records import trial_record
    from hpsearch.cli.output import line, stop_text
    from hpsearch.config.metric import measures_text
    from hpsearch.storage import RUNG, STRUCTURE, is_paused
    from hpsearch.wording import value_text

    record, said, step = trial_record(row), {RUNG, STRUCTURE, attributes.PROPOSED}, evidence.record.step_name
    ending: str = row.state
    if is_paused(row.state, row.attrs):
        ending += f", waits after {step} {max(row.intermediate, default=0)} to be promoted"
    if record.reason is not None:
        ending += f", {stop_text(record.reason) if row.state == 'COMPLETE' else record.reason}"
        if record.epoch is not None:
            ending += f" in {step} {record.epoch}"
            said.add(attributes.EPOCH)
        said.add(attributes.REASON)
    if record.cost is not None and record.first_cost is not None:
        cost = evidence.metric.column if evidence.metric.is_own else "cost"
        first = f", first {record.first_cost:.4g}" if record.returned is None else ""
        ending += f": {cost} {record.cost:.4g}{first}"
        said |= {attributes.COST, attributes.FIRST_COST}
    line("trial", f"{row.number} of {evidence.study.name}: {ending}")
    value = value_text(row.value)
    if evidence.metric.is_own:
        value += _reported_text(row, record.best_epoch, step)
        said |= {attributes.BEST_EPOCH, attributes.LAST_VALUE, attributes.LAST_SCORE}
    elif record.best_epoch is not None:
        value += f" at {step} {record.best_epoch}"
        said.add(attributes.BEST_EPOCH)
    if record.last_value is not None and not evidence.metric.is_own:
        value += f", {value_text(record.last_value)} at the end"
        said |= {attributes.LAST_VALUE, attributes.LAST_SCORE}
    if record.plain_value is not None:
        value += f", {value_text(record.plain_value)} without averaging"
        said.add(attributes.PLAIN_VALUE)
    line(evidence.metric.column, value)
    if (called := _called_again(evidence, row)) is not None:
        line("again", repeated_text(called, evidence.metric))
    if record.best_acc is not None:
        line("val_acc", f"{value_text(record.best_acc)} at the same epoch")
        said.add(attributes.BEST_ACC)
    if measures := evidence.measures_of(row):
        line("measures", measures_text(measures))
        said.add(attributes.MEASURES)
    if spread := folds_text(row):
        line("folds", spread)
        said.add(attributes.FOLDS)
    line("params", params_text(row))
    if (missed := missed_rungs_of(evidence)) is not None:
        line("rungs", missed, "red")
    if (origin := origin_of(row.attrs)) is not None:
        line("origin", str(origin))
        said.add(attributes.CONTINUED)
    if (of := repeats_trial(row)) is not None:
        line("again", f"it calls trial {of} again")
        said.add(attributes.AGAIN)
    for name, other in sorted(row.attrs.items()):
        if name not in said and "hpsearch" not in name:
            line(name, str(other))


def _called_again(evidence: StudyTrials, row: TrialRow) -> Repeated | None:
    """What the trial gave when it was called again, or trained with other seeds."""
    return next((each for each in evidence.repeated if each.number == row.number), None)


def _reported_text(row: TrialRow, best: int | None, step: str) -> str:
    """Where an objective that returns one number, and reports others, reported its best."""
    from hpsearch.wording import value_text

    if best is None or best not in row.intermediate:
        return ""
    reported = row.intermediate[best]
    if reported == row.value:
        return f" at {step} {best}"
    return f" returned; the best that it reported is {value_text(reported)}, at {step} {best}"


def print_diagnosis(diagnosis: Diagnosis | None, row: TrialRow, *, trained_here: bool) -> None:
    """The verdict on a trial, what to try next, and what else is worth a look."""
    from hpsearch.cli.output import LABEL, line

    if diagnosis is None:
        if not trained_here:
            line("verdict", "none: hpsearch did not train it, so there are no losses to judge by")
        return
    so_far = " so far" if row.state == "RUNNING" else ""
    line("verdict", f"{diagnosis.said}{so_far}", VERDICT_STYLES[diagnosis.verdict])
    for label, text in (("advice", diagnosis.advice), *(("note", note) for note in diagnosis.notes)):
        room = text_width() - LABEL if sys.stdout.isatty() else len(text) + 1  # in a pipe, a line stays a line
        for part in textwrap.wrap(text, room):
            line(label, part)
            label = ""


def text_width() -> int:
    """Columns for curves and running text."""
    from hpsearch.cli.output import console

    return min(console().width, WIDEST) if sys.stdout.isatty() else WIDTH


def _print_curves(row: TrialRow, epochs: Sequence[EpochResult], evidence: StudyTrials) -> None:
    from hpsearch.cli.curves import chart
    from hpsearch.cli.output import console

    here, width, metric = console(), text_width(), evidence.metric

    def curve(name: str) -> list[tuple[float, float]]:
        return [(epoch.epoch, getattr(epoch, name)) for epoch in epochs]

    if epochs:
        losses = {"cost": curve("cost"), "train": curve("train_loss"), "val": curve("val_loss")}
        here.print(chart("loss", losses, width))
        here.print(chart("accuracy", {"train": curve("train_acc"), "val": curve("val_acc")}, width))
        if metric.is_apart:
            here.print(chart(metric.label.removeprefix("validation "), {"val": curve("val_score")}, width))
    elif row.intermediate:
        steps = [(float(step), value) for step, value in sorted(row.intermediate.items())]
        here.print(chart(_own_name(metric), {_own_name(metric): steps}, width, unit=evidence.record.step_name))


def _own_name(metric: Metric) -> str:
    """Of what is known of a trial beside its value, if it is not ours."""
    return metric.column if metric.is_own else "value"


def _print_table(row: TrialRow, epochs: Sequence[EpochResult], evidence: StudyTrials) -> None:
    from hpsearch.cli.output import show_table
    from hpsearch.wording import value_text

    metric = evidence.metric
    if epochs:
        cells = (
            (
                epoch.epoch,
                *(f"{getattr(epoch, name):.4g}" for name in COLUMNS[1:4]),
                *(f"{getattr(epoch, name):.4f}" for name in COLUMNS[4:6]),
                *([value_text(epoch.val_score)] * metric.is_apart),
                *(f"{getattr(epoch, name):.2e}" for name in COLUMNS[6:]),
            )
            for epoch in epochs
        )
        columns = (*COLUMNS[:6], *([metric.column] * metric.is_apart), *COLUMNS[6:])
        show_table(columns, cells, right=frozenset(columns))
    elif row.intermediate:
        rows = ((step, value_text(value)) for step, value in sorted(row.intermediate.items()))
        show_table((evidence.record.step_name, _own_name(metric)), rows)
