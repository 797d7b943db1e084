"""storage init and upgrade: the tables of a storage, made or brought up to date before anything needs them."""

from __future__ import annotations

import json

import typer

from hpsearch.cli.grouped_options import with_groups
from hpsearch.cli.option_groups import Output, Storage
from hpsearch.cli.options import read_settings

app = typer.Typer(
    no_args_is_help=True,
    help="The database of the studies.\n\nExample: `hpsearch storage init --storage postgresql://me@db/hpsearch`",
)

MADE = {
    "empty": "made the tables in {url}",
    "optuna": "added the tables for leases and epochs to the studies of {url}",
    "ready": "found all tables in {url}; nothing to do",
}


@app.command()
@with_groups
def init(
    storage: Storage,
    output: Output,
) -> None:
    """Make the tables that are missing; any number of these may run at once.

    `coarse` does so by itself; a fleet does it once, before its workers start.

    Example: `hpsearch storage init`
    """

    from hpsearch.storage import init_storage

    url, found = init_storage(read_settings(storage=storage.storage).run.storage)
    if output.as_json:
        typer.echo(json.dumps({"storage": url, "found": found, "made": found != "ready"}))
    elif not output.quiet:
        typer.echo(MADE[found].format(url=url))


@app.command()
@with_groups
def upgrade(
    storage: Storage,
    output: Output,
) -> None:
    """Upgrade the tables that an older Optuna made; all studies stay. Stop other programs that use them first.

    A SQLite file is copied beside itself before; a Postgres upgrade is one transaction.

    Example: `hpsearch storage upgrade --storage sqlite:///optuna.db`
    """

    from hpsearch.storage import upgrade_storage

    done = upgrade_storage(read_settings(storage=storage.storage).run.storage)
    if output.as_json:
        copy = str(done.copy) if done.copy else None
        typer.echo(json.dumps({"storage": done.url, "before": done.before, "after": done.after, "copy": copy}))
    elif output.quiet:
        return
    elif done.before == done.after:
        typer.echo(f"found schema {done.after} in {done.url}; nothing to do")
    else:
        typer.echo(f"upgraded {done.url} from schema {done.before} to {done.after}")
        if done.copy:
            typer.echo(f"as it was: {done.copy}")
