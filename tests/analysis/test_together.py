"""What counts together: in words, and as it is kept."""

import json

import pytest

from hpsearch.analysis.together import Together, found_together, kept_together
from hpsearch.wording import listed_text


def test_two_numbers_and_more_are_named_with_what_it_means_for_their_ranges():
    two, more = Together(("lr", "batch"), "coarse"), Together(("a", "b", "c"), "fine")
    assert str(two) == "lr and batch count together, by the trials of coarse"
    assert two.text.startswith(f"{two}: no range of one alone tells good values from bad, ")
    assert two.text.endswith("lie along a line in the plane of both")
    assert str(more) == "a, b and c count together, by the trials of fine"
    assert more.text.endswith("lie along lines across their ranges")
    assert listed_text(["a"]) == "a"


def test_one_number_counts_with_no_other():
    assert found_together(["lr"], "coarse") is None
    assert found_together([], "coarse") is None
    more = Together(("a", "b", "c"), "fine")
    assert more.among({"a": 1, "c": 2, "d": 3}) == Together(("a", "c"), "fine")
    assert more.among(["b"]) is None


def test_what_is_kept_is_read_back():
    two = Together(("lr", "batch"), "coarse")
    assert kept_together(json.loads(json.dumps(two.as_dict()))) == two


@pytest.mark.parametrize(
    "stored",
    [
        None,
        3,
        [],
        {},
        {"params": ["a", "b"]},
        {"params": ["a"], "study": "x"},
        {"params": ["a", 3], "study": "x"},
        {"params": ["a", "b"], "study": 1},
    ],
    ids=str,
)
def test_what_others_keep_is_not_believed(stored):
    assert kept_together(stored) is None
