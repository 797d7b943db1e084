"""The command that is proposed next: the one that was typed, with some values changed."""

import shlex

import pytest

from hpsearch.cli.again import command_again, next_name


@pytest.mark.parametrize(
    ("typed", "changes", "proposed"),
    [
        ("train", {"train.lr": 1e-5}, "train --set train.lr=1e-05"),
        ("train --set train.lr=1e-6 -c 'a b.toml'", {"train.lr": 0.1}, "train -c 'a b.toml' --set train.lr=0.1"),
        ("train --set=lr=1 --set train.reg=2", {"train.lr": 0.1}, "train --set train.reg=2 --set train.lr=0.1"),
        ("train --epochs 4 --seeds=3", {"train.epochs": 8}, "train --seeds=3 --epochs 8"),
        (
            "train --name x --json -q -vv --data=digits",
            {"train.reg": 1e-3},
            "train --data=digits --set train.reg=0.001",
        ),
        ("train -cx.toml --dry-run", {"model.hidden": [100]}, "train -cx.toml --set 'model.hidden=[100]'"),
    ],
)
def test_what_said_it_before_is_replaced(typed, changes, proposed):
    assert command_again(shlex.split(typed), "next", changes) == f"hpsearch {proposed} --name next"


def test_names_count_up_to_the_first_free_one():
    assert next_name("train", []) == "train-2"
    assert next_name("train-2", ["train", "train-2", "train-3"]) == "train-4"
    assert next_name("two-layers", ["two-layers"]) == "two-layers-2"
