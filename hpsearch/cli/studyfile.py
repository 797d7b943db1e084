"""init: a study file with every key, its default and what it means."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hpsearch.cli.grouped_options import with_groups
from hpsearch.cli.option_groups import Output
from hpsearch.errors import ConfigError


@with_groups
def init(
    output: Output,
    file: Annotated[Path, typer.Argument(help="Where to write it.")] = Path("study.toml"),
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Write a study file with every key, commented.

    Example: `hpsearch init my.toml && hpsearch coarse -c my.toml`
    """

    from hpsearch.config.template import commented_study_file

    try:
        with file.open("w" if force else "x", encoding="utf-8") as out:
            out.write(commented_study_file())
    except FileExistsError:
        raise ConfigError(f"{file} is there already.\nReplace it with --force, or give another name.") from None
    except OSError as error:
        raise ConfigError(f"{file} cannot be written: {error.strerror}.") from None
    if not output.quiet:
        typer.echo(f"wrote {file}; search it with: hpsearch coarse -c {file}", err=True)
