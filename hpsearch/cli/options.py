"""What options turn into: settings, and how much is said."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from hpsearch.config import Settings, load_settings
from hpsearch.config.ranges import parse_value
from hpsearch.config.usercode import trust
from hpsearch.errors import ConfigError
from hpsearch.logs import verbosity

StudyArgument = Annotated[str | None, typer.Argument(metavar="[STUDY]", help="The latest one, if not given.")]

TrustOption = Annotated[
    list[str] | None,
    typer.Option(metavar="MODULE", help="Allow code that the database names: mynets, or mynets:small. Repeatable."),
]

ViewsOption = Annotated[
    str | None,
    typer.Option(metavar="VIEWS", help="Average over views of an image: flip, or ten-crop."),
]


def assignments(text: str) -> dict[str, Any]:
    """`lr=0.1,reg=1e-3` as values by name; a list, as [50, 20], may stand among them.

    Raises:
        ConfigError: a part has no name, or no value.
    """
    found: dict[str, Any] = {}
    for part in re.split(r",(?![^\[]*\])", text):
        name, sign, value = part.partition("=")
        if not (name.strip() and sign and value.strip()):
            raise ConfigError(f"--enqueue {text} has no value to try.\nAllowed: --enqueue lr=0.1,reg=1e-3.")
        found[name.strip()] = parse_value(value)
    return found


def storage_flag(url: str) -> str | None:
    """The URL of a storage, without its password, where a command that does not name it would look elsewhere."""
    if url == read_settings().run.storage:
        return None
    from sqlalchemy import make_url

    return make_url(url).set(password=None).render_as_string()


def storage_option(storage: str | None, config: str | None = None) -> dict[str, str]:
    """The option, where a command without it would look elsewhere; none where nobody can say, as of a wrong URL."""
    from sqlalchemy.exc import ArgumentError

    if config == "-":  # read already
        return {}
    with contextlib.suppress(ConfigError, ArgumentError):
        flag = storage_flag(read_settings(config, storage=storage).run.storage)
        return {"--storage": flag} if flag is not None else {}
    return {}


def read_settings(
    config: str | None = None,
    sets: Sequence[str] | None = None,
    spaces: Sequence[str] | None = None,
    *,
    storage: str | None = None,
    stored: Mapping[str, Any] | None = None,
    flags: Mapping[str, Any] | None = None,
    trusted: Sequence[str] | None = None,
    searches: bool = True,
) -> Settings:
    """Defaults, study file, environment and flags as one config; `trusted` code may be named by `stored`.

    What was given and does nothing is noted on stderr, where the command is about a search: it has flags for one then.
    `searches` is said in `load_settings`.
    """
    trust(*(trusted or ()))
    settings = load_settings(
        config,
        stored=stored,
        environment={name: value for name, value in os.environ.items() if name.startswith("HPSEARCH_")},
        sets=sets or (),
        spaces=spaces or (),
        flags={"run.storage": storage, **(flags or {})},
        searches=searches,
    )
    if verbosity() >= 0 and not all(path.startswith("run.") for path in flags or ()):
        for note in settings.notes:
            typer.echo(f"note: {note}", err=True)
    return settings
