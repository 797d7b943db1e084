"""Options that several commands share: each stands once, and each command that takes a group takes all of it."""

import dataclasses
import re

import pytest
import typer
from typer.main import get_command
from typer.testing import CliRunner

from hpsearch.cli.app import app
from hpsearch.cli.budget_options import Budget
from hpsearch.cli.grouped_options import OptionGroup, with_groups
from hpsearch.cli.option_groups import Output, Searched, Storage, Training

ANSI = re.compile(r"\x1b\[[0-9;]*m")


def options(command):
    """By their names on the command line."""
    found = get_command(app)
    for name in command.split():
        found = found.commands[name]
    return {name: option for option in found.params for name in option.opts if name.startswith("--")}


def flags_of(group):
    """What a group adds to a command line."""
    one = typer.Typer()

    @one.command()
    @with_groups
    def command(group: group) -> None:
        pass

    return {name for option in get_command(one).params for name in option.opts if name.startswith("--")} - {
        "--install-completion",
        "--show-completion",
    }


@pytest.mark.parametrize(
    ("command", "groups"),
    [
        ("coarse", [Output, Searched, Budget, Training]),
        ("fine", [Output, Searched, Budget, Training]),
        ("run", [Output, Searched, Training]),
        ("compare", [Output, Searched, Training]),
        ("check", [Output, Searched, Storage]),
        ("best", [Output, Storage]),
        ("worker", [Output, Storage]),
    ],
)
def test_a_command_takes_whole_groups(command, groups):
    for group in groups:
        assert flags_of(group) <= options(command).keys(), group


@pytest.mark.parametrize("command", ["coarse", "fine", "run", "compare"])
def test_options_stand_in_the_panels_of_their_groups(command):
    found = options(command)
    for name, panel in (("--data", Searched.PANEL), ("--workers", Training.PANEL), ("--json", Output.PANEL)):
        assert found[name].rich_help_panel == panel


def test_a_group_becomes_what_was_given_for_it():
    given = []
    one = typer.Typer()

    @one.command()
    @with_groups
    def command(name: str, budget: Budget, storage: Storage, own: int = 3) -> None:
        """A command."""
        given.append((name, budget, storage, own))

    runner = CliRunner()
    assert runner.invoke(one, ["x", "--epochs", "5", "--storage", "sqlite:///a.db", "--own", "4"]).exit_code == 0
    assert given == [("x", Budget(epochs=5), Storage("sqlite:///a.db"), 4)]
    assert runner.invoke(one, ["x", "--epochs", "0"]).exit_code == 2  # the group's own limits
    assert "A command." in ANSI.sub("", runner.invoke(one, ["--help"]).output)


def test_flags_are_keys_of_the_study_file():
    assert Budget(epochs=5, sampler="tpe").flags("fine") == {
        "fine.epochs": 5,
        "fine.trials": None,
        "fine.sampler": "tpe",
        "fine.pruner": None,
    }
    flags = Searched(seed=3, data="digits").flags("coarse", "fine")
    assert {"coarse.seed": 3, "fine.seed": 3, "train.seed": 3, "data.source": "digits"}.items() <= flags.items()


def test_every_field_of_a_group_is_an_option_with_help():
    groups = [Output, Searched, Budget, Storage, Training]
    for group in groups:
        assert issubclass(group, OptionGroup)
        for field in dataclasses.fields(group):
            assert field.default is None or field.default in (False, 0), field.name
    for command in ("coarse", "run"):
        for name, option in options(command).items():
            assert option.help, name
