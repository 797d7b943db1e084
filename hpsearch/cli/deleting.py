"""delete: the end of a study and of what belongs to it."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from hpsearch.cli.grouped_options import with_groups
from hpsearch.cli.importing import importing
from hpsearch.cli.option_groups import Output, Storage
from hpsearch.cli.options import read_settings
from hpsearch.errors import ConfigError
from hpsearch.wording import count_text

if TYPE_CHECKING:
    from hpsearch.search.deleting import Belongings


@with_groups
def delete(
    study: Annotated[str, typer.Argument(metavar="STUDY")],
    storage: Storage,
    output: Output,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete without a question.")] = False,
) -> None:
    """Delete a study: its trials, their weights, and the folders on this machine that belong to it alone.

    It says what that is, and asks, where there is a terminal; elsewhere it wants --yes. While workers hold trials of
    the study, nothing is deleted. Studies that came from it stay.

    Example: `hpsearch delete coarse`
    """
    run = read_settings(storage=storage.storage).run

    with importing():
        from hpsearch.search.deleting import belongings
        from hpsearch.search.deleting import delete as delete_all
        from hpsearch.storage import open_database

    db = open_database(run.storage)
    owned = belongings(db, run, study)
    if not output.silent:
        _print(owned, db.url)
    if not yes:
        if not sys.stdin.isatty():
            raise ConfigError(f"{study!r} is deleted for good, and there is no terminal to ask.\nAllowed: --yes.")
        typer.confirm("Delete all of this?", abort=True, err=True)
    delete_all(db, owned)
    if output.as_json:
        typer.echo(json.dumps(owned.as_dict()))
    elif not output.quiet:
        typer.echo(f"deleted {study!r}")


def _print(owned: Belongings, url: str) -> None:
    from hpsearch.cli.output import line

    line("study", f"{owned.study.name} of {url}: {count_text(owned.num_trials, 'trial')}")
    for path in owned.weights:
        line("weights", str(path))
    for folder in owned.folders:
        line("folder", str(folder))
    if owned.num_tests:
        line("tests", f"{count_text(owned.num_tests, 'use')} of test images, which are counted no more")
    if owned.later:
        line("stays", f"what came from it: {', '.join(owned.later)}")
