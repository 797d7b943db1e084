"""The reference pages, from the code: `python tests/docs/reference_pages.py` after a change of keys or options."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from typer.main import get_command

from hpsearch.cli.app import app
from hpsearch.config.fields import Section
from hpsearch.config.schema import RunConfig
from hpsearch.config.study import StudyConfig
from hpsearch.config.template import as_toml

FOLDER = Path(__file__).parents[2] / "docs" / "reference"
WRITTEN = "<!-- Written by tests/docs/reference_pages.py from the code: change the help or the docstring there. -->"


def commands_page() -> str:
    """All commands with their options."""
    parts = [WRITTEN, "# Commands", "`hpsearch COMMAND --help` says the same in a terminal."]
    for path, command in _commands(get_command(app)):
        parts += [f"## hpsearch {path}", (command.help or "").strip(), _usage(path, command), _options(command)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _commands(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


def _usage(path: str, command: Any) -> str:
    context = click.Context(command, info_name=f"hpsearch {path}")
    return f"    {' '.join([context.command_path, *command.collect_usage_pieces(context)])}"


def _options(command: Any) -> str:
    rows = []
    for parameter in command.params:
        if not hasattr(parameter, "help") or getattr(parameter, "hidden", False) or parameter.name == "help":
            continue
        names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
        rows.append(f"| {names} | {_cell(parameter.help or '')} |")
    return "\n".join(["| option | |", "|---|---|", *rows]) if rows else ""


def keys_page() -> str:
    """All keys of a study file with their defaults."""
    parts = [WRITTEN, "# Keys of a study file", "`hpsearch init my.toml` writes a file with all of them."]
    config = StudyConfig()
    sections = [(name, getattr(config, name)) for name in ("data", "model", "train", "coarse", "fine")]
    for name, section in (*sections, ("run", RunConfig())):
        parts += list(_tables(name, section))
    return "\n\n".join(parts) + "\n"


def _tables(name: str, section: Section) -> Iterator[str]:
    yield f"## [{name}]"
    yield (type(section).__doc__ or "").splitlines()[0]
    rows, inner = [], []
    for key, field in type(section).model_fields.items():
        value = getattr(section, key)
        if isinstance(value, Section):
            inner.append((f"{name}.{key}", value))
            continue
        default = "" if value is None else as_toml({name: {key: value}}).split(" = ", 1)[1].strip()
        rows.append(f"| `{key}` | {f'`{default}`' if default else 'none'} | {_cell(field.description or '')} |")
    yield "\n".join(["| key | default | |", "|---|---|---|", *rows])
    for each in inner:
        yield from _tables(*each)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


PAGES = {"commands.md": commands_page, "keys.md": keys_page}

if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page())
