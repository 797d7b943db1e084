"""Options that several commands share, and what they turn into."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from hpsearch.config import Settings, load_settings
from hpsearch.config.usercode import trust
from hpsearch.logs import configure_logging

StorageOption = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Database of the studies: sqlite:///FILE or postgresql://user@host/name."),
]
ConfigOption = Annotated[
    str | None,
    typer.Option("--config", "-c", metavar="FILE", help="Study file (TOML); - reads standard input."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any key of the study file: train.batch_size=50. Repeatable."),
]
SpaceOption = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=RANGE", help="A range: 'lr=log(1e-6,1e-3)'; NAME=none takes one out. Repeatable."),
]
SeedOption = Annotated[
    int | None, typer.Option(min=0, help="Draws hyperparameters, initial weights, minibatches and noise.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no notes.")]
VerboseOption = Annotated[
    int, typer.Option("--verbose", "-v", count=True, help="Logs, and tracebacks of errors; twice for everything.")
]
TrustOption = Annotated[
    list[str] | None,
    typer.Option(metavar="MODULE", help="Allow code that the database names: mynets, or mynets:small. Repeatable."),
]
StudyArgument = Annotated[str | None, typer.Argument(metavar="[STUDY]", help="The latest one, if not given.")]

_verbosity = 0
_quiet = False


def set_verbosity(verbose: int, quiet: bool = False) -> None:
    """Apply -v and -q to the logs, and -q to the notes on settings."""
    global _verbosity, _quiet
    _verbosity, _quiet = verbose, quiet
    configure_logging(verbose if not quiet else -1)


def traceback_wanted() -> bool:
    """Whether -v was given."""
    return _verbosity > 0


def read_settings(
    config: str | None = None,
    sets: Sequence[str] | None = None,
    spaces: Sequence[str] | None = None,
    *,
    storage: str | None = None,
    stored: Mapping[str, Any] | None = None,
    flags: Mapping[str, Any] | None = None,
    trusted: Sequence[str] | None = None,
) -> Settings:
    """Defaults, study file, environment and flags as one config; `trusted` code may be named by `stored`.

    What was given and does nothing is noted on stderr, where the command is about a search: it has flags for one then.
    """
    trust(*(trusted or ()))
    settings = load_settings(
        config,
        stored=stored,
        environment={name: value for name, value in os.environ.items() if name.startswith("HPSEARCH_")},
        sets=sets or (),
        spaces=spaces or (),
        flags={"run.storage": storage, **(flags or {})},
    )
    if not _quiet and not all(path.startswith("run.") for path in flags or ()):
        for note in settings.notes:
            typer.echo(f"note: {note}", err=True)
    return settings
