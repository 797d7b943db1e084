"""What `hpsearch test` says of seeds."""

from types import SimpleNamespace

import pytest

from hpsearch.cli.final_test import _seeds_text


@pytest.mark.parametrize(
    ("measured", "std", "text"),
    [
        ([0.5, 0.6, 0.7], 0.1, "3: std 0.1000, from 0.5000 to 0.7000"),
        (
            [0.5, 0.7],
            0.1414,
            "3: std 0.1414, from 0.5000 to 0.7000; 1 exploded, and the values are those of 2 that did",
        ),
        ([0.4], None, "3: 2 exploded, and the values are those of 1 that did not: lower train.lr"),
    ],
)
def test_exploded_seeds_are_named_even_where_a_single_one_was_measured(measured, std, text):
    result = SimpleNamespace(seeds=(0, 1, 2), measured=measured, std=std)
    assert _seeds_text(result).startswith(text)
