"""worker and stop: processes that join a stage, and the end of all of them."""

from __future__ import annotations

import contextlib
from typing import Annotated

import typer

from hpsearch.cli.options import (
    QuietOption,
    StorageOption,
    TrustOption,
    VerboseOption,
    read_settings,
    set_verbosity,
)
from hpsearch.config.usercode import names_in, refuse_untrusted
from hpsearch.errors import RefusedError

StudyName = Annotated[str, typer.Argument(metavar="STUDY")]


def worker(
    study: StudyName,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = None,
    threads: Annotated[int | None, typer.Option(min=0, help="CPU threads; 0 takes all cores.")] = None,
    supervised: Annotated[bool, typer.Option("--supervised", hidden=True)] = False,
    storage: StorageOption = None,
    trust: TrustOption = None,
    quiet: QuietOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Join a stage from this machine and work on it until it is done.

    Data, model and training are those stored with the study; the images must be the same. Where they are code of
    yours, say so with --trust: what only the database names is not imported.

    Example: `hpsearch worker coarse --storage postgresql://me@db/hpsearch --device cuda:0`
    """
    set_verbosity(verbose, quiet)
    flags = {"run.device": device, "run.threads": threads}
    run = read_settings(storage=storage, flags=flags, trusted=trust).run

    from hpsearch.cli.progress import make_listener
    from hpsearch.search.images import load_data
    from hpsearch.search.patience import insist
    from hpsearch.search.stages import is_same_search, stored_plan
    from hpsearch.search.stopping import Stop, Stopped
    from hpsearch.search.supervised import NotesToSupervisor, images_of_supervisor, on_parent_death
    from hpsearch.search.worker import Worker
    from hpsearch.storage import find_study, open_database

    stop = Stop()
    on_tick = on_parent_death(stop) if supervised else None
    if supervised:  # it may be started at any time, so also while the database is away
        to_supervisor = NotesToSupervisor()
        db = insist(lambda: open_database(run.storage), to_supervisor.note, stop)
        row = insist(lambda: find_study(db, study), to_supervisor.note, stop)
    else:
        db = open_database(run.storage)
        row = find_study(db, study)
    plan = stored_plan(row)
    refuse_untrusted(names_in(plan.config.plain()))
    with stop.on_signals():
        data = images_of_supervisor(plan, run) if supervised else load_data(plan.trial_config, run)
        run = run.model_copy(update={"device": str(data.x_train_NCHW.device)})
        if not is_same_search(row, plan, data):
            raise RefusedError(f"{study!r} was begun on other images than {plan.config.data.source} has here.")
        try:
            with make_listener(quiet=quiet, as_json=False) as listener:
                # A supervised worker tells nobody else: its supervisor tells of its trials.
                own = Worker(db, row, plan, data, run, to_supervisor if supervised else listener, stop)
                own.on_tick = on_tick or own.on_tick
                own.run()
        except Stopped as stopped:
            raise typer.Exit(stopped.exit_code) from None


def fork_server() -> None:
    """Start workers for the command that started this, by its requests on standard input."""
    from hpsearch.search.forking import serve

    if (arguments := serve(_import_for_workers)) is not None:  # in a worker
        from hpsearch.cli.app import app

        app(arguments)


def _import_for_workers() -> None:
    import hpsearch.cli.progress
    import hpsearch.search.supervised
    import hpsearch.search.worker

    with contextlib.suppress(ImportError):
        import psycopg  # noqa: F401
    with contextlib.suppress(ImportError):
        import hpsearch.training.compiled_update  # noqa: F401


def stop(
    study: StudyName, storage: StorageOption = None, quiet: QuietOption = False, verbose: VerboseOption = 0
) -> None:
    """Ask all workers of a stage, wherever they are, to stop after their epoch; what is finished is kept.

    Example: `hpsearch stop coarse`
    """
    set_verbosity(verbose, quiet)

    from hpsearch.search import attributes
    from hpsearch.storage import find_study, open_database, write_attrs

    db = open_database(read_settings(storage=storage).run.storage)
    write_attrs(db, find_study(db, study), {attributes.STOP: db.read_now()})
    if not quiet:
        typer.echo(f"asked all workers of {study!r} to stop; the command that started it goes on with it")
