"""Two tables, as Weights & Biases exports them: a row for each run, and a row for each value on the way."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hpsearch.analysis.export import safe_cell
from hpsearch.analysis.trackers.runs import Exported, Run
from hpsearch.datasets.atomic import replacing
from hpsearch.errors import ConfigError

RUNS, HISTORY = "runs.csv", "history.csv"


def write_tables(runs: Sequence[Run], folder: Path) -> Exported:
    """Write both, over what is there.

    Raises:
        ConfigError: the folder cannot be written.
    """
    there = (folder / RUNS).exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / RUNS, run_rows(runs))
        _write(folder / HISTORY, history_rows(runs))
    except OSError as error:
        raise ConfigError(f"--output {folder} cannot be written: {error.strerror or error}.") from None
    return Exported(str(folder), new=0 if there else len(runs), replaced=len(runs) if there else 0)


def run_rows(runs: Sequence[Run]) -> list[list[Any]]:
    """A header and a row for each run: Name, State, Created, Runtime in seconds, config.*, summary.*."""
    params = list(dict.fromkeys(name for run in runs for name in run.params))
    summary = list(dict.fromkeys(name for run in runs for name in run.summary))
    head = ["Name", "State", "Created", "Runtime"]
    rows: list[list[Any]] = [[*head, *(f"config.{name}" for name in params), *(f"summary.{name}" for name in summary)]]
    for run in runs:
        created = run.started.isoformat() if run.started else None
        values = [*(run.params.get(name) for name in params), *(run.summary.get(name) for name in summary)]
        rows.append([run.name, run.state, created, run.seconds, *values])
    return rows


def history_rows(runs: Iterable[Run]) -> list[list[Any]]:
    """A header and a row for each value: Name, Epoch, Metric, Value."""
    rows: list[list[Any]] = [["Name", "Epoch", "Metric", "Value"]]
    for run in runs:
        rows += [[run.name, epoch, name, value] for epoch, point in run.history for name, value in point.items()]
    return rows


def _write(path: Path, rows: Iterable[Iterable[Any]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([map(_cell, row) for row in rows])
    with replacing(path) as file:
        file.write(text.getvalue().encode())


def _cell(value: Any) -> str:
    """Floats with all their digits; nan and inf as pandas reads them; nothing for what is not there."""
    if value is None:
        return ""
    return safe_cell(value) if isinstance(value, str) else repr(value)
