"""Bars that are drawn over and over: which of their states count."""

import re

import pytest

from hpsearch.programs.redrawn import Printed, last_states


def read(line):
    found = re.search(r"(?:e(\d+) )?acc=([0-9.]+)", line)
    return (float(found[2]), int(found[1]) if found[1] else None) if found else None


def pieces(text):
    return [
        Printed(found[1], is_redrawn=found[2] == "\r")
        for found in re.finditer(r"([^\r\n]*)(\r|\n|\Z)", text)
        if found[0]
    ]


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("acc=1\nacc=2\n", [(1, None), (2, None)]),
        ("\r10% acc=1\r90% acc=2\r100% acc=3\n", [(3, None)]),
        ("\r50% acc=1\r100% acc=2\r0% acc=3\r100% acc=4", [(2, None), (4, None)]),  # one bar after the other
        ("\r50% acc=1\r          \r50% acc=2\r      \r", [(1, None), (2, None)]),  # leave=False
        ("\r0%\r10% e1 acc=1\r10% e1 acc=2\r20% e2 acc=3\n", [(2, 1), (3, 2)]),
        ("\r10% acc=1\x1b[A\n\r50% acc=2\x1b[A\n\r100% acc=3\n", [(3, None)]),  # below another bar
        ("\r10%\r100%\nacc=7\n", [(7, None)]),
        ("no value\r\n", []),
    ],
)
def test_the_last_state_of_a_bar_counts(text, values):
    assert list(last_states(pieces(text), read)) == values
