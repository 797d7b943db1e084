"""Wrong options of any command: two lines, the option, its value, what is allowed; no box."""

import pytest
import typer

from hpsearch.cli.app import app
from hpsearch.errors import ConfigError

COMMANDS = typer.main.get_command(app)


@pytest.mark.parametrize(
    ("words", "said", "allowed"),
    [
        ("ensemble coarse --top 0", "--top 0 is not allowed.", "a whole number of at least 1."),
        ("ensemble coarse --top two", "--top two is not allowed.", "a whole number of at least 1."),
        ("coarse --workers 1.5", "--workers 1.5 is not allowed.", "a whole number"),
        ("rerun coarse -- -1", "N -1 is not allowed.", "a whole number of at least 0."),
        ("status --interval 0", "--interval 0 is not allowed.", "a number of at least 0.1."),
        ("best -f yaml", "--format yaml is not allowed.", "table, json, toml, py."),
        ("fine", "--from is missing in hpsearch fine.", "--from STUDY."),
        ("rerun", "STUDY is missing in hpsearch rerun.", "one STUDY."),
        ("coarse --trails 3", "--trails is no option of hpsearch coarse.", "--trials or "),
        ("coarse --xyzzy", "--xyzzy is no option of hpsearch coarse.", "those that hpsearch coarse --help names."),
        ("coarze", "No such command 'coarze'.", "'coarse', 'compare'; what hpsearch --help names."),
        ("data shaw", "No such command 'shaw'.", "'show'; what hpsearch data --help names."),
        ("test a b", "Got unexpected extra argument(s) (b).", "what hpsearch test --help names."),
        ("coarse --name", "--name is given no value.", "--name VALUE."),
        ("run --halving stop", "--halving is no option of hpsearch run.", "--set coarse.halving=VALUE, --set fine.hal"),
        ("coarse --minimize", "--minimize is no option of hpsearch coarse.", "--direction minimize; those that"),
        ("run --maximize", "--maximize is no option of hpsearch run.", "--direction maximize; those that"),
        ("status --minimize", "--minimize is no option of hpsearch status.", "those that hpsearch status --help"),
        ("coarse --min-epochs 3", "--min-epochs is no option of hpsearch coarse.", "--set coarse.min_epochs=VALUE; th"),
        ("fine --from a --momentum 1", "--momentum is no option of hpsearch fine.", "--set train.momentum=VALUE; thos"),
        ("train --layers 3", "--layers is no option of hpsearch train.", "those that hpsearch train --help names."),
        ("status --momentum 3", "--momentum is no option of hpsearch status.", "those that hpsearch status --help"),
        ("run --continue-top 3", "--continue-top is no option of hpsearch run.", "--set fine.continue_top=VALUE; tho"),
    ],
)
def test_an_option_that_is_not_allowed_is_two_lines(words, said, allowed):
    with pytest.raises(ConfigError) as caught:
        COMMANDS.main(words.split(), prog_name="python -m hpsearch", standalone_mode=True)
    first, second = str(caught.value).splitlines()
    assert first == said
    assert second.startswith(f"Allowed: {allowed}")
    assert caught.value.exit_code == 2


def bounded():
    """Each number of each command that has bounds, with a value below or above them."""
    for name, command in COMMANDS.commands.items():
        for parameter in getattr(command, "params", ()):
            low = getattr(parameter, "min", None)
            counts = getattr(parameter, "count", False)  # -vv, which takes no value
            if low is not None and not counts and parameter.param_type_name == "option":
                yield name, max(parameter.opts, key=len), f"{low - 1:g}"


@pytest.mark.parametrize(("command", "option", "value"), [*bounded()])
def test_all_numbers_with_bounds_say_them(command, option, value):
    with pytest.raises(
        ConfigError, match=rf"^{option} {value} is not allowed\.\nAllowed: a .*number (of at least|from) "
    ):
        COMMANDS.main([command, f"{option}={value}"], standalone_mode=True)


def test_there_are_such_numbers():
    assert len(list(bounded())) > 10
