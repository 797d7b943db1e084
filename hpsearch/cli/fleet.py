"""worker and stop: processes that join a stage, and the end of all of them."""

from __future__ import annotations

from typing import Annotated

import typer

from hpsearch.cli.grouped_options import with_groups
from hpsearch.cli.importing import importing
from hpsearch.cli.option_groups import Output, Storage
from hpsearch.cli.options import read_settings

StudyName = Annotated[str, typer.Argument(metavar="STUDY")]


@with_groups
def worker(
    study: StudyName,
    storage: Storage,
    output: Output,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = None,
    threads: Annotated[int | None, typer.Option(min=0, help="CPU threads; 0 takes all cores.")] = None,
    trust: Annotated[
        list[str] | None,
        typer.Option(metavar="MODULE", help="Allow code that the database names: mynets, or mynets:small. Repeatable."),
    ] = None,
) -> None:
    """Join a stage from this machine and work on it until it is done.

    Data, model and training are those stored with the study; the images must be the same. Where they are code of
    yours, say so with --trust: what only the database names is not imported.

    Example: `hpsearch worker coarse --storage postgresql://me@db/hpsearch --device cuda:0`
    """
    flags = {"run.device": device, "run.threads": threads}
    run = read_settings(storage=storage.storage, flags=flags, trusted=trust).run

    with importing():
        from hpsearch.cli.progress import make_progress
        from hpsearch.worker.joining import join_stage
        from hpsearch.worker.stopping import Stop, Stopped

    stop = Stop()
    try:
        with stop.on_signals(), make_progress(quiet=output.quiet, as_json=output.as_json) as listener:
            join_stage(study, run, listener, stop)
    except Stopped as stopped:
        raise typer.Exit(stopped.exit_code) from None


@with_groups
def stop(study: StudyName, storage: Storage, output: Output) -> None:
    """Ask all workers of a stage, wherever they are, to stop after their epoch; what is finished is kept.

    Example: `hpsearch stop coarse`
    """
    from hpsearch.analysis import attributes
    from hpsearch.storage import count_states, find_study, open_database, write_attrs

    db = open_database(read_settings(storage=storage.storage).run.storage)
    row = find_study(db, study)
    counts = count_states(db, row)
    said = f"{study!r} is finished, nobody works on it: nothing to stop"
    if counts["WAITING"] + counts["RUNNING"]:
        write_attrs(db, row, {attributes.STOP: db.read_now()})
        said = f"asked all workers of {study!r} to stop; the command that started it goes on with it"
    if not output.quiet:
        typer.echo(said)
