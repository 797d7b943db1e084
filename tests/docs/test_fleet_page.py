"""The commands of docs/fleet.md have the options that it gives them, and its files are there."""

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from hpsearch.cli.app import app

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "fleet.md").read_text()
COMMANDS = sorted(
    set(re.findall(r"^    (?:docker compose run --rm search |hpsearch )([^#\n]*)", PAGE, re.MULTILINE))
    | set(re.findall(r"`hpsearch ([^`]*)`", PAGE))
)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_and_options_exist(command):
    words = shlex.split(command)
    current = get_command(app)
    while words and hasattr(current, "commands"):
        current = current.commands[words.pop(0)]
    options = {name for parameter in current.params for name in parameter.opts}
    assert {word for word in words if word.startswith("-")} <= options


def test_enough_is_looked_at_and_the_files_are_there():
    assert len(COMMANDS) >= 8
    for path in set(re.findall(r"docker/[\w/.]+\.(?:yaml|sbatch)|docker/Dockerfile", PAGE)):
        assert (ROOT / path).is_file(), path


def test_the_variables_are_those_that_are_read():
    from hpsearch.config.loading import ENVIRONMENT, RESERVED

    for name in set(re.findall(r"HPSEARCH_[A-Z_]*[A-Z]", PAGE)):
        assert name in (*ENVIRONMENT, *RESERVED) or "__" in name, name
