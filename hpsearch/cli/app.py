"""The commands, by family. Nothing heavy is imported before a command needs it."""

from __future__ import annotations

from typing import Annotated

import typer

from hpsearch.cli import (
    checks,
    compare,
    dashboard,
    data,
    deleting,
    ensemble,
    exporting,
    final_test,
    fleet,
    prediction,
    procedure,
    report,
    rerun,
    results,
    stages,
    storage,
    studyfile,
    training,
    trial,
    wrapping,
)
from hpsearch.cli.usage_errors import Commands
from hpsearch.version import __version__

app = typer.Typer(
    name="hpsearch",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Hyperparameter search for PyTorch image classifiers, from coarse to fine.\n\n"
    "Example: `hpsearch coarse --epochs 5 && hpsearch fine --from coarse`",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which one.")
    ] = False,
) -> None:
    """Options before the command."""


app.command()(checks.check)
app.command()(training.train)
app.command()(stages.coarse)
app.command()(stages.fine)
app.command()(wrapping.wrap)
app.command()(procedure.run)
app.command()(compare.compare)
app.command()(results.status)
app.command()(results.best)
app.command()(results.boundary)
app.command()(trial.trial)
app.command()(rerun.rerun)
app.command()(ensemble.ensemble)
app.command("test")(final_test.final_test)
app.command()(prediction.predict)
app.command()(exporting.export)
app.command()(report.report)
app.command()(dashboard.dashboard)
app.add_typer(data.app, name="data")
app.command()(fleet.worker)
app.command()(fleet.stop)
app.command()(deleting.delete)
app.command()(studyfile.init)
app.add_typer(storage.app, name="storage")
