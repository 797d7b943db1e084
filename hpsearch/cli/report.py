"""report: everything about a search on one page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from hpsearch.cli.grouped_options import with_groups
from hpsearch.cli.option_groups import Output, Storage
from hpsearch.cli.options import read_settings
from hpsearch.errors import ConfigError


@with_groups
def report(
    storage: Storage,
    output: Output,
    studies: Annotated[
        list[str] | None,
        typer.Argument(metavar="[STUDY]...", help="Any studies; if not given, those of the newest search."),
    ] = None,
    page: Annotated[Path, typer.Option("--output", "-o", help="The page, one file; an older one is replaced.")] = Path(
        "report.html"
    ),
    png: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Also each figure as PNG; needs kaleido.")] = None,
    svg: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Also each figure as SVG; needs kaleido.")] = None,
) -> None:
    """Draw a search: one HTML file that needs no network, with what was found, whether to believe it, what to do next.

    Example: `hpsearch report -o report.html`
    """

    from hpsearch.report.pictures import check_renderer, write_pictures
    from hpsearch.report.search_report import make_report
    from hpsearch.storage import open_database

    wanted = [(folder, kind) for folder, kind in ((png, "png"), (svg, "svg")) if folder is not None]
    if wanted:
        check_renderer(f"--{wanted[0][1]}")
    run = read_settings(storage=storage.storage).run
    made = make_report(open_database(run.storage), studies or (), run)
    size = _write(page, made.html)
    pictures = [path for folder, kind in wanted for path in write_pictures(made, folder, kind)]
    if output.as_json:
        document = {"file": str(page), "bytes": size, "figures": list(made.figures)}
        typer.echo(json.dumps({**document, "pictures": [str(path) for path in pictures]} if wanted else document))
    elif not output.quiet:
        more = f", {len(pictures)} pictures" if pictures else ""
        typer.echo(f"report   {page} ({size / 1e6:.1f} MB, {len(made.figures)} figures{more})")


def _write(path: Path, text: str) -> int:
    """Write the page whole or not at all; its size in bytes.

    Raises:
        ConfigError: it cannot be written there.
    """
    content = text.encode("utf-8", errors="replace")
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        raise ConfigError(f"--output {path} cannot be written: {error.strerror}.") from None
    finally:
        partial.unlink(missing_ok=True)
    return len(content)
